"""Wall times of whole inferences, and of each op through the hook."""

import statistics
import time
from collections.abc import Sequence

from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.feeds import Feed
from edge_exray.profiling.hook import NULL_INVOKE, Invoke, OpHook, Step

_NS_PER_MS = 1e6
_CALIBRATION_CALLS = 2000
# A model of some microseconds would be measured before caches and clock frequency have settled.
_MIN_WARMUP_SECONDS = 0.05


def time_inferences(model: EdgeModel, feeds: Sequence[Feed], *, runs: int, warmup_runs: int) -> list[float]:
    """Times whole inferences, without the copying of inputs and outputs.

    Args:
        model: The model.
        feeds: Inputs with batch axis; the runs go round them.
        runs: Inferences to time.
        warmup_runs: Inferences before these, and more until a twentieth of a second has passed.

    Returns:
        Wall time of each timed inference in milliseconds.

    Raises:
        ModelError: The model does not run.
        DataError: A feed does not fit the model.
    """
    # Any failure of a kernel is reported by this first one, which also counts as warm-up.
    model.infer(feeds[0])
    invoke, clock = model.interpreter.invoke, time.perf_counter_ns
    end_of_warmup = time.monotonic() + _MIN_WARMUP_SECONDS
    while warmup_runs > 0 or time.monotonic() < end_of_warmup:
        invoke()
        warmup_runs -= 1
    times = []
    for i in range(runs):
        model.set_inputs(feeds[i % len(feeds)])
        start = clock()
        invoke()
        times.append((clock() - start) / _NS_PER_MS)
    return times


def time_ops(
    model: EdgeModel, hook: OpHook, feeds: Sequence[Feed], *, runs: int, warmup_runs: int
) -> dict[Step, float]:
    """Times each step of the execution plan.

    Args:
        model: A model that was made with the hook.
        hook: The hook.
        feeds: Inputs with batch axis, all of the same shapes; the runs go round them.
        runs: Inferences to time.
        warmup_runs: Inferences before these.

    Returns:
        Step to the median of its times in milliseconds, less what calling from the hook costs.

    Raises:
        ProfilingError: See `OpHook.wrap`.
    """
    # Tensors take the shape of the feeds before the nodes are wrapped: a resize makes new nodes.
    model.set_inputs(feeds[0])
    spans: dict[Step, list[int]] = {}
    with hook.wrap(model.interpreter, lambda step, invoke: _timed(invoke, spans.setdefault(step, []))):
        time_inferences(model, feeds, runs=runs, warmup_runs=warmup_runs)
    cost = _call_cost()
    # A difference below the clock's tick is noise; one tick keeps shares defined.
    return {step: max(statistics.median(span[-runs:]) - cost, 1.0) / _NS_PER_MS for step, span in spans.items()}


def _timed(invoke: Invoke, span: list[int]) -> Invoke:
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
