"""Intervals against SciPy's own, against brute force, and by how often they are right."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from edge_exray.drift.intervals import NormalizedError, PairedDrop, Share, Side, needed_frames, side


@given(st.integers(1, 400), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_shares_are_those_of_the_exact_binomial_test(frames, data, confidence):
    count = data.draw(st.integers(0, frames))
    found = Share(count, frames).interval(confidence)
    # SciPy's confidence is that of both bounds together.
    wanted = stats.binomtest(count, frames).proportion_ci(confidence_level=2 * confidence - 1, method="exact")
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    p_value = stats.binomtest(count, frames, 0.05, alternative="greater").pvalue
    assert Share(count, frames).p_beyond(0.05) == pytest.approx(p_value, rel=1e-9)


@pytest.mark.parametrize("true", [0.005, 0.04, 0.06, 0.5])
@pytest.mark.parametrize("frames", [20, 200])
def test_a_wrong_verdict_on_a_share_is_as_rare_as_the_confidence_says(true, frames):
    counts = np.arange(frames + 1)
    sides = [side(Share(int(count), frames), 0.05, 0.95) for count in counts]
    wrong = Side.BEYOND if true <= 0.05 else Side.WITHIN
    chance = stats.binom.pmf(counts, frames, true)[[found is wrong for found in sides]].sum()
    assert chance <= 0.05


@pytest.mark.parametrize("changed", [0.02, 0.03, 0.06])
def test_a_wrong_verdict_on_a_drop_is_about_as_rare(changed):
    frames, limit = 150, 0.02
    shares = [(changed + limit) / 2, (changed - limit) / 2, 1 - changed]
    chance = dict.fromkeys(Side, 0.0)
    for lost in range(25):
        for gained in range(25):
            weight = stats.multinomial.pmf([lost, gained, frames - lost - gained], frames, shares)
            if weight > 1e-9:
                chance[side(PairedDrop(lost, gained, frames), limit, 0.95)] += weight
    assert sum(chance.values()) == pytest.approx(1, abs=1e-4)
    assert chance[Side.WITHIN] <= 0.05
    assert chance[Side.BEYOND] <= 0.09


def likely_deviation(lost: int, gained: int, frames: int, drop: float) -> float:
    """Standard deviation of lost - gained where the likelihood is largest among all shares with this drop."""

    def unlikely(share_gained: float) -> float:
        shares = (share_gained + drop, share_gained, 1 - 2 * share_gained - drop)
        counts = (lost, gained, frames - lost - gained)
        return -sum(count * math.log(max(share, 1e-300)) for count, share in zip(counts, shares, strict=True) if count)

    bounds = (max(0.0, -drop), (1 - drop) / 2)
    share_gained = optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return math.sqrt(frames * (2 * share_gained + drop - drop**2))


@pytest.mark.parametrize(("lost", "gained", "frames"), [(7, 5, 60), (12, 1, 90), (1, 9, 30), (0, 6, 44), (3, 3, 500)])
def test_the_bounds_of_a_drop_are_where_the_score_of_the_likeliest_shares_is_the_quantile(lost, gained, frames):
    quantile = stats.norm.ppf(0.95)
    for bound, sign in zip(PairedDrop(lost, gained, frames).interval(0.95), (1, -1), strict=True):
        score = (lost - gained - frames * bound) / likely_deviation(lost, gained, frames, bound)
        assert score == pytest.approx(sign * quantile, rel=1e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_drops_are_bounded_mirrored_and_agree_with_their_test(lost, gained, same):
    frames = lost + gained + same
    if not frames:
        return
    drop = PairedDrop(lost, gained, frames)
    low, high = drop.interval(0.95)
    assert -1 <= low <= drop.value + 1e-9 <= high + 2e-9 <= 1 + 2e-9
    assert PairedDrop(gained, lost, frames).interval(0.95) == pytest.approx((-high, -low), abs=1e-9)
    if 0 < low < 1:
        assert drop.p_beyond(low) == pytest.approx(0.05, rel=1e-4)
    wanted = stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert drop.p_equal() == pytest.approx(wanted, rel=1e-9)


def test_a_drop_without_any_change_has_the_interval_of_the_score_alone():
    z = stats.norm.ppf(0.95)
    assert PairedDrop(0, 0, 60).interval(0.95)[1] == pytest.approx(z**2 / (60 + z**2), rel=1e-6)
    assert PairedDrop(60, 0, 60).interval(0.95)[1] == 1
    assert PairedDrop(0, 60, 60).interval(0.95)[0] == -1


def test_the_bootstrap_has_the_spread_of_the_delta_method_and_no_order():
    errors = np.abs(np.random.default_rng(0).normal(size=400))
    found = NormalizedError(errors, 5.0)
    low, high = found.interval(0.95)
    squares = errors**2
    deviation = squares.std() / math.sqrt(squares.size) / (2 * math.sqrt(squares.mean())) / 5.0
    assert found.value == pytest.approx(math.sqrt(squares.mean()) / 5.0)
    assert [low, high] == pytest.approx(found.value + stats.norm.ppf([0.05, 0.95]) * deviation, rel=0.02)
    assert NormalizedError(errors[::-1].copy(), 5.0).interval(0.95) == (low, high)


@pytest.mark.parametrize(
    ("errors", "span", "value"), [([0, 0], 0.0, 0.0), ([0, 1], 0.0, math.inf), ([0, math.inf], 1.0, math.inf)]
)
def test_errors_without_a_range_or_an_end_are_beyond_every_limit(errors, span, value):
    found = NormalizedError(np.array(errors, float), span)
    assert (found.value, *found.interval(0.95)) == (value, value, value)
    assert side(found, 0.1, 0.95) is (Side.BEYOND if value else Side.WITHIN)


@pytest.mark.parametrize(
    ("estimate", "limit", "needed"),
    [
        (Share(0, 20), 0.05, 59),  # the first n with 0.95 ** n <= 0.05
        (PairedDrop(0, 0, 20), 0.02, 133),  # the first n with z**2 / (n + z**2) <= 0.02
        (PairedDrop(1, 0, 20), 0.0, 55),  # the first n with sqrt(n / 20), the score against no drop, beyond z
    ],
)
def test_so_many_frames_decide(estimate, limit, needed):
    assert side(estimate, limit, 0.95) is Side.UNDECIDED
    assert needed_frames(estimate, limit, 0.95) == needed


def test_what_may_never_happen_is_judged_by_whether_it_did():
    assert side(Share(0, 20), 0.0, 0.95) is Side.WITHIN
    assert side(Share(1, 20), 0.0, 0.95) is Side.BEYOND


@given(st.integers(0, 6), st.integers(10, 60))
def test_the_number_of_frames_decides_and_one_less_does_not(count, frames):
    share = Share(count, frames)
    if side(share, 0.05, 0.95) is not Side.UNDECIDED:
        return
    needed = needed_frames(share, 0.05, 0.95)
    assert needed > frames
    known = share.on(needed).interval(0.95)[1] - share.value
    assert side(share.on(needed), 0.05, 0.95) is not Side.UNDECIDED or known <= 0.025
    assert side(share.on(needed - 1), 0.05, 0.95) is Side.UNDECIDED
