"""Times one edge model: the whole inference undisturbed, then each op through the hook.

Profiling costs time itself and, with XNNPACK, keeps the delegate from fusing ops. So the whole is measured first on
an interpreter that is as plain as the app's, and the times of the ops are scaled to add up to that:
`ms_i = raw_i * p50 / sum(raw)`, where `raw_i` is the median over the runs less what the hook's own call costs.
"""

import dataclasses
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
from edge_exray.profiling.timing import time_inferences, time_ops


@dataclasses.dataclass(frozen=True)
class Latency:
    """Wall time of whole inferences in milliseconds, inputs already in place."""

    p50: float
    p90: float
    p99: float
    mean: float
    runs: int


@dataclasses.dataclass(frozen=True)
class OpTime:
    """Time of one op.

    Attributes:
        index: Index of the op in the edge graph.
        op: TFLite op name, for example `"CONV_2D"`.
        name: Name of the op's main output tensor.
        kernel: What ran it: `"xnnpack"`, `"builtin"`, `"reference"`, or `"folded"` when it does not run at all
            because the delegate computed its constant result once.
        ms: Median time, scaled so that all ops add up to the p50 of the undisturbed inference.
        raw_ms: Median time as the hook measured it, less the cost of the hook's own call.
        share: `ms` as share of the inference, in [0, 1].
    """

    index: int
    op: str
    name: str
    kernel: str
    ms: float
    raw_ms: float
    share: float

    @property
    def short_name(self) -> str:
        """The name of the layer that a fused op ends with; the converter joins the names of all with `;`."""
        return self.name.split(";")[0]


@dataclasses.dataclass(frozen=True)
class ModelProfile:
    """What one model costs on one set of kernels.

    Attributes:
        role: `"edge"`, `"float_edge"`, or any other name for a model that is only compared with.
        path: Where the model is.
        bytes: Size of the file.
        kernels, num_threads: What it ran on.
        profiler: How the ops were timed.
        latency_ms: Undisturbed inferences.
        init_ms, memory_bytes: See `Footprint`.
        ops: In the order of the graph.
    """

    role: str
    path: str
    bytes: int
    kernels: str
    num_threads: int
    profiler: str
    latency_ms: Latency
    init_ms: float
    memory_bytes: int
    ops: list[OpTime]

    @property
    def conditions(self) -> str:
        """What the figures hold for, in words."""
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        return f"{self.kernels} kernels, {threads}, {self.latency_ms.runs} runs"

    def slowest(self, count: int) -> list[OpTime]:
        """Returns the ops that take the longest, slowest first."""
        return sorted(self.ops, key=lambda op: op.ms, reverse=True)[:count]


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
