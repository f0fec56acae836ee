"""How sure percentiles of timings are, whatever their distribution and however the machine drifts.

Runs that follow each other are alike: a processor that is busy now is busy a moment later. A confidence interval that
takes them for independent would be too narrow. Runs are therefore timed in blocks, and each interval is as wide as the
blocks differ, one by one and gathered to ever longer ones, because a clock that steps or a neighbour that comes and
goes makes blocks alike that follow each other. It asks for no shape of the distribution, as timings have none: they
have a floor and a long tail.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

# What turns the median absolute deviation of normal values into their standard deviation.
_MAD_TO_DEVIATION = 1.4826
_OUTLYING_DEVIATIONS = 3
# Fewer blocks than that tell too little of how much they differ.
_FEWEST_GATHERED = 8


def percentile_interval(
    blocks: Sequence[Sequence[float]], percentile: float, confidence: float
) -> tuple[float, float] | None:
    """Returns the confidence interval of a percentile.

    The bounds are order statistics: of `n` independent values the number below the percentile `q` is binomial, so the
    `l`-th smallest lies beyond it with a probability that is known (David & Nagaraja, Order Statistics, 2003, section
    7.1). Blocks whose values are alike count for fewer than they hold: `n` is divided by the design effect, which is
    how much more the share of values below the percentile varies between blocks than chance explains (Woodruff,
    Confidence Intervals for Medians and Other Position Measures, 1952), and corrected for the few blocks that this was
    learned from (Korn & Graubard, Confidence Intervals for Proportions with Small Expected Number of Positive Counts
    Estimated from Survey Data, 1998). Neighbouring blocks are alike as well when two, four, eight... of them gathered
    to one, as long as there are eight, differ by more than chance would let them in one of twenty cases; then the least
    such size counts (Flyvbjerg & Petersen, Error Estimates on Averages of Correlated Data, 1989).

    Args:
        blocks: The values, block by block, in the order of time.
        percentile: In (0, 100).
        confidence: In (0, 1).

    Returns:
        Lower and upper bound; None when there are too few values for either.
    """
    values = np.sort(np.concatenate([np.asarray(block, float) for block in blocks]))
    q = percentile / 100
    size = math.floor(_effective_size(blocks, float(np.quantile(values, q)), q, confidence))
    ranks = _ranks(size, q, confidence)
    if ranks is None:
        return None
    # A rank among the independent values is a share of all values; rounded away from the percentile.
    lower = (ranks[0] - 1) * (len(values) - 1) // (size - 1)
    upper = -((1 - ranks[1]) * (len(values) - 1) // (size - 1))
    return float(values[lower]), float(values[upper])


def runs_for_percentile(percentile: float, confidence: float) -> int:
    """Returns how many independent runs a percentile needs at least to have an interval."""
    tail = min(percentile, 100 - percentile) / 100
    return math.ceil(math.log((1 - confidence) / 2) / math.log1p(-tail))


def ratio_interval(
    numerators: Sequence[Sequence[float]], denominators: Sequence[Sequence[float]], confidence: float
) -> tuple[float, tuple[float, float] | None]:
    """Compares two models whose blocks were timed in turn.

    Of each block the fastest run counts: what others do to a run only makes it slower (Chen & Revels, Robust
    Benchmarking in Noisy Environments, 2016). What slows the machine down for longer slows neighbouring blocks down
    alike and cancels in their ratio. The ratios of pairs are one value each, and their median has the interval of
    `percentile_interval`, that of the sign test.

    Args:
        numerators, denominators: Runs of either model, block by block; the i-th blocks are neighbours.
        confidence: In (0, 1).

    Returns:
        The median ratio, and its confidence interval; None when there are too few pairs.
    """
    ratios = [min(a) / min(b) for a, b in zip(numerators, denominators, strict=True)]
    return statistics.median(ratios), percentile_interval([[ratio] for ratio in ratios], 50, confidence)


def spread(values: Sequence[float]) -> float:
    """Returns the robust standard deviation of some values relative to their median (1.4826 MAD / median)."""
    median = statistics.median(values)
    return _MAD_TO_DEVIATION * statistics.median(abs(value - median) for value in values) / median


def count_outliers(values: Sequence[float]) -> int:
    """Returns how many values lie more than three robust standard deviations (1.4826 MAD) from the median."""
    median = statistics.median(values)
    deviations = [abs(value - median) for value in values]
    limit = _OUTLYING_DEVIATIONS * _MAD_TO_DEVIATION * statistics.median(deviations)
    return sum(deviation > limit for deviation in deviations)


def _effective_size(blocks: Sequence[Sequence[float]], value: float, q: float, confidence: float) -> float:
    """Returns how many independent values the blocks are worth at a percentile."""
    sizes = np.array([len(block) for block in blocks], float)
    below = np.array([np.sum(np.asarray(block, float) <= value) for block in blocks])
    least = total = float(sizes.sum())
    if len(sizes) > 1 and sizes.max() > 1:
        least = _corrected_size(total, max(_effect(sizes, below, q), 1.0), len(sizes), confidence)
    while len(sizes) >= 2 * _FEWEST_GATHERED:
        starts = np.arange(0, len(sizes), 2)
        sizes, below = np.add.reduceat(sizes, starts), np.add.reduceat(below, starts)
        effect = _effect(sizes, below, q)
        if effect > _chance_effect(len(sizes) - 1):
            least = min(least, _corrected_size(total, effect, len(sizes), confidence))
    return least


def _effect(sizes: np.ndarray, below: np.ndarray, q: float) -> float:
    """Returns how many times as much as by chance the share of values below a percentile varies between blocks."""
    total = sizes.sum()
    between = np.sum((below - q * sizes) ** 2) / total**2 * len(sizes) / (len(sizes) - 1)
    return float(between / (q * (1 - q) / total))


def _chance_effect(freedom: int) -> float:
    """Returns what chance exceeds in one of twenty cases: a quantile of chi-squared over its degrees of freedom, as
    approximated by Wilson & Hilferty, The Distribution of Chi-Square, 1931.
    """
    part = 2 / (9 * freedom)
    return (1 - part + statistics.NormalDist().inv_cdf(0.95) * math.sqrt(part)) ** 3


def _corrected_size(total: float, effect: float, blocks: int, confidence: float) -> float:
    return min(total / effect * (_t(confidence, total - 1) / _t(confidence, blocks - 1)) ** 2, total)


def _t(confidence: float, freedom: float) -> float:
    """Returns the two-sided quantile of Student's t (Abramowitz & Stegun, 1964, 26.7.5)."""
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    """Returns the ranks, counted from 1, of the order statistics that bound a quantile of n independent values."""
    if n < 2:
        return None
    below = np.cumsum(_binomial(n, q))
    tail = (1 - confidence) / 2
    # X_(l) > quantile only when fewer than l values lie below it; X_(u) < quantile only when at least u do.
    lower = int(np.searchsorted(below, tail, side="right"))
    upper = int(np.searchsorted(below, 1 - tail)) + 1
    return (lower, upper) if lower >= 1 and upper <= n else None


def _binomial(n: int, q: float) -> np.ndarray:
    """Returns the probabilities of 0 to n successes, through logarithms: factorials of some hundred overflow."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    logs = factorials[n] - factorials - factorials[::-1] + k * math.log(q) + (n - k) * math.log1p(-q)
    return np.asarray(np.exp(logs))
