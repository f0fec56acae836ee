"""Names what an app does to a model input that training did not.

At this level a difference is explained by a permutation of the channels and an affine map of each channel,
fitted by least squares to the second moments of both sides (`edge_exray.drift.channels`).
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from edge_exray.drift.channels import ChannelStatistics

# A difference counts as explained when the fit leaves less than this share of the edge input's variance: rounding
# to 8 bits leaves 1e-5, another resize kernel 1e-2 and more.
_EXPLAINED = 2e-3

# The usual conventions for the values of an image: what is in the tensor, and by which map from 0..255.
CONVENTIONS = {
    "[0, 255]": (1.0, 0.0),
    "[0, 1]": (1 / 255, 0.0),
    "[-1, 1]": (1 / 127.5, -1.0),
    "[-128, 127]": (1.0, -128.0),
    "[-0.5, 0.5]": (1 / 255, -0.5),
}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the edge side does to one input.

    Attributes:
        identical: No value of any frame differs.
        nrmse: Root mean square of the difference over the larger value range; NaN when it is not defined.
        hypothesis: The difference in words; None when there is none.
        code: One line of NumPy that maps the reference input `x` to the edge input; None when nothing explains
            the difference or there is none.
        residual: Share of the edge input's variance that the hypothesis leaves unexplained.
        permutation: `edge[..., c]` comes from `reference[..., permutation[c]]`.
        scale, offset: Affine map of each edge channel.
        reference_range, edge_range: Smallest and largest value.
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
    swapped_with: str | None = dataclasses.field(default=None, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns an entry of `preprocessing` in `schemas/report.schema.json`."""
        document = dataclasses.asdict(self)
        del document["nrmse"], document["swapped_with"]
        return document


def diagnose(statistics: ChannelStatistics) -> Diagnosis:
    """Finds the permutation and the affine maps that explain the difference of an input best."""
    ranges = [list(map(float, statistics.reference_range)), list(map(float, statistics.edge_range))]
    if not statistics.differing and not statistics.mismatched:
        return Diagnosis(True, 0.0, None, None, 0.0, None, None, None, *ranges)
    if statistics.mismatched or not statistics.count:
        what = "another shape" if statistics.mismatched else "NaN or infinite values"
        return Diagnosis(False, np.nan, f"the edge input has {what}", None, None, None, None, None, *ranges)
    residual, permutation, scale, offset = _fit(statistics)
    constant = ranges[1][0] == ranges[1][1]
    square_error = np.trace(
        statistics.reference_products
        - statistics.cross_products
        - statistics.cross_products.T
        + statistics.edge_products
    )
    rmse = np.sqrt(max(0.0, square_error) / (statistics.count * len(permutation)))
    span = max(high - low for low, high in ranges)
    nrmse = float(rmse / span) if span > 0 else np.inf
    if constant or residual > _EXPLAINED:
        hypothesis = (
            f"the edge input is always {ranges[1][0]:g}"
            if constant
            else f"unknown difference: channel order, scale and offset leave {residual:.1%} of the input unexplained"
        )
        return Diagnosis(False, nrmse, hypothesis, None, residual, None, None, None, *ranges)
    return Diagnosis(
        False,
        nrmse,
        _describe(permutation, scale, offset, ranges[0]),
        _code(permutation, scale, offset),
        residual,
        permutation,
        scale.tolist(),
        offset.tolist(),
        *ranges,
    )


def _fit(s: ChannelStatistics) -> tuple[float, list[int], np.ndarray, np.ndarray]:
    """Returns the residual share of the variance, the permutation, and scale and offset of each edge channel."""
    mean_r, mean_e = s.reference_sum / s.count, s.edge_sum / s.count
    variance_r = np.diag(s.reference_products) / s.count - mean_r**2
    variance_e = np.diag(s.edge_products) / s.count - mean_e**2
    covariance = s.cross_products / s.count - np.outer(mean_r, mean_e)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(variance_r[:, None] > 0, covariance / variance_r[:, None], 0.0)
    # left[i, j]: what remains of edge channel j when it is made from reference channel i.
    left = np.maximum(variance_e[None, :] - slope * covariance, 0.0)
    channels = range(len(mean_r))
    orders = list(itertools.permutations(channels))
    # The first of equally good orders wins: on grey images every order fits, and the identity is meant.
    best = min(orders, key=lambda order: round(sum(left[i, j] for j, i in enumerate(order)), 12))
    total = float(variance_e.sum())
    residual = float(sum(left[i, j] for j, i in enumerate(best))) / total if total > 0 else 0.0
    scale = np.array([slope[i, j] for j, i in enumerate(best)])
    offset = mean_e - scale * mean_r[list(best)]
    return residual, list(best), scale, offset


def _describe(permutation: list[int], scale: np.ndarray, offset: np.ndarray, reference_range: list[float]) -> str:
    parts = []
    if permutation != sorted(permutation):
        if len(permutation) == 3 and permutation == [2, 1, 0]:
            parts.append("reversed channels (BGR instead of RGB)")
        else:
            parts.append(f"channels in the order {permutation}")
    span = reference_range[1] - reference_range[0]
    if _is_uniform(scale, offset, span):
        a, b = float(scale.mean()), float(offset.mean())
        if abs(a - 1) > 1e-3 or abs(b) > 1e-3 * span:
            parts.append(_scaling(a, b, reference_range))
    elif np.any(np.abs(scale - 1) > 1e-3) or np.any(np.abs(offset) > 1e-3 * span):
        parts.append(
            f"another normalisation of each channel: scale {np.round(scale, 5).tolist()}, "
            f"offset {np.round(offset, 5).tolist()}"
        )
    return " and ".join(parts) if parts else "tiny differences, as from rounding"


def _scaling(a: float, b: float, reference_range: list[float]) -> str:
    """Names the pair of conventions whose map is x -> a x + b."""
    for have, (have_scale, have_offset) in CONVENTIONS.items():
        if not _plausible(have, reference_range):
            continue
        for want, (want_scale, want_offset) in CONVENTIONS.items():
            ratio = want_scale / have_scale
            shift = want_offset - ratio * have_offset
            if have != want and abs(a / ratio - 1) < 5e-3 and abs(b - shift) < 5e-3 * 255 * want_scale:
                return f"wrong scale: {want} instead of {have}"
    kinds = {"scale": abs(a - 1) > 1e-3, "offset": abs(b) > 1e-3 * (reference_range[1] - reference_range[0])}
    found = [kind for kind, on in kinds.items() if on]
    term = f"{a:.5g} * x" if kinds["scale"] else "x"
    if kinds["offset"]:
        term += f" {'-' if b < 0 else '+'} {abs(b):.5g}"
    return f"wrong {' and '.join(found)}: {term}"


def _plausible(convention: str, span: list[float]) -> bool:
    """True when values of this range may follow a convention: within it, and using more than a quarter of it."""
    low, high = (CONVENTIONS[convention][0] * v + CONVENTIONS[convention][1] for v in (0.0, 255.0))
    slack = 0.01 * (high - low)
    return low - slack <= span[0] and span[1] <= high + slack and span[1] - span[0] > (high - low) / 4


def _is_uniform(scale: np.ndarray, offset: np.ndarray, span: float) -> bool:
    tolerance = 5e-3 * max(1e-12, np.abs(scale).max())
    return bool(np.ptp(scale) <= tolerance and np.ptp(offset) <= max(tolerance * span, 1e-12))


def _code(permutation: list[int], scale: np.ndarray, offset: np.ndarray) -> str:
    code = "x"
    if permutation != sorted(permutation):
        code += "[..., ::-1]" if permutation == sorted(permutation, reverse=True) else f"[..., {permutation}]"
    if not np.allclose(scale, 1, atol=1e-3):
        code += f" * {_literal(scale)}"
    if not np.allclose(offset, 0, atol=1e-6 * max(1.0, np.abs(scale).max())):
        # One sign for all channels reads better in front of the numbers.
        code += f" - {_literal(-offset)}" if np.all(offset < 0) else f" + {_literal(offset)}"
    return code


def _literal(values: np.ndarray) -> str:
    if np.ptp(values) <= 5e-3 * np.abs(values).max():
        return f"{values.mean():.6g}"
    return f"np.array({[float(f'{v:.6g}') for v in values]})"
