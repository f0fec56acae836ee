import functools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_exray.replay.kept_frames import KeptFrames
from edge_exray.replay.worst_frames import WorstFrame, answer_drift


def frame(frame_id: str, drift: float, place: str = "#0") -> WorstFrame:
    value = {"x": np.array([drift])}
    return WorstFrame(frame_id, place, None, drift, value, value, value, value)


def kept(frames: list[WorstFrame], limit: int) -> KeptFrames[WorstFrame]:
    worst = KeptFrames[WorstFrame](limit)
    for one in frames:
        worst.add(one)
    return worst


# Few drifts and ids, so that ties and repeated ids are common.
FRAMES = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from([0.0, 0.5, 1.0, math.inf])), max_size=20)


@given(FRAMES, st.randoms(), st.integers(1, 5), st.integers(0, 4))
def test_any_split_and_order_of_merging_keeps_the_same(
    drawn: list[tuple[str, float]], chance: random.Random, parts: int, limit: int
):
    frames = [frame(name, drift, f"#{place}") for place, (name, drift) in enumerate(drawn)]
    best = {}
    for one in sorted(frames, key=lambda f: f.rank, reverse=True):
        best[one.id] = one
    expected = [(f.id, f.drift, f.place) for f in sorted(best.values(), key=lambda f: f.rank)[:limit]]
    chance.shuffle(frames)
    merged = [kept(frames[part::parts], limit) for part in range(parts)]
    chance.shuffle(merged)
    total = functools.reduce(lambda left, right: left.merge(right) or left, merged, KeptFrames[WorstFrame](limit))
    assert [(f.id, f.drift, f.place) for f in total] == expected


def test_tensors_are_kept_even_if_their_memory_is_used_again():
    buffer = np.zeros(3)
    worst = KeptFrames[WorstFrame](2)
    for number in range(3):
        buffer[:] = number
        arrays = {"x": buffer}
        worst.add(WorstFrame(str(number), "", None, float(number), arrays, arrays, arrays, arrays))
    assert [(f.id, f.reference["x"].tolist(), f.edge["x"].tolist()) for f in worst] == [
        ("2", [2.0] * 3, [2.0] * 3),
        ("1", [1.0] * 3, [1.0] * 3),
    ]


@pytest.mark.parametrize(
    ("cloud", "edge", "drift"),
    [
        ({"a": [0.0, 1.0], "b": [0.0, 2.0]}, {"a": [0.0, 1.0], "b": [1.0, 3.0]}, 0.5),  # RMSE 1 over the range 2
        ({"a": [0.25]}, {"a": [0.75]}, 0.5),
        ({"a": [1.0, 2.0]}, {"a": [1.0, math.nan]}, math.inf),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]}, 0.0),
    ],
)
def test_answer_drift(cloud, edge, drift):
    arrays = [{name: np.array([value]) for name, value in side.items()} for side in (cloud, edge)]
    assert answer_drift(*arrays) == pytest.approx(drift)
