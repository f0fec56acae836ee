"""The demo: a healthy model is pushed, and the same model behind an app with a bug is not.

`python -m edge_exray.pipelines.demo [--root DIR] [--kubeflow]`; exit status 0 when both went as expected, else 1.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import rich.box
import rich.console
import rich.markup
import rich.table

from edge_exray import errors, processes
from edge_exray.pipelines import kubeflow_dry_run, run_record, task_processes, tiles
from edge_exray.reporting import formats

_COMPONENT = re.compile(r"Component (\S+) is (running|finished)\.")
_CACHED = re.compile(r"cached execution \d+ is used")
_TAIL_LINES = 15


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One run of the pipeline.

    Attributes:
        name: Heads its column of the table and names its log.
        story: What the app does.
        app_module_path: Module of the app; None for the functions of training.
        to_be_pushed: The expected outcome.
    """

    name: str
    story: str
    app_module_path: str | None
    to_be_pushed: bool


SCENARIOS = (
    Scenario("healthy", "the app feeds what training fed", None, True),
    Scenario("bgr", "the app feeds BGR", "edge_exray.pipelines.faults.bgr", False),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all scenarios, prints the table and returns the exit status."""
    parser = argparse.ArgumentParser(description="Push a healthy edge model, block one behind a buggy app.")
    parser.add_argument("--root", default="demo-run", help="folder of everything it writes (default: %(default)s)")
    parser.add_argument(
        "--kubeflow",
        action="store_true",
        help="compile for Kubeflow Pipelines v2 and run what was compiled, task by task, instead of LocalDagRunner",
    )
    args = parser.parse_args(argv)
    layout = run_record.Layout(pathlib.Path(args.root).resolve())
    console = rich.console.Console(highlight=False)
    layout.logs.mkdir(parents=True, exist_ok=True)
    console.print(f"Writing to {layout.root} (output of TensorFlow and TFX: {layout.logs})", soft_wrap=True)
    try:
        _make_data(layout, console)
        if args.kubeflow:
            records = _rehearse(layout, console)
        else:
            records = [_run(scenario, layout, console) for scenario in SCENARIOS]
    except errors.ExrayError as e:
        console.print(f"[red]{rich.markup.escape(str(e))}", soft_wrap=True)
        return 1
    console.print()
    console.print(summary_table(records))
    for scenario, record in zip(SCENARIOS, records, strict=True):
        console.print(f"Report of {scenario.name}: {record.report_dir / 'report.html'}", soft_wrap=True)
    command = pathlib.Path(sys.executable).with_name("exray")
    console.print(f"For your own models: {command} validate --help", soft_wrap=True)
    expected = all(r.pushed == s.to_be_pushed for s, r in zip(SCENARIOS, records, strict=True))
    console.print("[green]As expected." if expected else "[red]Not as expected: the healthy run alone is to be pushed.")
    return 0 if expected else 1


def summary_table(records: Sequence[run_record.RunRecord]) -> rich.table.Table:
    """Returns the table of the outcomes: one column per scenario, in the order of `SCENARIOS`."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("")
    rows = []
    for scenario, record in zip(SCENARIOS, records, strict=True):
        table.add_column(scenario.name, max_width=44)
        report, models = record.report(), {m["role"]: m for m in record.profile()["models"]}
        accuracy, float_edge, edge = report["accuracy"], models["float_edge"], models["edge"]
        rows.append(
            {
                "app": scenario.story,
                "verdict": report["verdict"],
                "pusher": "[green]pushed" if record.pushed else "[red]blocked",
                "why": rich.markup.escape((record.reasons() or [report["summary"]])[0]),
                "accuracy cloud / edge": f"{formats.percent(accuracy['cloud'])} / {formats.percent(accuracy['edge'])}",
                "size float / edge": f"{formats.size(float_edge['bytes'])} / {formats.size(edge['bytes'])}",
                "latency float / edge": f"{_milliseconds(float_edge)} / {_milliseconds(edge)}",
            }
        )
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows))
    return table


def _make_data(layout: run_record.Layout, console: rich.console.Console) -> None:
    console.print("[bold]Data[/]: which of nine photographs does a tile come from?")
    started = time.monotonic()
    _child(["edge_exray.pipelines.tiles", "--tfrecords", str(layout.data)], layout.logs / "data.log", lambda line: None)
    counts = " + ".join(f"{len(tiles.make_tiles(split))} {split}" for split in tiles.SPLITS)
    console.print(f"  {counts} tiles, {time.monotonic() - started:.1f} s")


def _run(scenario: Scenario, layout: run_record.Layout, console: rich.console.Console) -> run_record.RunRecord:
    """Runs the pipeline in a child process, so that the noise of its libraries stays out of the terminal."""
    _announce(scenario, console)
    app = ["--app-module-path", scenario.app_module_path] if scenario.app_module_path else []
    started = time.monotonic()
    component_started = started
    cached = False
    spent = 0.0
    with console.status("loading TFX") as status:

        def follow(line: str) -> None:
            nonlocal component_started, cached, spent
            if _CACHED.search(line):
                cached = True
            elif match := _COMPONENT.search(line):
                name, state = match.groups()
                if state == "running":
                    component_started, cached = time.monotonic(), False
                    status.update(name)
                else:
                    seconds = 0.0 if cached else time.monotonic() - component_started
                    spent += seconds
                    console.print(f"  {name:<18}{'cached' if cached else f'{seconds:.1f} s':>8}")

        _child(
            ["edge_exray.pipelines.local_runner", "--root", str(layout.root), *app],
            layout.logs / f"{scenario.name}.log",
            follow,
        )
    total = time.monotonic() - started
    console.print(f"  {'loading TFX, rest':<18}{total - spent:>6.1f} s")
    console.print(f"  {'in all':<18}{total:>6.1f} s")
    return run_record.latest_run(layout)


def _rehearse(layout: run_record.Layout, console: rich.console.Console) -> list[run_record.RunRecord]:
    """Compiles the pipeline once and runs the specification for every scenario, the app being a runtime parameter."""
    spec = layout.root / "pipeline.yaml"
    started = time.monotonic()
    with console.status("compiling"):
        paths = {
            "output": spec,
            "pipeline-root": layout.artifacts,
            "data-root": layout.data,
            "serving-model-dir": layout.serving,
        }
        flags = [f"--{name}={path}" for name, path in paths.items()]
        command = ["edge_exray.pipelines.kubeflow_runner", "--image=edge-exray", *flags]
        _child(command, layout.logs / "compile.log", lambda line: None)
    console.print(f"[bold]Compiled[/] to {spec}, {time.monotonic() - started:.1f} s", soft_wrap=True)
    records = []
    modules = kubeflow_dry_run.Rehearsal(spec).modules()
    with task_processes.TaskProcesses(modules, layout.logs / "tasks") as processes:
        for scenario in SCENARIOS:
            _announce(scenario, console)
            parameters = {"app_module_path": scenario.app_module_path} if scenario.app_module_path else {}
            records.append(kubeflow_dry_run.Rehearsal(spec, parameters).run(layout.root, processes, console).record())
    return records


def _announce(scenario: Scenario, console: rich.console.Console) -> None:
    console.print(f"[bold]Pipeline, {scenario.name}[/]: {scenario.story}")


def _child(module: Sequence[str], log: pathlib.Path, follow: Callable[[str], None]) -> None:
    """Runs a Python module, copies its output to a log and shows each line to `follow`.

    Raises:
        TaskError: It ended with another status than 0 or 2 (ran well, model not pushed).
    """
    tail = collections.deque[str](maxlen=_TAIL_LINES)
    command = [sys.executable, "-m", *module]
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            env=processes.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            tail.append(line)
            follow(line)
    if process.returncode not in (0, 2):
        raise errors.TaskError(
            f"{''.join(tail)}\n{module[0]} failed (status {process.returncode}); the whole log: {log}"
        )


def _milliseconds(model: dict) -> str:
    return f"{model['latency_ms']['p50']:.3g} ms"


if __name__ == "__main__":
    sys.exit(main())
