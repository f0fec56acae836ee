import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_exray import errors
from edge_exray.replay.failures import MAX_NAMED, FrameFailures

ERRORS = (
    errors.DataError("the record is not a tf.Example"),
    errors.ModuleError("label_fn of app.py failed: KeyError: 'x'", "cat"),
    errors.ModuleError("label_fn of app.py failed: KeyError: 'y'", "dog"),
)


def failures_of(outcomes: list[tuple[int, int | None]]) -> FrameFailures:
    """Outcome of frames: number, and which of `ERRORS` it failed with."""
    failures = FrameFailures()
    for number, error in outcomes:
        failures.frames += 1
        if error is not None:
            failures.add(ERRORS[error], f"data.gz#{number}")
    return failures


@given(st.lists(st.sampled_from([None, 0, 1, 2]), max_size=40), st.randoms(), st.integers(1, 6))
def test_any_split_and_order_of_merging_gives_the_same(outcomes: list[int | None], chance: random.Random, parts: int):
    frames = list(enumerate(outcomes))
    whole = failures_of(frames)
    chance.shuffle(frames)
    merged = [failures_of(frames[part::parts]) for part in range(parts)]
    chance.shuffle(merged)
    total = functools.reduce(lambda left, right: left.merge(right) or left, merged, FrameFailures())
    assert total.to_dict() == whole.to_dict()
    assert FrameFailures.from_dict(whole.to_dict()).to_dict() == whole.to_dict()


def test_frames_that_fail_for_one_reason_are_one_group_and_named_in_the_order_of_the_data():
    document = failures_of([(number, 1) for number in range(12, 1, -1)] + [(0, None), (1, 0)]).to_dict()
    assert (document["frames"], document["failed"]) == (13, 12)
    first, second = document["reasons"]
    assert (first["error"], first["message"], first["count"]) == ("ModuleError", ERRORS[1].reason, 11)
    assert first["frames"] == [f"data.gz#{number}, id cat" for number in range(2, 2 + MAX_NAMED)]
    assert (second["count"], second["frames"]) == (1, ["data.gz#1"])


def test_one_more_than_allowed_is_an_error_that_names_the_most_frequent_reason():
    failures = failures_of([(0, 0), (1, 1), (2, 1)])
    failures.check(3)
    with pytest.raises(errors.DataError, match=r"more than 2 frames.*max_failed_frames.*KeyError: 'x' \(first at .*#1"):
        failures.check(2)
