"""Names what an app does to a model input that training did not.

Second moments over all frames (`edge_exray.drift.channels`) explain a permutation of the channels and an affine map of
each; what they leave is searched in the inputs that were kept of some frames (`search`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_exray.diagnosis.preprocessing import value_ranges
from edge_exray.diagnosis.preprocessing.channel_fit import ChannelFit, fit_moments
from edge_exray.diagnosis.preprocessing.hypothesis import EXPLAINED, OF_DIFFERENCE, Hypothesis, Pair
from edge_exray.diagnosis.preprocessing.images import is_image
from edge_exray.diagnosis.preprocessing.search import search
from edge_exray.drift.channels import ChannelStatistics

# What moments leave below this is the rounding of float32: nothing is hidden in it, and no search is needed.
_FULLY = 1e-7

# Half a step of 8 bits.
_HARMLESS = 0.5 / 255

# Larger differences are no rounding.
_ROUNDED = 4 * _HARMLESS

# What comes closest is told when it leaves less than this share of what channel order, scale and offset leave.
_CLOSE = 0.5

_TINY = "tiny differences, as from rounding"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the edge side does to one input.

    Attributes:
        identical: No value of any frame differs.
        nrmse: Root mean square of the difference over the larger value range; NaN when it is not defined.
        hypothesis: The difference in words; None when there is none.
        code: One line of NumPy that maps the reference input `x` to the edge input; None when nothing explains
            the difference, there is none, or no expression of `x` does it.
        residual: Share of the edge input's variance that the hypothesis leaves unexplained.
        permutation: `edge[..., c]` comes from `reference[..., permutation[c]]`; this and the next where moments explain
            the difference.
        scale, offset: Affine map of each edge channel.
        reference_range, edge_range: Smallest and largest value.
        hypotheses: All that were found, best first; the first one is `hypothesis` where it explains the difference.
        swapped_with: The input that it is swapped with, see `edge_exray.diagnosis.swaps`.
    """

    identical: bool
    nrmse: float
    hypothesis: str | None
    code: str | None
    residual: float | None
    permutation: list[int] | None
    scale: list[float] | None
    offset: list[float] | None
    reference_range: list[float]
    edge_range: list[float]
    hypotheses: list[Hypothesis] = dataclasses.field(default_factory=list, kw_only=True)
    swapped_with: str | None = dataclasses.field(default=None, kw_only=True)

    @property
    def explained(self) -> bool:
        """Whether something explains the difference, in a line of code or in words alone."""
        return self.code is not None or any(h.explains for h in self.hypotheses)

    def to_dict(self) -> dict[str, Any]:
        """Returns an entry of `preprocessing` in `schemas/report.schema.json`, but for its pictures."""
        document = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("nrmse", "swapped_with", "hypotheses")
        }
        document["hypotheses"] = [
            {field: getattr(h, field) for field in ("description", "kinds", "code", "residual", "explains")}
            for h in self.hypotheses
        ]
        return document


def diagnose(statistics: ChannelStatistics, pairs: Sequence[Pair] = ()) -> Diagnosis:
    """Finds what explains the difference of an input best.

    Args:
        statistics: Moments over all frames.
        pairs: The input in some of the frames; without them only the order of the channels, scale and offset are found.
    """
    ranges = [list(map(float, statistics.reference_range)), list(map(float, statistics.edge_range))]
    if not statistics.differing and not statistics.mismatched:
        return Diagnosis(True, 0.0, None, None, 0.0, None, None, None, *ranges)
    if statistics.mismatched or not statistics.count:
        what = "another shape" if statistics.mismatched else "NaN or infinite values"
        return Diagnosis(False, np.nan, f"the edge input has {what}", None, None, None, None, None, *ranges)
    square_error = _square_error(statistics)
    nrmse = _nrmse(square_error, ranges)
    fit = _fit(statistics)
    if ranges[1][0] == ranges[1][1]:
        words = f"the edge input is always {ranges[1][0]:g}"
        return Diagnosis(False, nrmse, words, None, fit.residual, None, None, None, *ranges)
    variance = float(np.mean(np.diag(statistics.edge_products) / statistics.count - _mean(statistics) ** 2))
    simple = _of_moments(fit, ranges[0], square_error / variance if variance > 0 else np.inf)
    image = bool(pairs) and is_image(pairs[0].reference)
    found = search(pairs) if fit.residual > _FULLY else []
    # The moments of all frames count where the search in some of them has nothing better to say; but two grids of 8
    # bits, one a little finer, are no other scale of an image.
    harmless = image and not found and nrmse < _HARMLESS and fit.residual > _FULLY
    hypotheses = found or ([simple] if simple.changes and simple.explains and not harmless else [])
    affine = (fit.permutation, fit.scale.tolist(), fit.offset.tolist()) if simple.explains else (None, None, None)
    best = hypotheses[0] if hypotheses else None
    if best is None and fit.residual <= EXPLAINED and (simple.explains or nrmse < _ROUNDED):
        return Diagnosis(False, nrmse, _TINY, simple.code, fit.residual, *affine, *ranges)
    if best is None or not best.explains:
        closest = sorted((h for h in found if h.residual <= _CLOSE * fit.residual), key=lambda h: h.residual)
        words = _unknown(fit, closest[0] if closest else None)
        return Diagnosis(False, nrmse, words, None, fit.residual, None, None, None, *ranges, hypotheses=closest)
    words = best.description
    if best.residual > EXPLAINED:
        words += f" (approximately: {best.residual:.1%} of the input stay unexplained)"
    # Some changes can be told, but not written in terms of the reference input.
    code = None if best.code == "x" else best.code
    return Diagnosis(False, nrmse, words, code, best.residual, *affine, *ranges, hypotheses=hypotheses)


def _square_error(s: ChannelStatistics) -> float:
    total = np.trace(s.reference_products - s.cross_products - s.cross_products.T + s.edge_products)
    return max(0.0, float(total)) / (s.count * len(s.reference_sum))


def _mean(s: ChannelStatistics) -> np.ndarray:
    return s.edge_sum / s.count


def _nrmse(square_error: float, ranges: list[list[float]]) -> float:
    rmse = np.sqrt(square_error)
    span = max(high - low for low, high in ranges)
    return float(rmse / span) if span > 0 else np.inf


def _fit(s: ChannelStatistics) -> ChannelFit:
    return fit_moments(s.count, s.reference_sum, s.edge_sum, s.reference_products, s.cross_products, s.edge_products)


def _of_moments(fit: ChannelFit, reference_range: list[float], difference: float) -> Hypothesis:
    changes = value_ranges.map_changes(fit.permutation, fit.scale, fit.offset, reference_range)
    explains = fit.residual <= min(EXPLAINED, max(_FULLY, OF_DIFFERENCE * difference))
    return Hypothesis(tuple(changes), fit.residual, explains=explains)


def _unknown(fit: ChannelFit, closest: Hypothesis | None) -> str:
    known = "channel order, scale and offset" if len(fit.permutation) > 1 else "scale and offset"
    words = f"unknown difference: {known} leave {100 * fit.residual:.2g}% of the input unexplained"
    if closest is not None:
        words += f"; closest, with {100 * closest.residual:.2g}% left, comes {closest.description}"
    return words
