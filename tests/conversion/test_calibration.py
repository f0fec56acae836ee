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


def _labelled(sizes: list[int]) -> list[dict[str, np.ndarray]]:
    """Sorted by class, as folders of images are; the value tells the class in its hundreds."""
    return [
        {"x": np.array([1000 * label + i], np.float32), "label": np.array([label])}
        for label, size in enumerate(sizes)
        for i in range(size)
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_classes_are_balanced_and_rare_ones_taken_whole(order):
    examples = _labelled([400, 3, 50])[::order]
    frames = calibration.sample(iter(examples), UserFunctions(), SPECS, 43)
    drawn = collections.Counter(int(frame["x"].item()) // 1000 for frame in frames)
    assert drawn == {0: 20, 1: 3, 2: 20}


def test_every_example_of_a_class_is_as_likely():
    examples = _labelled([30, 10])
    drawn = collections.Counter(
        int(frame["x"].item())
        for seed in range(2000)
        for frame in calibration.sample(iter(examples), UserFunctions(), SPECS, 10, seed)
    )
    # 2000 draws of 5 out of 30 and of 5 out of 10: 333 and 1000 each, standard deviations 16.7 and 22.4.
    assert all(250 < drawn[i] < 417 for i in range(30))
    assert all(888 < drawn[1000 + i] < 1112 for i in range(10))


def test_label_that_is_no_class_does_not_matter():
    examples = [{"x": np.array([i], np.float32), "label": np.array([i + 0.5])} for i in range(100)]
    assert len(calibration.sample(examples, UserFunctions(), SPECS, 10)) == 10
