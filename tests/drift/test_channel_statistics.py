import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_exray.drift.channels import ChannelStatistics

FLOATS = st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf])
SHAPES = st.sampled_from([(1, 2, 3), (1, 1, 2, 3), (1, 0, 3)])
PAIRS = st.tuples(SHAPES, SHAPES).flatmap(
    lambda shapes: st.tuples(*(hnp.arrays(np.float64, shape, elements=FLOATS) for shape in shapes))
)
RUNS = st.lists(st.tuples(PAIRS, st.integers(0, 2)), max_size=8).flatmap(
    lambda frames: st.tuples(st.just(frames), st.permutations(frames), st.permutations(range(3)))
)


def of(*frames, representable: tuple[float, float] | None = None) -> ChannelStatistics:
    statistics = ChannelStatistics()
    for reference, edge in frames:
        statistics.update(reference, edge, representable)
    return statistics


@given(RUNS)
def test_any_split_merged_in_any_order_is_one_pass(run):
    frames, shuffled, order = run
    whole = of(*(pair for pair, _ in frames), representable=(-10, 10))
    workers = [of(*(pair for pair, w in shuffled if w == i), representable=(-10, 10)) for i in range(3)]
    merged = ChannelStatistics()
    for i in order:
        merged.merge(workers[i])
    for name, expected in vars(whole).items():
        if name.endswith(("_sum", "_products")) and whole.count:
            np.testing.assert_allclose(getattr(merged, name), expected, rtol=1e-9, atol=1e-9 * 4e6)
        else:
            np.testing.assert_array_equal(getattr(merged, name), expected)


def test_merging_leaves_the_other_alone():
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 3))
    other = of((image, image + 1))
    expected = of((image, image + 1))
    total = ChannelStatistics()
    total.merge(other)
    total.update(image, image)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(other, name), value)


def test_moments_are_those_of_all_pixels_together():
    rng = np.random.default_rng(1)
    frames = [(r := rng.integers(0, 256, (1, 5, 4, 3)).astype(np.uint8), r[..., ::-1] / 255.0) for _ in range(7)]
    statistics = of(*frames)
    r, e = (np.concatenate([pair[i].reshape(-1, 3) for pair in frames]).astype(np.float64) for i in (0, 1))
    assert (statistics.frames, statistics.differing, statistics.count) == (7, 7, 140)
    expected = {
        "reference_sum": r.sum(0),
        "edge_sum": e.sum(0),
        "reference_products": r.T @ r,
        "cross_products": r.T @ e,
        "edge_products": e.T @ e,
        "reference_range": [r.min(), r.max()],
        "edge_range": [e.min(), e.max()],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(statistics, name), value, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 4, 4, 3), 3), ((1, 4, 4, 1), 1), ((1, 3), 1), ((1, 9, 40), 1), ((1,), 1)]
)
def test_only_the_last_axis_of_an_image_is_channels(shape, channels):
    statistics = of((np.ones(shape), np.ones(shape)))
    assert statistics.reference_sum.shape == (channels,)
    assert statistics.count * channels == np.prod(shape)


def test_frames_that_cannot_be_compared_are_counted_and_in_no_sum():
    image = np.arange(12.0).reshape(1, 2, 2, 3)
    bad = image.copy()
    bad[0, 0, 0, 0] = np.nan
    statistics = of((image, image), (image, bad), (bad, image), (image, image[:, :1]), (image, 2 * image))
    assert (statistics.frames, statistics.differing, statistics.mismatched, statistics.nonfinite) == (5, 3, 1, 2)
    np.testing.assert_array_equal(statistics.edge_sum, 3 * image.sum((0, 1, 2)))
    assert statistics.edge_range.tolist() == [0, 22]
    assert statistics.count == 8


def test_reference_values_beyond_the_quantised_input_are_counted():
    reference = np.array([[-1.5, -1.0, 0.0, 1.0, 1.5]])
    assert vars(of((reference, reference), representable=(-1, 1)))["clipped"] == 2
    statistics = of((reference, reference))
    assert (statistics.clipped, statistics.quantized) == (0, 0)
