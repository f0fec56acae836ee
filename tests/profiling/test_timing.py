"""How often things are run, and in what order, on a simulated clock."""

import itertools

import numpy as np
import pytest

from edge_exray.diagnosis.report import Verdict
from edge_exray.profiling import budget, intervals, profiler, timing
from edge_exray.profiling.spec import ProfileSpec


class Machine:
    """A clock that only moves when something runs, and what ran, in order."""

    def __init__(self):
        self.seconds = 0.0
        self.ran = []

    def clock(self):
        return self.seconds


class Simulated:
    """A timer whose runs take the milliseconds that it is given, the last of them for ever."""

    def __init__(self, machine, name, *times):
        self._machine, self._name = machine, name
        self._times = itertools.chain(times, itertools.repeat(times[-1]))

    def _run(self, what):
        self._machine.ran.append((self._name, what))
        ms = next(self._times)
        self._machine.seconds += ms / 1e3
        return ms

    def warm(self):
        return self._run("warm")

    def time(self, runs):
        return [self._run("timed") for _ in range(runs)]


def plan(runs, max_runs=10_000, max_seconds=1e9):
    return timing.Plan(runs, max_runs, max_seconds)


def test_models_are_timed_in_turn_in_alternating_order_each_block_after_an_uncounted_run():
    machine = Machine()
    timers = [Simulated(machine, name, 1) for name in "ab"]
    blocks = timing.interleave(timers, plan(20), lambda timed: True, machine.clock)
    assert [[len(block) for block in model] for model in blocks] == [[2] * 10] * 2
    per_block = ["warm", "timed", "timed"]
    a, b = [("a", what) for what in per_block], [("b", what) for what in per_block]
    assert machine.ran[:12] == [*a, *b, *b, *a]


def test_a_model_alone_is_timed_from_the_first_run_on():
    machine = Machine()
    timing.interleave([Simulated(machine, "a", 1)], plan(7), lambda timed: True, machine.clock)
    assert machine.ran == [("a", "timed")] * 7


def test_runs_go_on_until_they_suffice():
    machine = Machine()
    asked = []

    def is_enough(timed):
        asked.append(sum(map(len, timed[0])))
        return asked[-1] >= 60

    [blocks] = timing.interleave([Simulated(machine, "a", 1)], plan(20), is_enough, machine.clock)
    assert asked == [20, 30, 46, 70]
    assert sum(map(len, blocks)) == 70


@pytest.mark.parametrize(("max_runs", "max_seconds", "runs"), [(33, 1e9, 33), (20, 1e9, 20), (10_000, 0.0495, 50)])
def test_runs_end_at_the_bounds_though_they_do_not_suffice(max_runs, max_seconds, runs):
    machine = Machine()
    [blocks] = timing.interleave(
        [Simulated(machine, "a", 1)], plan(20, max_runs, max_seconds), lambda timed: False, machine.clock
    )
    assert sum(map(len, blocks)) == runs


@pytest.mark.parametrize("names", ["a", "ab"])
def test_fast_models_are_timed_in_blocks_that_are_spread_over_the_least_time(names):
    machine = Machine()
    timers = [Simulated(machine, name, 0.02) for name in names]
    [blocks, *_] = timing.interleave(
        timers, timing.Plan(50, 2000, 20, min_seconds=1), lambda timed: True, machine.clock
    )
    assert sum(map(len, blocks)) == 2000
    assert machine.seconds == pytest.approx(1, rel=0.01)
    timed = [i for i, (name, what) in enumerate(machine.ran) if (name, what) == ("a", "timed")]
    # All the while as many as at any other time.
    halves = np.histogram(timed, [0, len(machine.ran) / 2, len(machine.ran)])[0]
    assert halves[0] == pytest.approx(halves[1], rel=0.05)


def test_slow_models_are_timed_no_longer_for_the_least_time_and_a_time_limit_goes_before_it():
    machine = Machine()
    [blocks] = timing.interleave(
        [Simulated(machine, "a", 40)], timing.Plan(50, 2000, 20, min_seconds=1), lambda timed: True, machine.clock
    )
    assert sum(map(len, blocks)) == 50
    machine = Machine()
    timing.interleave(
        [Simulated(machine, "a", 1)], timing.Plan(50, 2000, 0.1, min_seconds=1), lambda timed: False, machine.clock
    )
    assert machine.seconds == pytest.approx(0.1, rel=0.1)


def test_the_fewest_runs_are_made_whatever_they_take():
    machine = Machine()
    [blocks] = timing.interleave([Simulated(machine, "a", 1000)], plan(20, 500, 1), lambda timed: False, machine.clock)
    assert sum(map(len, blocks)) == 20


def test_the_warm_up_ends_when_two_windows_agree():
    machine = Machine()
    timer = Simulated(machine, "a", *[100] * 3, *[50] * 3, *[20] * 3, *[20.5] * 3, 20)
    assert timing.warm_up(timer, 1, 0.05, machine.clock)
    assert len(machine.ran) == 12


def test_the_warm_up_takes_a_while_for_fast_models_and_as_many_runs_as_asked_for():
    machine = Machine()
    assert timing.warm_up(Simulated(machine, "a", 1), 0, 0.05, machine.clock)
    assert 0.05 <= machine.seconds < 0.06
    machine = Machine()
    assert timing.warm_up(Simulated(machine, "a", 1), 100, 0.05, machine.clock)
    assert 100 <= len(machine.ran) < 106


def test_a_warm_up_that_does_not_come_to_rest_is_given_up_and_told():
    machine = Machine()
    timer = Simulated(machine, "a", *[ms for _ in range(1000) for ms in (10, 10, 10, 20, 20, 20)])
    assert not timing.warm_up(timer, 1, 0.05, machine.clock)
    assert 2 <= machine.seconds < 2.1


class Loaded:
    """A timer on a machine that drifts, and on which other processes take the processor for a while now and then."""

    def __init__(self, machine, rng, ms):
        self._machine, self._rng, self._ms = machine, rng, ms

    def warm(self):
        # The load changes slowly beside the runs, by half within a second or so, and hits whoever runs.
        load = 1.5 + 0.5 * np.sin(self._machine.seconds) + (self._machine.seconds // 0.3 % 3 == 0)
        stolen = self._rng.choice([0.0, 4.0], p=[0.7, 0.3])
        ms = self._ms * load * self._rng.lognormal(0, 0.05) + stolen
        self._machine.seconds += ms / 1e3
        return ms

    def time(self, runs):
        return [self.warm() for _ in range(runs)]


@pytest.mark.parametrize(("ms", "never"), [(2.0, Verdict.FAILED), (2.2, Verdict.PASSED)], ids=["same", "slower"])
def test_a_loaded_machine_does_not_falsify_a_comparison(ms, never):
    spec = ProfileSpec(max_latency_growth=1.05)
    rng = np.random.default_rng(3)
    verdicts = []
    for _ in range(12):
        machine = Machine()
        timed = timing.interleave(
            [Loaded(machine, rng, ms), Loaded(machine, rng, 2.0)],
            profiler.plan(spec),
            lambda blocks: profiler.suffices(dict(zip(("edge", "baseline"), blocks, strict=True)), spec),
            machine.clock,
        )
        _, interval = intervals.ratio_interval(*timed, spec.confidence)
        verdicts.append(budget.judge(interval, spec.max_latency_growth))
    assert never not in verdicts
    assert verdicts.count(Verdict.INCONCLUSIVE) <= 1
