"""How true profiles are: times of ops, agreement of profilers, a slow op, the same model twice, a slower twin.

python -m benchmarks.profiling [--root DIR] [--repeats N] [--runs N]

Rows that need a quiet machine are the first three tables; the last one loads the machine itself.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import rich.console
import rich.table
from scipy import stats

from benchmarks import zoo
from edge_exray.diagnosis.report import Verdict
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import budget, feeds, intervals, roofline, timing
from edge_exray.profiling.hook import Invoke, OpHook, Step
from edge_exray.profiling.litert_profiler import LiteRtProfiler
from edge_exray.profiling.op_profiler import HookProfiler, Subject
from edge_exray.profiling.profile import Profile, profile
from edge_exray.profiling.profiler import plan, profile_model, suffices
from edge_exray.profiling.spec import ProfileSpec

NETWORK = "mobilenet_v2_224"
SMALL_NETWORK = "mobilenet_v2_96"
MODES = ("none", "int8")
SHORT_MS = 0.02
GROWTH = 1.05
SLOWER = 1.1
SLEEP_MS = 30.0


def main() -> int:
    """Prints the tables; returns 0 when no verdict of a repeat was wrong."""
    parser = argparse.ArgumentParser(description="Measure how true kernel profiles are.")
    parser.add_argument("--root", type=pathlib.Path, default=zoo.ROOT, help="where the networks are kept")
    parser.add_argument("--repeats", type=int, default=20, help="how often models are compared under load")
    parser.add_argument("--runs", type=int, default=50, help="fewest inferences to time")
    arguments = parser.parse_args()
    console = rich.console.Console(highlight=False, width=140)
    console.print(_ops(arguments.root, arguments.runs))
    console.print(_agreement(arguments.root, arguments.runs))
    console.print(_slow_op(arguments.root, arguments.runs))
    table, mistakes = _twins(arguments.root, arguments.repeats)
    console.print(table)
    return int(mistakes > 0)


def _ops(root: pathlib.Path, runs: int) -> rich.table.Table:
    """Two profiles of each model on each set of kernels."""
    table = _table(
        "model", "kernels", "wall p50 ms", "sum of ops / wall", "after scaling", "overhead", "Spearman of ops > 20 us"
    )
    for mode in MODES:
        for kernels in ("xnnpack", "builtin", "reference"):
            spec = ProfileSpec(kernels=kernels, runs=runs, profiler="hook")
            one, other = (profile_model(zoo.tflite(NETWORK, root, mode), spec) for _ in range(2))
            assert one.profiled_ms is not None
            pairs = [(a.ms, b.ms) for a, b in zip(one.ops, other.ops, strict=True) if a.ms > SHORT_MS]
            table.add_row(
                f"{NETWORK} {mode}",
                kernels,
                f"{one.latency_ms.p50:.4g}",
                f"{sum(op.raw_ms for op in one.ops) / one.latency_ms.p50:.1%}",
                f"{sum(op.ms for op in one.ops) / one.latency_ms.p50:.1%}",
                f"{one.profiled_ms['p50'] / one.latency_ms.p50 - 1:+.1%}",
                f"{stats.spearmanr(*zip(*pairs, strict=True)).statistic:.4f}",
            )
    return table


def _agreement(root: pathlib.Path, runs: int) -> rich.table.Table:
    """The hook against LiteRT's own profiler, both in turn on the same models."""
    table = _table("model", "kernels", "ops compared", "correlation", "median difference")
    for mode in MODES:
        for kernels in ("builtin", "xnnpack"):
            subject = _subject(zoo.tflite(NETWORK, root, mode), kernels)
            with contextlib.closing(HookProfiler(subject)) as hook, contextlib.closing(LiteRtProfiler(subject)) as own:
                _time([hook, own], runs)
                samples, others = hook.op_samples(), own.op_samples()
            pairs = np.array(
                [(samples[i].median, other.median) for i, other in others.items() if other.kernel != "fused"]
            )
            longer = pairs[pairs[:, 1] > SHORT_MS]
            table.add_row(
                f"{NETWORK} {mode}",
                kernels,
                str(len(longer)),
                f"{np.corrcoef(longer.T)[0, 1]:.5f}",
                f"{np.median(np.abs(longer[:, 0] / longer[:, 1] - 1)):.2%}",
            )
    return table


def _slow_op(root: pathlib.Path, runs: int) -> rich.table.Table:
    """One op sleeps: is it the slowest of the profile, and is what it costs what the whole inference takes longer?"""
    table = _table("model", "kernels", "slow op", "named first", "op takes longer by ms", "inference by ms", "error")
    for kernels in ("xnnpack", "builtin"):
        path = zoo.tflite(NETWORK, root, "int8")
        healthy = _subject(path, kernels)
        slow = healthy.graph.ops[len(healthy.graph.ops) // 2]

        def around(step: Step, invoke: Invoke, outputs: tuple[int, ...] = slow.outputs) -> Invoke:
            return _sleeping(invoke) if step.outputs == outputs else invoke

        with contextlib.ExitStack() as opened:
            plain, disturbed = (_disturbed(opened, path, kernels, wrapped) for wrapped in (_as_is, around))
            before, after = (
                opened.enter_context(contextlib.closing(HookProfiler(healthy, a))) for a in (_as_is, around)
            )
            walls = _time([plain, disturbed, before, after], runs)
            then, now = before.op_samples(), after.op_samples()
        # Neighbouring blocks: what hits both does not count.
        slower = statistics.median(
            statistics.median(late) - statistics.median(early) for early, late in zip(*walls[:2], strict=True)
        )
        longer = now[slow.index].median - then[slow.index].median
        table.add_row(
            f"{NETWORK} int8",
            kernels,
            f"#{slow.index} {slow.name}",
            "yes" if max(now, key=lambda i: now[i].median) == slow.index else "no",
            f"{longer:.3f}",
            f"{slower:.3f}",
            f"{abs(longer / slower - 1):.1%}",
        )
    return table


def _twins(root: pathlib.Path, repeats: int) -> tuple[rich.table.Table, int]:
    """The same model twice, and a twin that takes a tenth longer, each with and without other processes."""
    table = _table("model", "compared", "other processes", "passed", "failed", "inconclusive", "wrong")
    # One convolution, of some 20 us.
    tiny = root / "tiny.tflite"
    tiny.write_bytes(roofline.convolution("int8", 14, 64))
    paths = {SMALL_NETWORK: zoo.tflite(SMALL_NETWORK, root, "int8"), "one op": tiny}
    then = {path: profile({"edge": path}) for path in paths.values()}
    comparisons = (
        ("the same model twice", _same, Verdict.FAILED),
        ("a twin that takes a tenth longer", _slower, Verdict.PASSED),
        ("the same model, only figures left", lambda path: _stored(then[path], 1.0), Verdict.FAILED),
        ("a tenth longer, only figures left", lambda path: _stored(then[path], SLOWER), Verdict.PASSED),
    )
    mistakes = 0
    for (network, path), (name, compare, wrong) in itertools.product(paths.items(), comparisons):
        for processes in (0, os.cpu_count() or 1):
            with _load(processes):
                verdicts = [compare(path) for _ in range(repeats)]
            counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
            mistakes += counts[wrong]
            table.add_row(
                network,
                name,
                str(processes),
                *(str(counts[v]) for v in (Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE)),
                str(counts[wrong]),
            )
    return table, mistakes


def _same(path: pathlib.Path) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        twin = shutil.copy(path, folder)
        return profile({"edge": path, "baseline": twin}, ProfileSpec(max_latency_growth=GROWTH)).verdict


def _stored(then: Profile, slower: float) -> Verdict:
    """Judges a model against itself, of which only the figures are left, as if it had been faster then."""
    [model] = then.models
    assert model.yardstick is not None
    yardstick = {
        **model.yardstick,
        "p50": model.yardstick["p50"] / slower,
        "interval": [bound / slower for bound in model.yardstick["interval"]],
    }
    gone = dataclasses.replace(model, fingerprint=None, yardstick=yardstick)
    spec = ProfileSpec(max_latency_growth=GROWTH)
    return profile({"edge": model.path}, spec, baseline=dataclasses.replace(then, models=[gone])).verdict


def _slower(path: pathlib.Path) -> Verdict:
    """Judges a model whose every inference is drawn out, as `profile` judges models."""
    spec = ProfileSpec(max_latency_growth=GROWTH)
    subjects = [_subject(path, "xnnpack") for _ in range(2)]
    baseline, edge = (timing.InferenceTimer(subject.model, subject.feeds) for subject in subjects)
    timers = [_Slower(edge), baseline]
    for timer in timers:
        timing.warm_up(timer, spec.warmup_runs, 0.05)
    roles = (budget.EDGE, budget.BASELINE)
    walls = timing.interleave(
        timers,
        plan(spec),
        lambda blocks: suffices(dict(zip(roles, blocks, strict=True)), spec),
    )
    _, interval = intervals.ratio_interval(*walls, spec.confidence)
    return budget.judge(interval, GROWTH) if interval else Verdict.INCONCLUSIVE


class _Slower:
    """A timer whose runs take longer by a share of what they took."""

    def __init__(self, timer: timing.Timer) -> None:
        self._timer = timer

    def warm(self) -> float:
        return self._timer.warm() * SLOWER

    def time(self, runs: int) -> list[float]:
        return [_spin(ms) for _ in range(runs) for ms in self._timer.time(1)]


def _spin(ms: float) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < (SLOWER - 1) * ms / 1e3:
        pass
    return ms + 1e3 * (time.perf_counter() - start)


def _sleeping(invoke: Invoke) -> Invoke:
    def call(context: int, node: int) -> int:
        time.sleep(SLEEP_MS / 1e3)
        return invoke(context, node)

    return call


def _as_is(_: Step, invoke: Invoke) -> Invoke:
    return invoke


def _disturbed(
    opened: contextlib.ExitStack, path: pathlib.Path, kernels: str, around: Callable[[Step, Invoke], Invoke]
) -> timing.InferenceTimer:
    """Returns a timer of whole inferences in which the hook does nothing but what it is given."""
    hook = OpHook()
    model = EdgeModel(path, kernels=kernels, preserve_tensors=kernels == "xnnpack", delegates=[hook])
    timer = timing.InferenceTimer(model, [feeds.random_feed(model.inputs)])
    opened.enter_context(hook.wrap(model.interpreter, around))
    return timer


def _subject(path: pathlib.Path, kernels: str) -> Subject:
    model = EdgeModel(path, kernels=kernels)
    values = [feeds.random_feed(model.inputs)]
    model.infer(values[0])
    return Subject(model, values, kernels, 1, None)


def _time(timers: list[timing.Timer], runs: int) -> list[timing.Blocks]:
    for timer in timers:
        timing.warm_up(timer, 5, 0.05)
    return timing.interleave(timers, timing.Plan(runs, runs, 0), lambda _: True)


@contextlib.contextmanager
def _load(processes: int) -> Iterator[None]:
    """Keeps other processes busy while the context is open."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _table(*columns: str) -> rich.table.Table:
    table = rich.table.Table(*columns)
    for column in table.columns[2:]:
        column.justify = "right"
    return table


if __name__ == "__main__":
    sys.exit(main())
