"""Replaying a stream of examples in this process."""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from edge_exray import errors
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import Frame, UserFunctions
from edge_exray.linting.linter import lint_graph
from edge_exray.replay import result
from edge_exray.replay.device_logs import DeviceLogs
from edge_exray.replay.failures import FrameFailures
from edge_exray.replay.replayer import ALIGNMENT_FRAMES, ModelPaths, Prediction, Replayer, describe_models
from edge_exray.replay.statistics import ReplayStatistics
from edge_exray.replay.tally import Tally, TallyOptions

Stream = Iterable[Example | errors.DataError]


def replay(
    paths: ModelPaths,
    examples: Stream,
    out: str | os.PathLike[str],
    *,
    functions: UserFunctions | None = None,
    options: TallyOptions | None = None,
    logs: DeviceLogs | None = None,
    progress: Callable[[Stream], Stream] = iter,
) -> result.ReplayResult:
    """Runs all models over all examples and stores what was learned.

    Args:
        paths: The models.
        examples: The examples, read once and one at a time; an error in the place of one is a frame that failed.
        out: Directory to write; it appears when the replay is complete.
        functions: Preprocessing, labels and ids; the defaults take features by name.
        options: Slices, how many frames may fail, and what is kept of the frames.
        logs: The logs that the examples come from.
        progress: Wraps the examples, for example with a progress bar.

    Returns:
        The stored result.

    Raises:
        DataError: There are no examples, they do not fit the models, or more frames failed than may.
        ModelError: A model does not load or run, or the models do not pair.
        ModuleError: A user function failed.
    """
    functions, options = functions or UserFunctions(), options or TallyOptions()
    replayer = Replayer(paths)
    stream = iter(progress(examples))
    first: list[Example | errors.DataError] = []
    alignment = replayer.align(head_frames(replayer, functions, stream, options, first))
    tally = Tally(replayer, functions, options)

    def predictions() -> Iterator[Prediction]:
        for number, example in enumerate(itertools.chain(first, stream)):
            prediction = tally.replay(example, f"#{number}")
            if prediction is not None:
                yield prediction

    head = functools.partial(summary, paths, replayer, tally.failures, tally.statistics, logs)
    try:
        return result.write(out, head, alignment, tally, predictions())
    finally:
        replayer.close()


def head_frames(
    replayer: Replayer,
    functions: UserFunctions,
    examples: Stream,
    options: TallyOptions,
    taken: list[Example | errors.DataError] | None = None,
) -> list[Frame]:
    """Returns the first frames that run, on which the alignment is confirmed.

    Args:
        replayer: The models.
        functions: The user's functions.
        examples: The examples; no more are read than it takes.
        options: Says how many frames may fail.
        taken: The examples that were read are added here.

    Raises:
        ExrayError: There is no example, no frame runs, or more frames fail than may.
    """
    frames: list[Frame] = []
    failures: list[errors.ExrayError] = []
    for example in examples:
        if taken is not None:
            taken.append(example)
        try:
            if isinstance(example, errors.DataError):
                raise example
            frame = replayer.frame(example, functions)
            for model in (replayer.cloud, replayer.float_edge, replayer.edge):
                model.infer(frame.reference)
        except errors.ExrayError as e:
            failures.append(e)
            if len(failures) > options.max_failed_frames:
                raise
            continue
        frames.append(frame)
        if len(frames) == ALIGNMENT_FRAMES:
            break
    if not frames:
        raise (failures or [errors.DataError("there are no examples to replay: the split or file is empty")])[0]
    return frames


def summary(
    paths: ModelPaths,
    replayer: Replayer,
    failures: FrameFailures,
    statistics: ReplayStatistics,
    logs: DeviceLogs | None = None,
) -> dict[str, Any]:
    """Returns the content of `replay.json` for these models, once all frames have run."""
    leg_frames = statistics.frames()
    quantization = "float edge model against edge model on the reference inputs"
    if not replayer.is_quantized:
        quantization = "not run: the edge model is its own float twin, nothing was quantised"
    legs = {
        "conversion": "cloud model against float edge model on the reference inputs",
        "quantization": quantization,
        "kernel": _kernel_note(replayer),
        "preprocessing": "edge model on the reference inputs against edge model on the edge inputs",
    }
    if logs is not None:
        legs |= _device_notes(legs["kernel"], failures.frames - failures.failed, leg_frames)
    outputs = {name: list(spec.shape) for name, spec in replayer.cloud.outputs.items()}
    document = result.summarize(describe_models(paths, replayer), outputs, replayer.input_ranges(), legs, failures)
    return document | {
        "own_error": replayer.own_error.to_dict(),
        "leg_frames": leg_frames,
        "lint": lint_graph(replayer.edge.graph).to_dict(),
        "input_readers": replayer.input_readers(),
        "input_contract": replayer.contract and replayer.contract.to_dict(),
        "device_logs": logs and logs.to_dict(),
    }


def _device_notes(kernel: str, frames: int, leg_frames: Mapping[str, int]) -> dict[str, str]:
    fed = leg_frames.get("inputs", 0)
    lacking = f" (the other {frames - fed} were logged without inputs)" if fed < frames else ""
    preprocessing = "edge model here on the reference inputs against edge model here on the logged inputs"
    if fed < frames:
        preprocessing += (
            f"; of the {frames - fed} frames that were logged without inputs, against the logged outputs, so that the "
            "device's kernels are in here too"
        )
    return {
        "preprocessing": preprocessing,
        "kernel": (
            "what the device logged against what the edge model computes here on the logged inputs: outputs of "
            f"{fed} frames{lacking}, layers of {leg_frames.get('device_layers', 0)} frames; {kernel}"
        ),
    }


def _kernel_note(replayer: Replayer) -> str:
    if not replayer.sampling.kernels:
        return "not run: no frames were asked for (kernel_frames)"
    if replayer.kernels.obstacle:
        return f"not run: {replayer.kernels.obstacle}"
    return "each op on production kernels against built-in and reference kernels, on the edge model's values"
