"""Which examples the converter measures the ranges of the activations on."""

import random
from collections.abc import Iterable, Mapping

from edge_exray import errors
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import Inputs, UserFunctions
from edge_exray.models.tensors import TensorSpec


def sample(
    examples: Iterable[Example],
    functions: UserFunctions,
    specs: Mapping[str, TensorSpec],
    count: int,
    seed: int = 0,
    *,
    source: str = "the calibration set",
) -> list[Inputs]:
    """Draws a uniform sample of the examples and makes model inputs of it.

    Reservoir sampling, algorithm R (Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985): one pass,
    and every example of every shard is taken with the same probability however many there are.

    Args:
        examples: All examples of the calibration splits.
        functions: Their `calibration_inputs_fn` is applied to the sample only.
        specs: Inputs of the cloud model.
        count: Size of the sample; fewer examples are all taken.
        seed: The same seed and examples give the same sample.
        source: Where the examples come from, for messages.

    Returns:
        One mapping of input name to array with a batch axis of 1 per example, in the order of the examples.

    Raises:
        DataError: There are no examples, or one lacks a feature.
        ModuleError: A function failed or returned something that does not fit the model.
        SpecError: `count` is not positive.
    """
    if count < 1:
        raise errors.SpecError(f"a calibration needs at least one example, was asked for {count}")
    generator = random.Random(seed)
    reservoir: list[tuple[int, Example]] = []
    for position, example in enumerate(examples):
        if position < count:
            reservoir.append((position, example))
        elif (slot := generator.randrange(position + 1)) < count:
            reservoir[slot] = (position, example)
    if not reservoir:
        raise errors.DataError(f"{source} has no examples: quantizing activations needs some real ones")
    reservoir.sort(key=lambda drawn: drawn[0])
    return [functions.calibration_inputs(example, specs) for _, example in reservoir]
