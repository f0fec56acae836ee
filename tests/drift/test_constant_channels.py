import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_exray.drift.constants import ConstantChannels, Scans

# Few distinct values, so that channels stay constant by chance; three or four channels.
VALUES = st.sampled_from([0.0, 1.0, math.nan, math.inf])
FRAMES = st.lists(
    st.integers(3, 4).flatmap(
        lambda channels: hnp.arrays(
            np.float32, (1, 2, channels), elements=st.sampled_from([0.0, 1.0, math.nan, math.inf])
        )
    ),
    max_size=5,
)


def of(frames) -> ConstantChannels:
    constants = ConstantChannels()
    for frame in frames:
        constants.update(frame)
    return constants


@given(FRAMES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_any_split_merged_in_any_order_is_one_pass(frames, cut, random):
    whole = of(frames)
    random.shuffle(frames)
    merged = of(frames[cut:])
    merged.merge(of(frames[:cut]))
    assert merged == whole


@given(FRAMES)
def test_constant_is_what_numpy_finds(frames):
    found = of(frames)
    if len({frame.shape for frame in frames}) != 1:
        assert not found.index.size
        return
    rows = np.concatenate(frames, axis=None).reshape(-1, frames[0].shape[-1])
    expected = np.flatnonzero((rows == rows[0]).all(0) & np.isfinite(rows[0]))
    np.testing.assert_array_equal(found.index, expected)
    np.testing.assert_array_equal(found.value, rows[0, expected])


def test_a_change_in_the_last_row_counts():
    stored = np.zeros((1, 10, 10, 2), np.int8)
    stored[0, -1, -1, 0] = 1
    assert of([stored]).index.tolist() == [1]
    assert of([stored]).share == 0.5


def test_a_scan_is_shared_by_those_that_look_for_the_same():
    first, second = np.array([[5, 1, 2], [5, 1, 0]], np.int8), np.array([[5, 3, 0], [5, 1, 0]], np.int8)
    scans: Scans = []
    same, twin, other = of([first]), of([first]), of([second])
    for constants in (same, twin, other):
        constants.update(second, scans)
    assert len(scans) == 2
    assert (same, other) == (of([first, second]), of([second, second]))
    assert twin == same


def test_nothing_seen_has_no_share():
    for empty in (of([]), of([np.zeros((1, 0, 3))]), of([np.zeros((1, 0))])):
        assert math.isnan(empty.share)
    assert of([np.float32(3)]).value.tolist() == [3]
