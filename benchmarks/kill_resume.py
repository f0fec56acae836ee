"""Pipelines that are killed: what SIGKILL at a random moment leaves, and whether the run after it comes out right.

python -m benchmarks.kill_resume [--root DIR] [--trials 10] [--seed 0] [--train-steps 80] [--beam-arg ARG ...]

A run that is left alone is the measure. Each trial has a folder of its own: the components take turns, and the moment
is a random part of the time that the component took in the run left alone. Every other trial kills only the process of
the pipeline, as a system without memory does, the others its whole process group. Then the pipeline runs once more.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import ml_metadata as mlmd
import psutil
import rich.box
import rich.console
import rich.table
from ml_metadata.proto import metadata_store_pb2

from edge_exray.models.tflite import EdgeModel
from edge_exray.pipelines import run_record, tiles

# What the verdict rests on; the rest of a report has times and paths in it.
FIGURES = ("verdict", "frames", "accuracy", "alignment", "legs", "suspects", "attribution")
TOLERANCE = 1e-6
"""Relative: Beam adds up in any order."""
# Workers of Beam notice that their runner is gone after some seconds, by themselves.
ORPHAN_SECONDS = 20.0
# Enough for a model that is pushed, in a fraction of the demo's time.
TILES_PER_CLASS = 60

_MARK = "EXRAY_KILL_RESUME"
_EVENT = re.compile(r"Component (\S+) is (running|finished)\.")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trial showed.

    Attributes:
        component: Which one ran when the kill came.
        seconds: How long it had run.
        group: Whether the whole process group was killed.
        orphans: Processes of the run that lived on.
        live: Artifacts in the metadata that claim to be whole after the kill.
        faults: What was not as it should be, in words.
        left: Names in the folder of temporary files after the second run.
        wall: Seconds of the second run.
    """

    component: str
    seconds: float
    group: bool
    orphans: int
    live: int
    faults: list[str]
    left: int
    wall: float


class Run:
    """A pipeline in a process of its own, in a process group of its own."""

    def __init__(self, root: pathlib.Path, options: Sequence[str]) -> None:
        self.layout = run_record.Layout(root)
        self.mark = uuid.uuid4().hex
        scratch = root / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "edge_exray.pipelines.local_runner", "--root", str(root), *options]
        self.log = root / f"{self.mark}.log"
        self._output = self.log.open("wb")
        self.process = subprocess.Popen(
            command,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, _MARK: self.mark, "TMPDIR": str(scratch)},
        )

    def events(self) -> Iterator[tuple[float, str, str]]:
        """Yields the time, the component and its state as they happen, and the time alone while nothing does."""
        with self.log.open("r", errors="replace") as log:
            ended, rest = False, ""
            while True:
                rest += log.read()
                *lines, rest = rest.split("\n")
                for line in lines:
                    if match := _EVENT.search(line):
                        yield time.monotonic(), *match.groups()
                if ended:
                    return
                ended = self.process.poll() is not None
                time.sleep(0.02)
                yield time.monotonic(), "", ""

    def wait(self) -> int:
        """Returns the exit status."""
        status = self.process.wait()
        self._output.close()
        return status

    def kill(self, group: bool) -> None:
        """Kills the process, or its group."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            if group:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.wait()

    def processes(self) -> list[psutil.Process]:
        """Returns what still runs of it, children of children too."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


def main() -> int:
    """Prints the table and returns 0 when every trial came out right."""
    parser = argparse.ArgumentParser(description="Kill the demo pipeline at random moments and run it again.")
    parser.add_argument("--root", type=pathlib.Path, help="folder of everything it writes (default: a temporary one)")
    parser.add_argument("--trials", type=int, default=10, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--train-steps", type=int, default=80, help="batches to train")
    parser.add_argument("--component", action="append", help="kill in these only; may be given repeatedly")
    parser.add_argument("--beam-arg", action="append", default=[], metavar="ARG", help="for the runs that are killed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _measure(arguments.root or pathlib.Path(folder), arguments)


def _measure(root: pathlib.Path, arguments: argparse.Namespace) -> int:
    console = rich.console.Console(highlight=False, width=140)
    tiles.write_tfrecords(root / "tiles", tiles_per_class=TILES_PER_CLASS)
    options = ["--train-steps", str(arguments.train_steps), "--data-root", str(root / "tiles")]
    whole = Run(root / "whole", options)
    seconds: dict[str, float] = {}
    for at, component, state in whole.events():
        if component:
            seconds[component] = at - seconds.get(component, 0.0) if state == "finished" else at
    if whole.wait() != 0:
        console.print(f"the run that was left alone failed or was not pushed: {whole.log}")
        return 1
    console.print(f"left alone: {', '.join(f'{name} {s:.1f} s' for name, s in seconds.items())}")
    measure = Measure(whole.layout)

    generator = random.Random(arguments.seed)
    components = list(itertools.islice(itertools.cycle(arguments.component or seconds), arguments.trials))
    table = rich.table.Table(
        title=f"{arguments.trials} kills, seed {arguments.seed}, {arguments.train_steps} steps",
        box=rich.box.SIMPLE_HEAD,
    )
    for column in ("killed in", "after", "what", "live artifacts", "orphans", "left in tmp", "second run", "right"):
        table.add_column(column)
    wrong = 0
    for number, component in enumerate(components):
        after = generator.uniform(0.0, seconds[component])
        killed = [*options, *(f"--beam-arg={argument}" for argument in arguments.beam_arg)]
        outcome = _trial(root / f"trial-{number}", component, after, number % 2 == 1, killed, options, measure)
        wrong += bool(outcome.faults)
        row = (
            outcome.component,
            f"{outcome.seconds:.2f} s",
            "group" if outcome.group else "process",
            str(outcome.live),
            str(outcome.orphans),
            str(outcome.left),
            f"{outcome.wall:.0f} s",
            "; ".join(outcome.faults) or "yes",
        )
        table.add_row(*row)
        console.print(f"{number + 1}: {', '.join(row)}", soft_wrap=True)
    console.print(table)
    console.print(f"{arguments.trials - wrong} of {arguments.trials} right")
    return int(wrong > 0)


def _trial(
    root: pathlib.Path,
    component: str,
    after: float,
    group: bool,
    killed: Sequence[str],
    options: Sequence[str],
    measure: "Measure",
) -> Outcome:
    first = Run(root, killed)
    since = math.inf
    current = "start"
    for at, name, state in first.events():
        if name:
            current = name if state == "running" else f"after {name}"
        if (name, state) == (component, "running"):
            since = at
        # The machine may be faster than before: then the end of the component is the moment.
        if at > since + after or (name, state) == (component, "finished"):
            break
    first.kill(group)
    seconds = time.monotonic() - since
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (orphans := first.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    faults = [f"orphan {' '.join(p.cmdline())[:80]}" for p in orphans]
    for process in orphans:
        process.kill()
    live, half = measure.half_artifacts(first.layout)
    faults += half + measure.half_pushes(first.layout)

    start = time.monotonic()
    second = Run(root, options)
    status = second.wait()
    wall = time.monotonic() - start
    if status != 0:
        faults.append(f"the second run ended with {status}: {second.log}")
    else:
        faults += measure.half_artifacts(second.layout)[1] + measure.half_pushes(second.layout)
        faults += [f"hidden: {path}" for path in second.layout.serving.glob(".*")] + measure.differences(second.layout)
    left = len(list((root / "tmp").iterdir()))
    return Outcome(current, seconds, group, len(orphans), live, faults, left, wall)


class Measure:
    """What a run that was left alone made, and comparisons with it."""

    def __init__(self, layout: run_record.Layout) -> None:
        record = run_record.latest_run(layout)
        assert record.destination is not None
        self._pushed = (pathlib.Path(record.destination) / "tflite").read_bytes()
        self._push_names = _names(pathlib.Path(record.destination))
        self._figures = _figures(record)
        self._names = {place: _names(folder) for place, folder in _live(layout)}

    def half_artifacts(self, layout: run_record.Layout) -> tuple[int, list[str]]:
        """Returns the number of artifacts that claim to be whole, and those that have other files than they should."""
        live = list(_live(layout))
        faults = [f"half-written: {folder}" for place, folder in live if _names(folder) != self._names[place]]
        for _, folder in live:
            for file in folder.rglob("*.json"):
                json.loads(file.read_text("utf-8"))
            for file in folder.rglob("tflite"):
                told = json.loads(file.with_name("conversion.json").read_text("utf-8"))["fingerprint"]
                if EdgeModel(file).fingerprint != told:
                    faults.append(f"not what conversion.json tells: {file}")
        return len(live), faults

    def half_pushes(self, layout: run_record.Layout) -> list[str]:
        """Returns the versions at the destination that are not the whole model."""
        versions = [path for path in layout.serving.glob("[!.]*") if path.is_dir()]
        return [
            f"half-pushed: {version}"
            for version in versions
            if _names(version) != self._push_names or (version / "tflite").read_bytes() != self._pushed
        ]

    def differences(self, layout: run_record.Layout) -> list[str]:
        """Returns in words what the last run found otherwise."""
        record = run_record.latest_run(layout)
        faults = [] if record.pushed else ["not pushed"]
        found = _figures(record)
        pairs = itertools.zip_longest(_leaves(found), _leaves(self._figures))
        others = sum(not _same(left, right) for left, right in pairs)
        return faults + ([f"{others} figures of the report differ"] if others else [])


def _figures(record: run_record.RunRecord) -> dict[str, Any]:
    report = record.report()
    checks = [(check["name"], check["verdict"]) for check in report["checks"]]
    return {name: report[name] for name in FIGURES} | {"checks": checks, "blessed": record.infra_blessed}


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-12)
    return left == right


def _leaves(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        document = [value for pair in sorted(document.items()) for value in pair]
    if isinstance(document, list | tuple):
        for value in document:
            yield from _leaves(value)
    else:
        yield document


def _live(layout: run_record.Layout) -> Iterator[tuple[str, pathlib.Path]]:
    """Yields what the metadata calls whole: component and output, and the folder."""
    if not layout.metadata.exists():
        return
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(layout.metadata)
    for artifact in mlmd.MetadataStore(connection).get_artifacts():
        if artifact.state == metadata_store_pb2.Artifact.LIVE:
            folder = pathlib.Path(artifact.uri)
            yield str(folder.parent.relative_to(layout.artifacts)), folder


def _names(folder: pathlib.Path) -> set[str]:
    """Returns the files of a folder, without the numbers in their names."""
    return {re.sub(r"\d+", "#", str(path.relative_to(folder))) for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
