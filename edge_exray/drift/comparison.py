"""Compares two runs of a tensor on one frame, in one pass over blocks that stay in the processor's cache."""

import dataclasses
import functools
import math
import threading

import numpy as np

from edge_exray.drift.values import BLOCK, Survey, Values
from edge_exray.models.tensors import Quantization

_ROW = 1 << 12
_ONES = np.ones(_ROW, np.float32)


class _Scratch(threading.local):
    """Memory for one block of each kind, kept because fresh memory costs more than what is done in it."""

    def __init__(self) -> None:
        self.reference, self.error = np.empty((2, BLOCK), np.float32)


_scratch = _Scratch()

# Below it squares vanish in float32.
_SMALLEST = 1e-15


@dataclasses.dataclass
class Comparison:
    """Sums over the pairs (reference value r, edge value e) of one frame.

    They run over the pairs in which both values are finite; the others are counted, never dropped unseen.

    Attributes:
        values: Number of pairs.
        finite: Number of pairs in which both values are finite.
        error_sum, error_square_sum: Sums of e - r and of (e - r)^2.
        reference_square_sum, edge_square_sum: Sums of r^2 and e^2.
        max_abs: Largest |e - r|.
        reference_min, reference_max, edge_min, edge_max: Extremes of the finite values.
        reference_nonfinite, edge_nonfinite: Numbers of NaN and infinite values on each side.
        saturated: Edge values that sit at a limit of their integer dtype.
        clipped: Reference values beyond what the quantised edge tensor can represent, by more than one step.
        quantized: Number of pairs whose edge tensor is quantised, which `saturated` and `clipped` refer to.
    """

    values: int = 0
    finite: int = 0
    error_sum: float = 0.0
    error_square_sum: float = 0.0
    reference_square_sum: float = 0.0
    edge_square_sum: float = 0.0
    max_abs: float = 0.0
    reference_min: float = math.inf
    reference_max: float = -math.inf
    edge_min: float = math.inf
    edge_max: float = -math.inf
    reference_nonfinite: int = 0
    edge_nonfinite: int = 0
    saturated: int = 0
    clipped: int = 0
    quantized: int = 0

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, in the units of the tensor; NaN without a finite pair."""
        return math.sqrt(self.error_square_sum / self.finite) if self.finite else math.nan

    def add_sums(self, other: "Comparison") -> None:
        """Adds the pairs that `other` has seen."""
        self.values += other.values
        self.finite += other.finite
        self.error_sum += other.error_sum
        self.error_square_sum += other.error_square_sum
        self.reference_square_sum += other.reference_square_sum
        self.edge_square_sum += other.edge_square_sum
        self.max_abs = max(self.max_abs, other.max_abs)
        self.reference_min = min(self.reference_min, other.reference_min)
        self.reference_max = max(self.reference_max, other.reference_max)
        self.edge_min = min(self.edge_min, other.edge_min)
        self.edge_max = max(self.edge_max, other.edge_max)
        self.reference_nonfinite += other.reference_nonfinite
        self.edge_nonfinite += other.edge_nonfinite
        self.saturated += other.saturated
        self.clipped += other.clipped
        self.quantized += other.quantized


def compare(reference: Values, edge: Values) -> Comparison:
    """Compares the values of two runs.

    float32 and quantised values are compared in float32, as the models compute: differences are exact to its last
    digit, sums to about 1e-6 of the sum of magnitudes. All else, and what float32 has no room for, is in float64.

    Args:
        reference: Values of the reference run.
        edge: Values of the edge run, as many.

    Raises:
        ValueError: The two sides differ in their number of values.
    """
    if reference.size != edge.size:
        raise ValueError(f"reference has {reference.size} values, edge has {edge.size}")
    if not reference.size:
        return Comparison()
    compared = _compare_blocks(reference, edge) if reference.is_single and edge.is_single else None
    compared = compared or _compare_exactly(reference.real(), edge.real())
    compared.values = reference.size
    if edge.is_quantized:
        compared.quantized = edge.size
        compared.saturated = edge.survey.saturated if edge.survey else _saturated(edge.stored)
        compared.clipped = _clipped(reference, edge, compared)
    return compared


def _compare_blocks(reference: Values, edge: Values) -> Comparison | None:
    """Returns the comparison, or None when float32 has no room for some value."""
    left, right = reference.survey or Survey(), edge.survey or Survey()
    total = square_total = highest = lowest = 0.0
    for start in range(0, reference.size, BLOCK):
        r, e = reference.block(start, _scratch.reference), edge.block(start, _scratch.error)
        if reference.survey is None and not reference.add_to(left, start, r):
            return None
        if edge.survey is None and not edge.add_to(right, start, e):
            return None
        error = np.subtract(e, r, out=_scratch.error[: r.size])
        total += _sum(error)
        square_total += float(np.dot(error, error))
        highest = max(highest, float(np.maximum.reduce(error)))
        lowest = min(lowest, float(np.minimum.reduce(error)))
    reference.survey, edge.survey = left, right
    (reference_min, reference_max), (edge_min, edge_max) = reference.extremes(left), edge.extremes(right)
    max_abs = max(highest, -lowest)
    for magnitude in (max_abs, max(-reference_min, reference_max), max(-edge_min, edge_max)):
        if 0 < magnitude < _SMALLEST:
            return None
    return Comparison(
        finite=reference.size,
        error_sum=total,
        error_square_sum=square_total,
        max_abs=max_abs,
        reference_square_sum=left.square_sum,
        edge_square_sum=right.square_sum,
        reference_min=reference_min,
        reference_max=reference_max,
        edge_min=edge_min,
        edge_max=edge_max,
    )


def _sum(block: np.ndarray) -> float:
    """Returns the sum of a float32 block: rows in float32, then float64; BLAS is twice as fast on rows as on one."""
    head = block.size - block.size % _ROW
    rows = block[:head].reshape(-1, _ROW) @ _ONES
    return float(np.add.reduce(rows, dtype=np.float64)) + float(np.dot(block[head:], _ONES[: block.size - head]))


def _compare_exactly(r: np.ndarray, e: np.ndarray) -> Comparison:
    r_finite, e_finite = np.isfinite(r), np.isfinite(e)
    compared = Comparison(
        reference_nonfinite=int(r.size - np.count_nonzero(r_finite)),
        edge_nonfinite=int(e.size - np.count_nonzero(e_finite)),
    )
    both = r_finite & e_finite
    r, e = r[both], e[both]
    if not r.size:
        return compared
    error = e - r
    compared.finite = r.size
    compared.error_sum = float(error.sum())
    compared.error_square_sum = float(error @ error)
    compared.reference_square_sum, compared.edge_square_sum = float(r @ r), float(e @ e)
    compared.max_abs = float(np.abs(error).max())
    compared.reference_min, compared.reference_max = float(r.min()), float(r.max())
    compared.edge_min, compared.edge_max = float(e.min()), float(e.max())
    return compared


def _saturated(stored: np.ndarray) -> int:
    limits = np.iinfo(stored.dtype)
    return int(np.count_nonzero(stored == limits.min)) + int(np.count_nonzero(stored == limits.max))


def _clipped(reference: Values, edge: Values, compared: Comparison) -> int:
    assert edge.spec is not None
    assert edge.spec.quantization is not None
    low, high = _representable(edge.spec.quantization, edge.stored.dtype)
    if not reference.is_single or compared.reference_nonfinite:
        real = reference.real()
        return int(np.count_nonzero(real < low)) + int(np.count_nonzero(real > high))
    if low <= compared.reference_min and compared.reference_max <= high:
        return 0
    clipped = 0
    for start in range(0, reference.size, BLOCK):
        block = reference.block(start, _scratch.reference)
        clipped += int(np.count_nonzero(block < np.float32(low))) + int(np.count_nonzero(block > np.float32(high)))
    return clipped


@functools.lru_cache(maxsize=1 << 14)
def _representable(quantization: Quantization, dtype: np.dtype) -> tuple[float, float]:
    low, high = quantization.range(dtype)
    # The kernels of SOFTMAX and LOGISTIC fix a range that ends one step below 1.
    slack = max(quantization.scale)
    return low - slack, high + slack
