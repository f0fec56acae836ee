import collections

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.conversion import calibration
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.tensors import TensorSpec

SPECS = {"x": TensorSpec("x", (-1, 1), np.dtype(np.float32))}


def _examples(count: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.array([i], np.float32)} for i in range(count)]


def _drawn(count: int, size: int, seed: int = 0) -> list[int]:
    frames = calibration.sample(iter(_examples(count)), UserFunctions(), SPECS, size, seed)
    assert all(frame["x"].shape == (1, 1) for frame in frames)
    return [int(frame["x"].item()) for frame in frames]


def test_small_set_is_taken_whole_and_in_order():
    assert _drawn(5, 20) == [0, 1, 2, 3, 4]


def test_sample_depends_on_the_seed_alone():
    assert _drawn(1000, 20, seed=3) == _drawn(1000, 20, seed=3)
    assert _drawn(1000, 20, seed=3) != _drawn(1000, 20, seed=4)


def test_every_example_is_as_likely():
    drawn = collections.Counter(i for seed in range(2000) for i in _drawn(10, 3, seed))
    # 2000 draws of 3 out of 10: 600 each, standard deviation 20.5.
    assert all(500 < drawn[i] < 700 for i in range(10))


def test_no_example_is_drawn_twice():
    drawn = _drawn(50, 40)
    assert sorted(set(drawn)) == drawn
    assert len(drawn) == 40


def test_calibration_function_is_preferred_and_applied_to_the_sample_only():
    seen = []

    def calibration_inputs_fn(example):
        seen.append(example)
        return {"x": example["x"] + 100}

    functions = UserFunctions(
        reference_inputs_fn=lambda example: {"x": example["x"]}, calibration_inputs_fn=calibration_inputs_fn
    )
    frames = calibration.sample(_examples(100), functions, SPECS, 4)
    assert all(frame["x"].item() >= 100 for frame in frames)
    assert len(seen) == 4


def test_empty_set_and_empty_sample_are_refused():
    with pytest.raises(errors.DataError, match=r"split train of /data has no examples"):
        calibration.sample([], UserFunctions(), SPECS, 4, source="split train of /data")
    with pytest.raises(errors.SpecError, match="at least one example, was asked for 0"):
        calibration.sample(_examples(3), UserFunctions(), SPECS, 0)
