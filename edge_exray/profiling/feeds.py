"""Inputs to profile with."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edge_exray import errors
from edge_exray.frames import examples, functions
from edge_exray.models.tensors import TensorSpec

Feed = Mapping[str, np.ndarray]


def random_feed(inputs: Mapping[str, TensorSpec], seed: int = 0) -> dict[str, np.ndarray]:
    """Makes one feed by dtype and shape: kernels take as long for it as for real data, unless a loop depends on it.

    Args:
        inputs: What the model takes. Unknown dimensions become 1.
        seed: Seed of the generator.

    Returns:
        Input name to array with batch axis: floats in [-1, 1), stored integers over the whole range of a quantised
        input, and 0 or 1 for plain integers, which are valid as index, length and token alike.

    Raises:
        DataError: An input takes strings.
    """
    generator = np.random.default_rng(seed)
    return {name: _random(name, spec, generator) for name, spec in inputs.items()}


def example_feeds(
    stored: Iterable[examples.Example],
    user_functions: functions.UserFunctions,
    inputs: Mapping[str, TensorSpec],
    limit: int,
) -> Sequence[Feed]:
    """Makes feeds of the first examples, as the app would feed them to the edge model.

    Args:
        stored: The examples.
        user_functions: The user's functions.
        inputs: What the edge model takes.
        limit: Number of feeds to make at most.

    Raises:
        DataError: There is no example, or it does not fit the model.
        ModuleError: A user's function failed.
    """
    feeds = [user_functions.edge_inputs(example, inputs) for example in itertools.islice(stored, limit)]
    if not feeds:
        raise errors.DataError("there are no examples to profile with: give a split that has some, or none at all")
    return feeds


def _random(name: str, spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    shape = tuple(1 if d < 0 else d for d in spec.shape)
    if spec.dtype.kind in "fc":
        return generator.uniform(-1, 1, shape).astype(spec.dtype)
    if spec.dtype.kind in "iu" and spec.quantization:
        limits = np.iinfo(spec.dtype)
        return generator.integers(limits.min, limits.max, shape, spec.dtype, endpoint=True)
    if spec.dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(spec.dtype)
    raise errors.DataError(f"there are no random values for input {name} of type {spec.dtype}: give real inputs")
