import math
import statistics

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from edge_exray.profiling import intervals


def singles(values):
    """Blocks of one value each, in an order in which neighbours are not alike."""
    values = list(values)
    return [[values[i]] for i in np.argsort(np.arange(len(values)) * 0.6180339887 % 1)]


# The ranks of 95 % intervals of the median: Conover, Practical Nonparametric Statistics, 1999, table A3.
@pytest.mark.parametrize(("n", "lower", "upper"), [(6, 1, 6), (8, 1, 8), (10, 2, 9), (20, 6, 15), (30, 10, 21)])
def test_the_interval_of_a_median_has_the_ranks_of_the_sign_test(n, lower, upper):
    values = list(range(1, n + 1))
    assert intervals.percentile_interval(singles(reversed(values)), 50, 0.95) == (lower, upper)


@pytest.mark.parametrize(("percentile", "needed"), [(50, 6), (90, 36), (99, 368)])
def test_a_percentile_has_an_interval_from_just_as_many_runs_on_as_are_told(percentile, needed):
    assert intervals.runs_for_percentile(percentile, 0.95) == needed
    assert intervals.percentile_interval(singles(range(needed - 1)), percentile, 0.95) is None
    assert intervals.percentile_interval(singles(range(needed)), percentile, 0.95) is not None


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    n=st.integers(40, 400), percentile=st.sampled_from([50, 75, 90]), confidence=st.sampled_from([0.8, 0.95, 0.99])
)
def test_bounds_are_the_order_statistics_of_the_binomial_distribution(n, percentile, confidence):
    interval = intervals.percentile_interval(singles(range(1, n + 1)), percentile, confidence)
    q, tail = percentile / 100, (1 - confidence) / 2
    ranks = np.arange(1, n + 1)
    lower = ranks[stats.binom.cdf(ranks - 1, n, q) <= tail]
    upper = ranks[stats.binom.sf(ranks - 1, n, q) <= tail]
    assert interval == ((lower[-1], upper[0]) if len(lower) and len(upper) else None)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    st.lists(st.lists(st.floats(0.1, 100), min_size=5, max_size=5), min_size=8, max_size=12),
    st.floats(0.01, 1000),
)
def test_intervals_hold_the_percentile_and_scale_with_the_unit(blocks, unit):
    interval = intervals.percentile_interval(blocks, 50, 0.9)
    if interval is None:
        return
    assert interval[0] <= np.median(blocks) <= interval[1]
    scaled = intervals.percentile_interval([[unit * value for value in block] for block in blocks], 50, 0.9)
    assert scaled == pytest.approx(tuple(unit * bound for bound in interval))


@pytest.mark.parametrize("drift", [0.0, 2.0])
def test_intervals_hold_the_true_median_as_often_as_they_say(drift):
    """Blocks that have a level of their own are worth fewer runs than they hold."""
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(300):
        blocks = np.exp(rng.normal(size=(12, 10)) + drift * rng.normal(size=(12, 1)))
        low, high = intervals.percentile_interval(list(blocks), 50, 0.95)
        covered.append(low <= 1 <= high)
    assert np.mean(covered) >= 0.93


@pytest.mark.parametrize("blocks", [12, 400])
@pytest.mark.parametrize("seconds", [0.05, 0.1])
def test_a_machine_of_two_speeds_widens_the_interval_to_both(blocks, seconds):
    """However many blocks there are in a second: it is how often the speed changes that counts."""
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(100):
        # After each such time the machine has one of its speeds, a third of the time the higher one.
        speeds = rng.choice([1.0, 1.3], p=[0.35, 0.65], size=math.ceil(1 / seconds))
        levels = [speeds[int(i / blocks / seconds)] for i in range(blocks)]
        low, high = intervals.percentile_interval([list(s * rng.normal(1, 0.01, 5)) for s in levels], 50, 0.95)
        # Of all values 35 % are about 1, and 15 % more are smaller than that.
        covered.append(low <= 1.3 * stats.norm.ppf(0.15 / 0.65, 1, 0.01) <= high)
    assert np.mean(covered) >= 0.88


def test_what_hits_neighbouring_blocks_alike_cancels_in_their_ratio():
    slowdowns = [1, 5, 2, 9, 1, 1, 3, 7, 2, 4]
    ratio, interval = intervals.ratio_interval([[1.1 * s] * 3 for s in slowdowns], [[s] * 3 for s in slowdowns], 0.95)
    assert ratio == pytest.approx(1.1)
    assert interval == pytest.approx((1.1, 1.1))


def test_runs_that_others_interrupt_do_not_count_in_a_ratio():
    ratio, interval = intervals.ratio_interval([[9.0, 1.2, 7.0]] * 10, [[1.0, 1.1, 6.0]] * 10, 0.95)
    assert (ratio, interval) == (pytest.approx(1.2), pytest.approx((1.2, 1.2)))


def test_few_pairs_have_a_ratio_and_no_interval():
    assert intervals.ratio_interval([[2], [4]], [[1], [2]], 0.95) == (2, None)


def test_spread_is_the_deviation_of_normal_values_and_blind_to_a_few_others():
    rng = np.random.default_rng(0)
    values = [*rng.normal(10, 0.5, 2000), *[1000.0] * 20]
    assert intervals.spread(values) == pytest.approx(0.05, rel=0.1)


def test_outliers_are_counted():
    values = [10.0, 10.1, 9.9, 10.2, 9.8, 10.0, 30.0]
    deviation = 1.4826 * statistics.median(abs(v - 10) for v in values)
    assert math.isclose(deviation, 0.14826)
    assert intervals.count_outliers(values) == 1
    assert intervals.count_outliers([0.0, 0.0, 0.0, 1.0]) == 1
