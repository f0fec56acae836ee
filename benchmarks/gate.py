"""The gate on the demo's task: what is pushed, what is blocked and why, how many layers pair, what a replay costs.

PYTHONPATH=tests python -m benchmarks.gate [--root DIR]
"""

import argparse
import collections
import itertools
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import gate_scenarios
import rich.box
import rich.console
import rich.table

from edge_exray.frames.examples import read_tfrecords
from edge_exray.frames.functions import Frame, load_functions
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel
from edge_exray.pipelines import pipeline, run_record
from edge_exray.replay.replayer import ALIGNMENT_FRAMES, ModelPaths, Replayer
from edge_exray.replay.statistics import ReplayStatistics
from edge_exray.reporting import formats

FRAMES = 100
REPEATS = 7


def main() -> int:
    """Runs all scenarios, prints the tables and returns 0 when the gate judged each as it should."""
    parser = argparse.ArgumentParser(description="Show the gate healthy models and models with one fault each.")
    parser.add_argument("--root", type=pathlib.Path, help="folder of everything it writes (default: a temporary one)")
    root = parser.parse_args().root
    with tempfile.TemporaryDirectory() as folder:
        return _measure(root or pathlib.Path(folder))


def _measure(root: pathlib.Path) -> int:
    console = rich.console.Console(highlight=False, width=140)
    outcomes = _table("scenario", "seconds", "pushed", "accuracy", "first failure", "judged right")
    pairs = _table("mode", "ops", "verified", "unverified", "internal", "unmatched", "coverage")
    mistakes = 0
    record: run_record.RunRecord

    def run(scenario: gate_scenarios.Scenario) -> run_record.RunRecord:
        nonlocal mistakes
        started = time.monotonic()
        record = scenario.run(root)
        seconds = time.monotonic() - started
        mistake = scenario.judge(record)
        mistakes += mistake is not None
        accuracy = record.report()["accuracy"]
        failure = gate_scenarios.first_failure(record)
        outcomes.add_row(
            scenario.name,
            f"{seconds:.0f}",
            str(int(record.pushed)),
            f"{formats.percent(accuracy['cloud'])} / {formats.percent(accuracy['edge'])}",
            f"{failure['name']}: {failure['message']}" if failure else "",
            mistake or "yes",
        )
        return record

    for scenario in gate_scenarios.HEALTHY:
        record = run(scenario)
        alignment = record.report()["alignment"]
        counts = (str(alignment[name]) for name in ("ops", "verified", "unverified", "internal", "unmatched"))
        pairs.add_row(scenario.name, *counts, formats.percent(alignment["coverage"]))
    for scenario in (*gate_scenarios.FAULTS, gate_scenarios.over_budget(record)):
        run(scenario)
    console.print(outcomes, pairs, _replay_cost(record, run_record.Layout(root)))
    return 1 if mistakes else 0


def _replay_cost(record: run_record.RunRecord, layout: run_record.Layout) -> rich.table.Table:
    """Times replay and bare forward passes in turns, on frames that are decoded already."""
    models = record.report()["models"]
    paths = ModelPaths(
        *(models[role]["path"] for role in ("cloud", "float_edge", "edge")), models["cloud"]["signature"]
    )
    replayer = Replayer(paths)
    bare = [
        CloudModel(paths.cloud, paths.signature),
        EdgeModel(paths.float_edge, signature=paths.signature),
        EdgeModel(paths.edge, signature=paths.signature),
    ]
    functions = load_functions(pipeline.DEMO_MODULE)
    examples = itertools.islice(read_tfrecords(sorted(map(str, layout.data.glob("eval/*")))), FRAMES)
    frames = [functions.frame(example, replayer.cloud.inputs, replayer.edge.inputs) for example in examples]
    replayer.align(frames[:ALIGNMENT_FRAMES])
    replayed = ReplayStatistics()
    jobs: dict[str, Callable[[Frame], object]] = {
        "forward passes of cloud, float edge and edge model": lambda frame: [m.infer(frame.reference) for m in bare],
        "replay with all layers": lambda frame: replayer.replay(frame, replayed),
    }
    seconds = collections.defaultdict(list)
    for _ in range(REPEATS):
        for name, job in jobs.items():
            started = time.perf_counter()
            for frame in frames:
                job(frame)
            seconds[name].append((time.perf_counter() - started) * 100 / len(frames))
    table = _table(f"job, median of {REPEATS}", "s per 100 frames", "ratio")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = next(iter(medians.values()))
    for name, median in medians.items():
        table.add_row(name, f"{median:.3f}", f"{median / base:.2f}")
    return table


def _table(*columns: str) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    return table


if __name__ == "__main__":
    sys.exit(main())
