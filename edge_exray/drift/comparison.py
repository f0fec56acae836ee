"""Compares two runs of a tensor on one frame."""

import dataclasses
import math
from types import ModuleType

import numpy as np

from edge_exray.drift.fusion import fusion
from edge_exray.drift.values import Values


@dataclasses.dataclass
class Comparison:
    """Sums over the pairs (reference value r, edge value e) of one frame.

    They run over the pairs in which both values are finite; the others are counted, never dropped unseen.

    Attributes:
        values: Number of pairs.
        finite: Number of pairs in which both values are finite.
        error_sum, error_square_sum: Sums of e - r and of (e - r)^2.
        reference_square_sum, edge_square_sum: Sums of r^2 and e^2.
        max_abs: Largest |e - r|; rounded to float32 where both sides are of float32 or quantised.
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

    Sums are of float64. float32 and quantised values take one compiled pass where numba is installed
    (`edge_exray.drift.fused`); all else, and pairs with NaN or infinite values, takes NumPy's passes over float64. Both
    give the same figures but for the order of the terms of a sum.

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
    is_single = reference.is_single and edge.is_single
    fused = fusion() if is_single else None
    return (fused and _compare_at_once(fused, reference, edge)) or _compare_in_steps(reference, edge, is_single)


def _compare_at_once(fused: ModuleType, reference: Values, edge: Values) -> Comparison | None:
    """Returns the comparison, or None when a value is not finite."""
    r = reference.real().astype(np.float32) if reference.is_quantized else reference.flat()
    found = fused.compare(r, edge.flat(), edge.affine, edge.limits, edge.representable)
    if not math.isfinite(found.reference_square_sum + found.edge_square_sum):
        return None
    return Comparison(
        values=edge.size,
        finite=edge.size,
        error_sum=found.error_sum,
        error_square_sum=found.error_square_sum,
        reference_square_sum=found.reference_square_sum,
        edge_square_sum=found.edge_square_sum,
        max_abs=found.max_abs,
        # Plus zero, because which of 0.0 and -0.0 is the smaller one depends on their order.
        reference_min=found.reference_min + 0.0,
        reference_max=found.reference_max + 0.0,
        edge_min=found.edge_min + 0.0,
        edge_max=found.edge_max + 0.0,
        saturated=found.saturated,
        clipped=found.clipped,
        quantized=edge.size if edge.is_quantized else 0,
    )


def _compare_in_steps(reference: Values, edge: Values, is_single: bool) -> Comparison:
    r, e = reference.real(), edge.real()
    r_finite, e_finite = np.isfinite(r), np.isfinite(e)
    compared = Comparison(
        values=r.size,
        reference_nonfinite=int(r.size - np.count_nonzero(r_finite)),
        edge_nonfinite=int(e.size - np.count_nonzero(e_finite)),
    )
    if edge.is_quantized:
        low, high = edge.representable
        compared.quantized = edge.size
        compared.saturated = sum(int(np.count_nonzero(edge.stored == limit)) for limit in edge.limits)
        compared.clipped = int(np.count_nonzero(r < low)) + int(np.count_nonzero(r > high))
    if compared.reference_nonfinite or compared.edge_nonfinite:
        both = r_finite & e_finite
        r, e = r[both], e[both]
    if not r.size:
        return compared
    error = e - r
    compared.finite = r.size
    compared.error_sum = float(error.sum())
    compared.error_square_sum = float(error @ error)
    compared.reference_square_sum, compared.edge_square_sum = float(r @ r), float(e @ e)
    max_abs = np.abs(error).max()
    compared.max_abs = float(np.float32(max_abs) if is_single else max_abs)
    compared.reference_min, compared.reference_max = float(r.min()) + 0.0, float(r.max()) + 0.0
    compared.edge_min, compared.edge_max = float(e.min()) + 0.0, float(e.max()) + 0.0
    return compared
