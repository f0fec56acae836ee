"""Replaying a stream of examples in this process."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from edge_exray import errors
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay import result
from edge_exray.replay.replayer import ALIGNMENT_FRAMES, ModelPaths, Prediction, Replayer, describe_models
from edge_exray.replay.statistics import ReplayStatistics


def replay(
    paths: ModelPaths,
    examples: Iterable[Example],
    out: str | os.PathLike[str],
    *,
    functions: UserFunctions | None = None,
    slice_keys: Sequence[str] = (),
    progress: Callable[[Iterable[Example]], Iterable[Example]] = iter,
) -> result.ReplayResult:
    """Runs all models over all examples and stores what was learned.

    Args:
        paths: The models.
        examples: The examples, read once and one at a time.
        out: Directory to write; it appears when the replay is complete.
        functions: Preprocessing, labels and ids; the defaults take features by name.
        slice_keys: Features whose values name slices.
        progress: Wraps the examples, for example with a progress bar.

    Returns:
        The stored result.

    Raises:
        DataError: There are no examples, or they do not fit the models.
        ModelError: A model does not load or run, or the models do not pair.
        ModuleError: A user function failed.
    """
    functions = functions or UserFunctions()
    replayer = Replayer(paths)
    stream = iter(progress(examples))
    first = list(itertools.islice(stream, ALIGNMENT_FRAMES))
    alignment = replayer.align(head_frames(replayer, functions, first))
    statistics = ReplayStatistics()

    def predictions() -> Iterator[Prediction]:
        for example in itertools.chain(first, stream):
            frame = functions.frame(example, replayer.cloud.inputs, replayer.edge.inputs, slice_keys)
            yield replayer.replay(frame, statistics)

    return result.write(out, summary(paths, replayer), alignment, statistics, predictions())


def head_frames(replayer: Replayer, functions: UserFunctions, first: Sequence[Example]) -> list:
    """Returns the frames of the first examples, on which the alignment is confirmed.

    Raises:
        DataError: There are no examples.
    """
    if not first:
        raise errors.DataError("there are no examples to replay: the split or file is empty")
    return [functions.frame(example, replayer.cloud.inputs, replayer.edge.inputs) for example in first]


def summary(paths: ModelPaths, replayer: Replayer) -> dict:
    """Returns the content of `replay.json` for these models."""
    quantization = "float edge model against edge model on the reference inputs"
    if not replayer.is_quantized:
        quantization = "not run: the edge model is its own float twin, nothing was quantised"
    legs = {
        "conversion": "cloud model against float edge model on the reference inputs",
        "quantization": quantization,
        "kernel": "not run: only production kernels were used",
        "preprocessing": "edge model on the reference inputs against edge model on the edge inputs",
    }
    outputs = {name: list(spec.shape) for name, spec in replayer.cloud.outputs.items()}
    document = result.summarize(describe_models(paths, replayer), outputs, replayer.input_ranges(), legs)
    return document | {"own_error": replayer.own_error.to_dict()}
