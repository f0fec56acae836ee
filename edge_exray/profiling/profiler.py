"""Times one edge model: the whole inference undisturbed, then each op through the hook.

Profiling costs time itself and, with XNNPACK, keeps the delegate from fusing ops. So the whole is measured first on
an interpreter that is as plain as the app's, and the times of the ops are scaled to add up to that:
`ms_i = raw_i * p50 / sum(raw)`, where `raw_i` is the median over the runs less what the hook's own call costs.
"""

import os
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from edge_exray import errors
from edge_exray.models import locations
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.feeds import Feed, random_feed
from edge_exray.profiling.footprint import measure_footprint
from edge_exray.profiling.hook import OpHook, Step
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime
from edge_exray.profiling.timing import time_inferences, time_ops


def profile_model(
    model_path: str | os.PathLike[str],
    *,
    role: str = "edge",
    feeds: Sequence[Feed] | None = None,
    kernels: str = "xnnpack",
    num_threads: int = 1,
    runs: int = 50,
    warmup_runs: int = 5,
) -> ModelProfile:
    """Profiles a .tflite on this machine.

    Args:
        model_path: The file.
        role: See `ModelProfile`.
        feeds: Inputs with batch axis, all of the same shapes, real values for quantised inputs; the runs go
            round them. None makes a random one.
        kernels: See `EdgeModel`.
        num_threads: Threads of the interpreter.
        runs: Inferences to time, without the hook and again with it.
        warmup_runs: Inferences before the timed ones.

    Raises:
        ModelError: The model does not load or run.
        DataError: The feeds do not fit the model.
        ProfilingError: The ops cannot be timed, or the kernels abort.
    """
    locations.check_tflite(model_path)
    # First, because kernels that abort shall take the child with them and not this process.
    footprint = measure_footprint(model_path, kernels, num_threads)
    plain = EdgeModel(model_path, kernels=kernels, num_threads=num_threads)
    if not plain.graph.ops:
        raise errors.ProfilingError(f"{plain.path} has no op: there is nothing to profile")
    feeds = [random_feed(plain.inputs)] if feeds is None else feeds
    _check_shapes(feeds)
    wall = time_inferences(plain, feeds, runs=runs, warmup_runs=warmup_runs)
    p50, p90, p99 = (float(p) for p in np.percentile(wall, (50, 90, 99)))

    hook = OpHook(num_threads)
    # Without the flag XNNPACK takes the whole graph as one op; the other kernels need no flag.
    preserve = kernels == "xnnpack"
    hooked = EdgeModel(
        model_path, kernels=kernels, num_threads=num_threads, preserve_tensors=preserve, delegates=[hook]
    )
    steps = time_ops(hooked, hook, feeds, runs=runs, warmup_runs=warmup_runs)
    return ModelProfile(
        role=role,
        path=plain.path,
        bytes=plain.bytes,
        kernels=kernels,
        num_threads=num_threads,
        profiler="hook",
        latency_ms=Latency(p50, p90, p99, statistics.fmean(wall), runs),
        init_ms=footprint.init_ms,
        memory_bytes=footprint.memory_bytes,
        ops=_op_times(plain, steps, p50, kernels),
    )


def _check_shapes(feeds: Sequence[Feed]) -> None:
    if not feeds:
        raise errors.DataError("there are no inputs to profile with: give some, or None for random ones")
    shapes = [{name: np.shape(value) for name, value in feed.items()} for feed in feeds]
    for shape in shapes:
        if shape != shapes[0]:
            raise errors.DataError(
                f"the inputs to profile with differ in shape ({shapes[0]} and {shape}): profile one shape at a time"
            )


def _op_times(model: EdgeModel, steps: Mapping[Step, float], wall_ms: float, kernels: str) -> list[OpTime]:
    graph = model.graph
    by_outputs = {frozenset(op.outputs): op.index for op in graph.ops}
    timed: dict[int, tuple[str, float]] = {}
    for step, raw_ms in steps.items():
        if step.is_delegated:
            index, kernel = by_outputs.get(frozenset(step.outputs)), "xnnpack"
        else:
            index, kernel = step.node, "reference" if kernels == "reference" else "builtin"
        if index is None or index in timed:
            raise errors.ProfilingError(
                f"{model.path}: cannot tell which op the delegate runs that writes the tensors {list(step.outputs)}; "
                "profile with builtin kernels"
            )
        timed[index] = kernel, raw_ms
    for op in graph.ops:
        if op.index not in timed and not graph.is_folded(op):
            raise errors.ProfilingError(
                f"{model.path}: the {kernels} kernels do not run op {op.index}, {op.name}, by itself; "
                "profile with builtin kernels"
            )
    total = sum(raw_ms for _, raw_ms in timed.values())
    times = []
    for op in graph.ops:
        kernel, raw_ms = timed.get(op.index, ("folded", 0.0))
        name = graph.tensors[op.outputs[0]].spec.name if op.outputs else ""
        times.append(OpTime(op.index, op.name, name, kernel, raw_ms / total * wall_ms, raw_ms, raw_ms / total))
    return times
