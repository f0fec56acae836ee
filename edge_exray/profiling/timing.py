"""Wall times of whole inferences: after a warm-up that came to rest, and several models in turn.

A machine drifts: other processes come and go, the clock follows the temperature. Models that are compared are
therefore timed in alternating blocks of some runs each, so that what slows the machine down hits all of them alike.
A clock also steps, and a neighbour comes for a moment: a model of some microseconds could be timed as often as asked
for while the machine has one of its speeds. The blocks are therefore spread over a while.
"""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.feeds import Feed

Blocks = list[list[float]]
Clock = Callable[[], float]

_NS_PER_MS = 1e6
# Blocks that the fewest runs are cut into: the median of ten pairs has an interval of 95 %, that of five has none.
_FIRST_BLOCKS = 10
# How much more runs there are each time before it is asked whether they suffice: every look is a chance to be wrong.
_GROWTH = 1.5
# A model of some microseconds would be measured before caches and clock frequency have settled.
_MIN_WARMUP_SECONDS = 0.05
_MAX_WARMUP_SECONDS = 2.0
_WINDOW = 3


class Timer(Protocol):
    """Something that can be run and timed over and over."""

    def time(self, runs: int) -> list[float]:
        """Returns the wall times of further runs in milliseconds."""
        ...

    def warm(self) -> float:
        """Runs once without counting it; returns the milliseconds that it took."""
        ...


class InferenceTimer:
    """Times whole inferences of a model, without the copying of inputs and outputs.

    Args:
        model: The model.
        feeds: Inputs with batch axis, all of the same shapes; the runs go round them.

    Raises:
        ModelError: The model does not run.
        DataError: A feed does not fit the model.
    """

    def __init__(self, model: EdgeModel, feeds: Sequence[Feed]) -> None:
        self._model = model
        self._feeds = feeds
        self._runs = 0
        self._wall_ns = self._processor_ns = 0
        # Any failure of a kernel is reported by this first one.
        model.infer(feeds[0])

    @property
    def stolen_share(self) -> float:
        """Share of the time, in [0, 1], during which the calling thread wanted to run and had no processor."""
        return min(max(1 - self._processor_ns / self._wall_ns, 0.0), 1.0) if self._wall_ns else 0.0

    def time(self, runs: int) -> list[float]:
        """See `Timer`."""
        invoke, clock = self._model.interpreter.invoke, time.perf_counter_ns
        times = []
        wall, processor = clock(), time.thread_time_ns()
        for _ in range(runs):
            self._model.set_inputs(self._feeds[self._runs % len(self._feeds)])
            self._runs += 1
            start = clock()
            invoke()
            times.append((clock() - start) / _NS_PER_MS)
        self._processor_ns += time.thread_time_ns() - processor
        self._wall_ns += clock() - wall
        return times

    def warm(self) -> float:
        """See `Timer`."""
        start = time.perf_counter_ns()
        self._model.interpreter.invoke()
        return (time.perf_counter_ns() - start) / _NS_PER_MS


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often to run.

    Attributes:
        runs: Fewest runs.
        max_runs: Most runs; the same as `runs` for a fixed number.
        max_seconds: Time after which there are no more than the fewest runs.
        min_seconds: Time over which the runs are spread at least, as far as `max_seconds` has room for it.
    """

    runs: int
    max_runs: int
    max_seconds: float
    min_seconds: float = 0.0


def warm_up(timer: Timer, runs: int, tolerance: float, clock: Clock = time.monotonic) -> bool:
    """Runs until the times have come to rest.

    They have when the medians of two windows of three runs that follow each other differ by no more than the
    tolerance.

    Args:
        timer: What to run.
        runs: Fewest runs. The warm-up also takes a twentieth of a second at least.
        tolerance: Largest difference of two medians relative to the later one.
        clock: Seconds.

    Returns:
        False when they have not come to rest within two seconds, two windows and the fewest runs.
    """
    start = clock()
    before, done = math.inf, 0
    while True:
        now = statistics.median(timer.warm() for _ in range(_WINDOW))
        done += _WINDOW
        seconds = clock() - start
        if abs(now - before) <= tolerance * now and seconds >= _MIN_WARMUP_SECONDS and done >= runs:
            return True
        if seconds >= _MAX_WARMUP_SECONDS and done >= max(runs, 2 * _WINDOW):
            return False
        before = now


def interleave(
    timers: Sequence[Timer], plan: Plan, is_enough: Callable[[Sequence[Blocks]], bool], clock: Clock = time.monotonic
) -> list[Blocks]:
    """Times several things in turn, block by block, the second time in reverse order and so on.

    The first run of a block finds the caches full of another model, as no app does: it is made and not counted. Rounds
    of blocks are so far apart that the most runs take the least time; meanwhile all run on, uncounted, because a
    processor that idles falls asleep.

    Args:
        timers: What to time.
        plan: How often.
        is_enough: Given the blocks so far, says whether they suffice. It is asked after the fewest runs and the least
            time, and again each time there are half as many more.
        clock: Seconds.

    Returns:
        For each timer its blocks of wall times in milliseconds, equally many of equal length for all.
    """
    timed: list[Blocks] = [[] for _ in timers]
    size = math.ceil(plan.runs / _FIRST_BLOCKS)
    span = min(plan.min_seconds, plan.max_seconds)
    apart = span / math.ceil(plan.max_runs / size)
    start = clock()
    done, goal = 0, plan.runs
    while True:
        while done < goal:
            _idle(timers, start + apart * len(timed[0]), clock)
            runs = min(size, goal - done)
            order = range(len(timers)) if len(timed[0]) % 2 == 0 else reversed(range(len(timers)))
            for i in order:
                if len(timers) > 1:
                    timers[i].warm()
                timed[i].append(timers[i].time(runs))
            done += runs
            if done >= plan.runs and clock() - start >= plan.max_seconds:
                return timed
        if done >= plan.max_runs:
            return timed
        if clock() - start >= span:
            if is_enough(timed):
                return timed
            goal = min(math.ceil(done * _GROWTH / size) * size, plan.max_runs)
        else:
            goal = min(goal + size, plan.max_runs)


def _idle(timers: Sequence[Timer], until: float, clock: Clock) -> None:
    """Runs without counting until it is time."""
    for timer in itertools.cycle(timers):
        if clock() >= until:
            return
        timer.warm()
