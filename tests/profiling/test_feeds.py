import numpy as np
import pytest

from edge_exray import errors
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.tensors import Quantization, TensorSpec
from edge_exray.profiling.feeds import example_feeds, random_feed


def spec(dtype, quantization=None):
    return {"x": TensorSpec("x", (-1, 100, 100), np.dtype(dtype), quantization)}


@pytest.mark.parametrize(
    ("dtype", "quantization", "low", "high"),
    [
        (np.float32, None, -1, 1),
        (np.float16, None, -1, 1),
        (np.int8, Quantization((0.1,), (3,)), -128, 127),
        (np.uint8, Quantization((0.1,), (3,)), 0, 255),
        (np.int32, None, 0, 1),
        (np.bool_, None, 0, 1),
    ],
)
def test_random_values_cover_what_the_input_can_hold(dtype, quantization, low, high):
    value = random_feed(spec(dtype, quantization))["x"]
    assert value.shape == (1, 100, 100)
    assert value.dtype == dtype
    assert value.min() == pytest.approx(low, abs=0.01)
    assert value.max() == pytest.approx(high, abs=0.01)


def test_random_values_are_those_of_the_seed():
    same, again, other = (random_feed(spec(np.float32), seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


def test_there_are_no_random_strings():
    with pytest.raises(errors.DataError, match="input x"):
        random_feed({"x": TensorSpec("x", (1,), np.dtype(object))})


def test_examples_are_fed_as_the_app_does():
    functions = UserFunctions(
        reference_inputs_fn=lambda example: {"x": example["pixels"]},
        edge_inputs_fn=lambda example: {"x": example["pixels"] * 2},
    )
    stored = [{"pixels": np.full((2,), i, np.float32)} for i in range(5)]
    feeds = example_feeds(stored, functions, {"x": TensorSpec("x", (-1, 2), np.dtype(np.float32))}, limit=3)
    np.testing.assert_array_equal([feed["x"] for feed in feeds], [[[0, 0]], [[2, 2]], [[4, 4]]])


def test_no_examples_are_an_error():
    with pytest.raises(errors.DataError, match="no examples"):
        example_feeds([], UserFunctions(), spec(np.float32), limit=3)
