"""Which examples the converter measures the ranges of the activations on."""

import collections
import itertools
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
    """Draws a sample of the examples, the same number of each class, and makes model inputs of it.

    Reservoir sampling, algorithm R (Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985), with a reservoir
    for each class: one pass, and of one class every example of every shard is taken with the same probability. Classes
    that are too rare give all that they have, and leave the rest to the others. Examples whose class is not known are
    one class of their own.

    Args:
        examples: All examples of the calibration splits.
        functions: Their `calibration_inputs_fn` is applied to the sample only, their `label_fn` to all examples.
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
    reservoirs: dict[int | None, list[tuple[int, Example]]] = collections.defaultdict(list)
    seen: collections.Counter[int | None] = collections.Counter()
    total = 0
    for position, example in enumerate(examples):
        label = functions.class_of(example)
        reservoir = reservoirs[label]
        seen[label] += 1
        if len(reservoir) == seen[label] - 1:
            # Nothing of this class was given away yet, so that it may grow, at the cost of the largest.
            reservoir.append((position, example))
            total += 1
            if total > count:
                largest = max(reservoirs.values(), key=len)
                largest.pop(generator.randrange(len(largest)))
                total -= 1
        elif (slot := generator.randrange(seen[label])) < len(reservoir):
            reservoir[slot] = (position, example)
    if not total:
        raise errors.DataError(f"{source} has no examples: quantizing activations needs some real ones")
    drawn = sorted(itertools.chain.from_iterable(reservoirs.values()), key=lambda kept: kept[0])
    return [functions.calibration_inputs(example, specs) for _, example in drawn]
