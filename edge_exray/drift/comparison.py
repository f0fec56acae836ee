"""Compares two runs of a tensor on one frame."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
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

    def mirrored(self) -> "Comparison":
        """Returns the comparison with the two sides exchanged, of values that are not quantised."""
        return dataclasses.replace(
            self,
            error_sum=-self.error_sum,
            reference_square_sum=self.edge_square_sum,
            edge_square_sum=self.reference_square_sum,
            reference_min=self.edge_min,
            reference_max=self.edge_max,
            edge_min=self.reference_min,
            edge_max=self.reference_max,
            reference_nonfinite=self.edge_nonfinite,
            edge_nonfinite=self.reference_nonfinite,
        )


def compare(reference: Values, edge: Values) -> Comparison:
    """Compares the values of two runs; see `compare_each`."""
    return compare_each(reference, [edge])[0]


def compare_each(reference: Values, edges: Sequence[Values]) -> list[Comparison]:
    """Compares the values of one run with those of each of the others.

    Sums are of float64. float32 and quantised values take one compiled pass where numba is installed
    (`edge_exray.drift.fused`), which reads the reference once for several others; all else, and pairs with NaN or
    infinite values, takes NumPy's passes over float64. Both give the same figures but for the order of the terms of a
    sum.

    Args:
        reference: Values of the reference run.
        edges: Values of the other runs, each as many.

    Raises:
        ValueError: The two sides differ in their number of values.
    """
    for edge in edges:
        if reference.size != edge.size:
            raise ValueError(f"reference has {reference.size} values, edge has {edge.size}")
    if not reference.size:
        return [Comparison() for _ in edges]
    found: dict[int, Comparison | None] = {}
    fused = fusion() if reference.is_single else None
    if fused:
        r = reference.real().astype(np.float32) if reference.is_quantized else reference.flat()
        for group in _groups(edges):
            found.update(zip(group, _compare_at_once(fused, r, [edges[i] for i in group]), strict=True))
    return [
        found.get(i) or _compare_in_steps(reference, edge, reference.is_single and edge.is_single)
        for i, edge in enumerate(edges)
    ]


def _groups(edges: Sequence[Values]) -> Iterator[list[int]]:
    """Yields the indices of runs that one pass can take: up to two quantised ones of one kind, then one of float32."""
    stored = [i for i, edge in enumerate(edges) if edge.is_single and edge.is_quantized]
    single = [i for i, edge in enumerate(edges) if edge.is_single and not edge.is_quantized]
    while stored or single:
        group = [i for i in stored[:2] if edges[i].is_like(edges[stored[0]])]
        yield group + single[:1]
        stored, single = stored[len(group) :], single[1:]


def _compare_at_once(fused: ModuleType, reference: np.ndarray, edges: Sequence[Values]) -> list[Comparison | None]:
    """Returns the comparisons, None for each with a value that is not finite."""
    *stored, last = edges
    single = None if last.is_quantized else last
    stored = stored if single else [*stored, last]
    meaning = (stored or edges)[0]
    about, found = fused.compare(
        reference,
        [edge.flat() for edge in stored],
        single and single.flat(),
        meaning.affine,
        meaning.limits if stored else (0, 0),
        meaning.representable,
    )
    return [
        Comparison(
            values=edge.size,
            finite=edge.size,
            error_sum=run.error_sum,
            error_square_sum=run.error_square_sum,
            reference_square_sum=about.square_sum,
            edge_square_sum=run.square_sum,
            max_abs=run.max_abs,
            # Plus zero, because which of 0.0 and -0.0 is the smaller one depends on their order.
            reference_min=about.min + 0.0,
            reference_max=about.max + 0.0,
            edge_min=run.min + 0.0,
            edge_max=run.max + 0.0,
            saturated=int(run.saturated) if edge.is_quantized else 0,
            clipped=int(about.clipped) if edge.is_quantized else 0,
            quantized=edge.size if edge.is_quantized else 0,
        )
        if math.isfinite(about.square_sum + run.square_sum)
        else None
        for edge, run in zip(edges, found, strict=True)
    ]


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
