"""What every way of timing single ops has in common, and the first of them, the hook."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_exray import errors
from edge_exray.models.graph import Graph
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.feeds import Feed
from edge_exray.profiling.hook import NULL_INVOKE, Invoke, OpHook, Step
from edge_exray.profiling.timing import Blocks, InferenceTimer, Timer

_NS_PER_MS = 1e6
_CALIBRATION_CALLS = 2000


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is profiled.

    Attributes:
        model: The model, as plain as the app has it.
        feeds: Inputs with batch axis, all of the same shapes.
        kernels, num_threads, signature: See `EdgeModel`.
    """

    model: EdgeModel
    feeds: Sequence[Feed]
    kernels: str
    num_threads: int
    signature: str | None

    @property
    def graph(self) -> Graph:
        """The static graph of the model."""
        return self.model.graph

    @property
    def op_kernel(self) -> str:
        """The kernel of an op that no delegate runs."""
        return "reference" if self.kernels == "reference" else "builtin"


@dataclasses.dataclass(frozen=True)
class OpSample:
    """Measured times of one op.

    Attributes:
        kernel: See `OpTime`.
        blocks: Milliseconds of each run, block by block.
    """

    kernel: str
    blocks: Blocks

    @property
    def median(self) -> float:
        """The median of all runs in milliseconds."""
        return statistics.median(ms for block in self.blocks for ms in block)


class OpProfiler(Timer, Protocol):
    """Runs a model and times its ops meanwhile; `time` is what the whole takes while that is done.

    Attributes:
        name: See `ModelProfile.profiler`.
    """

    name: str

    def op_samples(self) -> dict[int, OpSample]:
        """Returns index of the op to its times in all runs that were counted.

        Raises:
            ProfilingError: The times cannot be told from each other.
        """
        ...

    def forget(self) -> None:
        """Drops the times so far."""
        ...

    def close(self) -> None:
        """Takes everything off the model again."""
        ...


class HookProfiler:
    """Times every op through `OpHook`.

    Args:
        subject: What to profile.
        around: Given a step and the runtime's function, returns what to time in its place; see `OpHook.wrap`. It lets
            one try what a profile says of an op that is slower than it was.

    Raises:
        ProfilingError: See `OpHook.wrap`.
    """

    name = "hook"

    def __init__(self, subject: Subject, around: Callable[[Step, Invoke], Invoke] = lambda _, invoke: invoke) -> None:
        self._subject = subject
        hook = OpHook(subject.num_threads)
        model = EdgeModel(
            # Not the path: a signature may have made another graph the first one.
            subject.model.content,
            kernels=subject.kernels,
            num_threads=subject.num_threads,
            # Without the flag XNNPACK takes the whole graph as one op; the other kernels need no flag.
            preserve_tensors=subject.kernels == "xnnpack",
            signature=subject.signature,
            delegates=[hook],
        )
        self._timer = InferenceTimer(model, subject.feeds)
        self._spans: dict[Step, list[int]] = {}
        self._blocks: dict[Step, list[list[int]]] = {}
        self._wrapped = contextlib.ExitStack()
        # Only now that the tensors have the shape of the feeds: a resize makes new nodes.
        self._wrapped.enter_context(
            hook.wrap(
                model.interpreter,
                lambda step, invoke: _timed(around(step, invoke), self._spans.setdefault(step, [])),
            )
        )

    def warm(self) -> float:
        """See `Timer`."""
        return self._timer.warm()

    def time(self, runs: int) -> list[float]:
        """See `Timer`."""
        for span in self._spans.values():
            span.clear()
        times = self._timer.time(runs)
        for step, span in self._spans.items():
            self._blocks.setdefault(step, []).append(list(span))
        return times

    def forget(self) -> None:
        """See `OpProfiler`."""
        self._blocks.clear()

    def close(self) -> None:
        """See `OpProfiler`."""
        self._wrapped.close()

    def op_samples(self) -> dict[int, OpSample]:
        """See `OpProfiler`."""
        cost = _call_cost()
        by_outputs = {frozenset(op.outputs): op.index for op in self._subject.graph.ops}
        samples: dict[int, OpSample] = {}
        for step, blocks in self._blocks.items():
            if step.is_delegated:
                index, kernel = by_outputs.get(frozenset(step.outputs)), "xnnpack"
            else:
                index, kernel = step.node, self._subject.op_kernel
            if index is None or index in samples:
                raise errors.ProfilingError(
                    f"{self._subject.model.path}: cannot tell which op the delegate runs that writes the tensors "
                    f"{list(step.outputs)}; profile with builtin kernels"
                )
            # A difference below the clock's tick is noise; one tick keeps shares defined.
            times = [[max(ns - cost, 1.0) / _NS_PER_MS for ns in block] for block in blocks]
            samples[index] = OpSample(kernel, times)
        return samples


def _timed(invoke: Invoke, span: list[int]) -> Invoke:
    """Returns a function that calls another one and appends the nanoseconds that it took to a list."""
    clock = time.perf_counter_ns

    def call(context: int, node: int) -> int:
        start = clock()
        status = invoke(context, node)
        span.append(clock() - start)
        return status

    return call


def _call_cost() -> float:
    """Returns the median time in nanoseconds that a timed call takes whose function does nothing."""
    span: list[int] = []
    call = _timed(NULL_INVOKE, span)
    for _ in range(_CALIBRATION_CALLS):
        call(0, 0)
    return statistics.median(span)
