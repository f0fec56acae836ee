"""Least squares between what a hypothesis predicts and what an app fed, and the choice between hypotheses."""

import collections
import math
from collections.abc import Iterable, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing.hypothesis import Change, Hypothesis, Pair

# Differences of this share of the variance are float noise or another rounding, not a fault.
NOISE = 1e-6

# What one more change must divide the unexplained share by to be believed, and all of them together.
_WORTH = 3.0

# More than this share unexplained is no explanation.
_UNEXPLAINED = 0.35

# Values on a grid of at most so many steps were quantised.
_LEVELS = 1 << 16


def stack(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, list[Pair]]:
    """Stacks the finite pairs of the most frequent shape.

    Returns:
        Reference and edge values of shape `[pairs, ...]`, float64, and the pairs themselves; empty without any.
    """
    usable = [
        pair
        for pair in pairs
        if pair.reference.shape == pair.edge.shape
        and pair.reference.size
        and np.all(np.isfinite(pair.reference))
        and np.all(np.isfinite(pair.edge))
    ]
    if not usable:
        return np.empty((0, 0)), np.empty((0, 0)), []
    shape, _ = collections.Counter(pair.reference.shape for pair in usable).most_common(1)[0]
    usable = [pair for pair in usable if pair.reference.shape == shape]
    reference = np.stack([pair.reference for pair in usable]).astype(np.float64)
    return reference, np.stack([pair.edge for pair in usable]).astype(np.float64), usable


def unexplained(predicted: np.ndarray, edge: np.ndarray) -> float:
    """Returns the share of the edge input's variance that a prediction leaves; NaN predicts nothing and is left out."""
    known = np.isfinite(predicted)
    if not known.any():
        return 1.0
    if not known.all():
        predicted, edge = predicted[known], edge[known]
    variance = float(np.mean((edge - edge.mean()) ** 2))
    error = float(np.mean((edge - predicted) ** 2))
    if variance == 0:
        return 0.0 if error == 0 else 1.0
    return error / variance


def affine(predicted: np.ndarray, edge: np.ndarray) -> tuple[float, float]:
    """Returns scale and offset that bring a prediction nearest to the edge input; NaN is left out."""
    known = np.isfinite(predicted)
    if not known.any():
        return 1.0, 0.0
    x, y = (predicted, edge) if known.all() else (predicted[known], edge[known])
    centre = x - x.mean()
    power = float(np.vdot(centre, centre))
    scale = float(np.vdot(centre, y)) / power if power > 0 else 0.0
    return scale, float(y.mean() - scale * x.mean())


def grid_step(values: np.ndarray) -> float:
    """Returns the distance of the levels of quantised values; 0 for values that are not on a grid."""
    levels = np.unique(values)
    if not 2 < len(levels) <= _LEVELS:
        return 0.0
    gaps = np.diff(levels)
    step = float(gaps[gaps > 1e-9 * np.abs(levels).max()].min(initial=np.inf))
    if not math.isfinite(step):
        return 0.0
    steps = (levels - levels[0]) / step
    on_grid = np.abs(steps - np.round(steps)).max() < 0.01 and steps[-1] <= _LEVELS
    return step if on_grid else 0.0


def agree(reference: np.ndarray, edge: np.ndarray) -> bool:
    """True when nothing differs but float noise or the rounding of a quantised input."""
    if unexplained(reference, edge) <= NOISE:
        return True
    difference, step = edge - reference, grid_step(edge)
    # A rounding leaves no offset behind.
    return bool(np.abs(difference).max() <= 0.51 * step and abs(difference.mean()) < 0.05 * step)


def noise_of(edge: np.ndarray) -> float:
    """Returns the share of the variance that no hypothesis can explain: the rounding of a quantised input."""
    variance = float(np.var(edge))
    # The variance of a uniform rounding error is a twelfth of the squared step.
    return NOISE + (grid_step(edge) ** 2 / 6 / variance if variance > 0 else 0.0)


def rank(
    candidates: Iterable[tuple[Sequence[Change], float]], identity: float, noise: float, limit: int = 5
) -> list[Hypothesis]:
    """Sorts candidates from the best to the worst that still explains something.

    A change costs as much as a factor of three of what is left unexplained, so that of two explanations of the same
    quality the shorter one wins.

    Args:
        candidates: Changes and the residual that they leave.
        identity: Residual when nothing is changed.
        noise: Residual that no hypothesis can be expected to beat.
        limit: Number of hypotheses to return at most.
    """
    scored: dict[tuple[str, ...], tuple[float, Hypothesis]] = {}
    for changes, residual in candidates:
        if not changes or residual > _UNEXPLAINED or residual * _WORTH > identity:
            continue
        # Rounded, so that of equally good ones the first wins.
        score = round(math.log(residual + noise) + math.log(_WORTH) * len(changes), 3)
        key = tuple(sorted(change.kind for change in changes))
        if key not in scored or score < scored[key][0]:
            scored[key] = score, Hypothesis(tuple(changes), float(residual))
    ranked = sorted(scored.values(), key=lambda item: item[0])
    # What leaves ten times as much as the best is no rival.
    return [h for score, h in ranked[:limit] if score <= ranked[0][0] + math.log(10)]
