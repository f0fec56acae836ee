"""What a replay costs a frame, beside the forward passes it needs and beside what other tools do on the same pair.

    python -m benchmarks.replay [--root DIR] [--rounds 7] [--frames 4] [--memory-frames 1000] [--all-cores]

Everything runs on one core and is measured in processor time, so that other processes are not counted; with
`--all-cores` it runs on all of them and is measured by the clock. All contestants
of a table take turns on the same frames, round after round; figures are medians over the rounds, and quotients are
medians of the quotients within a round.
"""

import argparse
import dataclasses
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import rich.console
import rich.table

from benchmarks import _peers as peers
from benchmarks import zoo
from edge_exray.drift.values import Values
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import Frame
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.own_error import OwnError
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ALIGNMENT_FRAMES, ModelPaths, Replayer
from edge_exray.replay.statistics import ALL_FRAMES, ReplayStatistics

PAIR = "mobilenet_v2_224"
FEW_FRAMES = 10

Contestant = Callable[[Sequence[Frame]], Any]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=zoo.ROOT, help="folder that keeps the models")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    parser.add_argument("--frames", type=int, default=4, help="frames of one turn")
    parser.add_argument("--memory-frames", type=int, default=1000, help="frames of the replay whose memory is watched")
    parser.add_argument("--models", nargs="*", default=list(zoo.NETWORKS), help="networks of the second table")
    parser.add_argument("--all-cores", action="store_true", help="measure the clock's time on all cores")
    parser.add_argument("--watch-memory", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cores = os.sched_getaffinity(0)
    if len(cores) > 1 and not arguments.all_cores:
        # Anew, because the libraries have counted the cores when they were imported.
        os.sched_setaffinity(0, {max(cores)})
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.replay", *sys.argv[1:]])
    if arguments.watch_memory:
        print(*_memory(arguments.root, arguments.memory_frames))
        return
    console = rich.console.Console(highlight=False, width=120)
    console.print(_against_peers(arguments))
    console.print(_against_passes(arguments))
    if arguments.memory_frames > FEW_FRAMES:
        command = [sys.executable, "-m", "benchmarks.replay", "--watch-memory", "--root", str(arguments.root)]
        command += ["--memory-frames", str(arguments.memory_frames)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        few, few_peak, many, many_peak = (int(figure) >> 20 for figure in output.split()[-4:])
        console.print(
            f"memory of a replay of {PAIR}: {few} MB (peak {few_peak} MB) after {FEW_FRAMES} frames, "
            f"{many} MB (peak {many_peak} MB) after {arguments.memory_frames}"
        )


@dataclasses.dataclass(frozen=True)
class Subject:
    """One network, opened for a replay, its statistics so far, and the models of its bare forward passes."""

    replayer: Replayer
    frames: list[Frame]
    bare_float: EdgeModel
    bare_edge: EdgeModel
    gathered: ReplayStatistics = dataclasses.field(default_factory=ReplayStatistics)

    @classmethod
    def open(cls, name: str, root: pathlib.Path, count: int) -> "Subject":
        """Opens a network and makes frames of it."""
        paths = _paths(name, root)
        replayer = Replayer(paths)
        frames = list(_frames(name, count))
        replayer.align(frames[:ALIGNMENT_FRAMES])
        return cls(replayer, frames, EdgeModel(paths.float_edge), EdgeModel(paths.edge))

    def bare_pair(self, frames: Sequence[Frame]) -> None:
        """Runs float edge and edge model."""
        for frame in frames:
            self.bare_float.infer(frame.reference)
            self.bare_edge.infer(frame.reference)

    def quantization_leg(self, frames: Sequence[Frame]) -> None:
        """Compares float edge and edge model as `Replayer.replay` does, without the other legs."""
        replayer, alignment = self.replayer, self.replayer.alignment
        assert alignment is not None
        for frame in frames:
            replayer.float_edge.infer(frame.reference)
            replayer.edge.infer(frame.reference)
            for layer in alignment.layers:
                if layer.float_tensor is None:
                    continue
                reference = Values(replayer.float_edge.tensor(layer.float_tensor))
                edge = Values(replayer.edge.tensor(layer.tensor), layer.spec)
                self.gathered.compare("quantization", [ALL_FRAMES], "layer", str(layer.index), reference, edge)
            del reference, edge

    def replay(self, frames: Sequence[Frame]) -> None:
        """Replays all legs with all layers."""
        for frame in frames:
            self.replayer.replay(frame, self.gathered)

    def bare_passes(self) -> Contestant:
        """Returns what runs the passes of a frame: cloud, float edge with each op on float inputs, and edge twice.

        The edge model runs once with its layers kept and once as it ships, which gives the answers and shows whether
        keeping layers changes them.
        """
        replayer, alignment = self.replayer, self.replayer.alignment
        assert alignment is not None
        both = self.bare_float
        if replayer.own_error.obstacle is None:
            own = OwnError(replayer.float_edge, replayer.edge, alignment, replayer.cloud.signature)
            both = EdgeModel(own.model.content, signature=replayer.cloud.signature)

        def run(frames: Sequence[Frame]) -> None:
            for frame in frames:
                replayer.cloud.infer(frame.reference)
                both.infer(frame.reference)
                self.bare_edge.infer(frame.reference)
                self.bare_edge.infer(frame.reference)

        return run


def _paths(name: str, root: pathlib.Path) -> ModelPaths:
    quantization = zoo.NETWORKS[name].quantization
    cloud, float_edge = zoo.saved_model(name, root), zoo.tflite(name, root, "none")
    return ModelPaths(str(cloud), str(float_edge), str(zoo.tflite(name, root, quantization)), zoo.SIGNATURE)


def _examples(name: str, count: int) -> Iterator[Example]:
    for seed in range(count):
        yield {key: values[0] for key, values in zoo.frames(name, 1, seed).items()}


def _frames(name: str, count: int) -> Iterator[Frame]:
    for number, example in enumerate(_examples(name, count)):
        feed = {key: value[None] for key, value in example.items()}
        yield Frame(str(number), feed, feed, None)


def _take_turns(
    contestants: dict[str, Contestant], frames: Sequence[Frame], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Returns the seconds a frame of each contestant, one figure for each round."""
    clock = time.perf_counter if arguments.all_cores else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(arguments.rounds + 1):
        for name, run in contestants.items():
            started = clock()
            run(frames)
            if number:  # the first round warms up
                seconds[name].append((clock() - started) / len(frames))
    return seconds


def _quotient(left: Sequence[float], right: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(left, right, strict=True))


def _against_peers(arguments: argparse.Namespace) -> rich.table.Table:
    subject = Subject.open(PAIR, arguments.root, arguments.frames)
    calibration = [{key: value[None] for key, value in e.items()} for e in _examples(PAIR, zoo.CALIBRATION_FRAMES)]
    paths = _paths(PAIR, arguments.root)
    contestants: dict[str, Contestant] = {
        "bare forward passes of the pair": subject.bare_pair,
        "quantization leg, full statistics": subject.quantization_leg,
        "plain script: get_tensor of all tensors, three metrics": peers.plain_script(paths),
        "ai-edge-quantizer: compare_model, three metrics": peers.ai_edge_quantizer(paths),
        "TensorFlow: QuantizationDebugger.run": peers.quantization_debugger(paths, calibration),
    }
    seconds = _take_turns(contestants, subject.frames, arguments)
    table = rich.table.Table("contestant", "ms a frame", "over bare", "over ours", title=f"{PAIR}, float and int8")
    bare, ours = (seconds[name] for name in list(contestants)[:2])
    for name, figures in seconds.items():
        milliseconds = f"{statistics.median(figures) * 1e3:.1f}"
        table.add_row(name, milliseconds, f"{_quotient(figures, bare):.2f}", f"{_quotient(figures, ours):.2f}")
    return table


def _against_passes(arguments: argparse.Namespace) -> rich.table.Table:
    columns = ("network", "ops", "quantization leg, ms", "over its passes", "all legs, ms", "over their passes")
    table = rich.table.Table(*columns, title="replay with all layers")
    for name in arguments.models:
        subject = Subject.open(name, arguments.root, arguments.frames)
        contestants: dict[str, Contestant] = {
            "pair": subject.bare_pair,
            "leg": subject.quantization_leg,
            "passes": subject.bare_passes(),
            "legs": subject.replay,
        }
        seconds = _take_turns(contestants, subject.frames, arguments)
        leg, legs = seconds["leg"], seconds["legs"]
        own = subject.replayer.own_error.obstacle is None
        table.add_row(
            name if own else f"{name} (no own errors)",
            str(len(subject.replayer.edge.graph.ops)),
            f"{statistics.median(leg) * 1e3:.1f}",
            f"{_quotient(leg, seconds['pair']):.2f}",
            f"{statistics.median(legs) * 1e3:.1f}",
            f"{_quotient(legs, seconds['passes']):.2f}",
        )
    return table


def _memory(root: pathlib.Path, count: int) -> list[int]:
    """Returns the bytes that this process holds, and held at most, after a few and after all frames of a replay."""
    figures: list[int] = []

    def measure() -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        figures.extend((psutil.Process().memory_info().rss, peak))

    def watched() -> Iterator[Example]:
        for number, example in enumerate(_examples(PAIR, count)):
            if number == FEW_FRAMES:
                measure()
            yield example
        measure()

    with tempfile.TemporaryDirectory() as folder:
        replay(_paths(PAIR, root), watched(), pathlib.Path(folder) / "replay")
    return figures


if __name__ == "__main__":
    main()
