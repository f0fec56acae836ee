"""Finds inputs that an app feeds in each other's place."""

import itertools
from collections.abc import Mapping

import numpy as np

from edge_exray.drift.channels import ChannelStatistics

# Two inputs that are the same up to scale and offset agree to the digits of float32; by chance, hardly ever so far in
# four figures.
_TOLERANCE = 1e-3


def find_swaps(statistics: Mapping[str, ChannelStatistics]) -> dict[str, str]:
    """Pairs inputs of which each is fed what the reference feeds to the other, up to scale and offset.

    No statistic spans two inputs, so this compares what scale and offset leave alone: where the extremes lie, in
    standard deviations from the mean.

    Args:
        statistics: Name to comparison of the inputs whose difference nothing else explains.

    Returns:
        Each input that is swapped to the other one.
    """
    found: dict[str, str] = {}
    for one, other in itertools.combinations(sorted(statistics), 2):
        a, b = statistics[one], statistics[other]
        if {one, other} & set(found) or a.count != b.count or not a.count:
            continue
        pairs = (_shape(a, "edge"), _shape(b, "reference")), (_shape(b, "edge"), _shape(a, "reference"))
        crossed = all(_agree(edge, reference) for edge, reference in pairs)
        if crossed and not _agree(_shape(a, "reference"), _shape(b, "reference")):
            found |= {one: other, other: one}
    return found


def _shape(statistics: ChannelStatistics, side: str) -> np.ndarray:
    """Returns smallest and largest value in standard deviations from the mean; NaN for a constant input."""
    total = getattr(statistics, f"{side}_sum").sum()
    squares = np.trace(getattr(statistics, f"{side}_products"))
    count = statistics.count * len(statistics.reference_sum)
    mean = total / count
    deviation = np.sqrt(max(squares / count - mean**2, 0.0))
    if deviation == 0:
        return np.full(2, np.nan)
    return (getattr(statistics, f"{side}_range") - mean) / deviation


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() < _TOLERANCE)
