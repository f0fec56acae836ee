"""What the monitor costs an app, and what of a log survives.

    python -m benchmarks.monitor [--root DIR] [--frames N] [--pause SECONDS] [--kills N] [--cases N]

Overhead is what a frame takes beyond the interpreter's own calls (setting inputs, invoking, reading outputs), less what
the same takes without a monitor; in the app's thread, pinned to one core together with the writer. Beside the wall time
stands the CPU time of the app's thread, which a busy machine changes less. Then: the size of a frame, writers that are
killed at random moments, and logs with bits flipped, cut off, or with stretches lost. The exit status is 1 if a frame
that was in the log before a kill is lost, or a wrong value is read.
"""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import timeit
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from benchmarks import zoo
from edge_exray.monitor import EdgeMonitor, crc, read_log

NETWORK = "mobilenet_v2_224"
LEVELS = ("off", "outputs", "inputs", "layers")
# The first frames fill caches and the pool.
_WARMUP = 5
_US = 1e6
_MS = 1e3
_MB = 1e6

_WRITE_FOREVER = """
import sys
import numpy as np
from edge_exray.monitor import EdgeMonitor
monitor = EdgeMonitor(sys.argv[1], level="inputs", policy="block", queue_bytes=2**20, max_bytes=2**33, file_bytes=2**33)
for i in range(10**9):
    with monitor.frame() as frame:
        frame.run(lambda x: x.sum(), np.full(100_000, i, np.int32))
    print(monitor.counts["written"], flush=True)
"""


class TimedInterpreter(litert.Interpreter):
    """Adds up what the app's own calls take, in wall time and CPU time of the thread."""

    wall = cpu = 0.0

    def set_tensor(self, *args: Any) -> None:
        """See the base."""
        return self._timed(super().set_tensor, *args)

    def invoke(self) -> None:
        """See the base."""
        return self._timed(super().invoke)

    def get_tensor(self, *args: Any) -> np.ndarray:
        """See the base."""
        return self._timed(super().get_tensor, *args)

    def _timed(self, call: Callable[..., Any], *args: Any) -> Any:
        cpu, wall = time.thread_time(), time.perf_counter()
        try:
            return call(*args)
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.thread_time() - cpu


def main() -> int:
    """Prints the tables, and returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the monitor.")
    parser.add_argument("--root", type=pathlib.Path, default=zoo.ROOT, help="folder that keeps the models")
    parser.add_argument("--frames", type=int, default=40, help="frames of each level")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between frames at level layers")
    parser.add_argument("--kills", type=int, default=50, help="writers to kill")
    parser.add_argument("--cases", type=int, default=1000, help="logs to damage")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        _overheads(zoo.tflite(NETWORK, arguments.root, "none"), place, arguments.frames, arguments.pause)
        _sizes(zoo.tflite(NETWORK, arguments.root, "none"), place)
        _checksums()
        survived = _kills(place, arguments.kills)
        sound = _fuzz(place, arguments.cases)
    return 0 if survived and sound else 1


def _overheads(model: str, folder: pathlib.Path, frames: int, pause: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    value = zoo.frames(NETWORK, 1)["image"]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {frames} frames, {pause} s between them at layers")
    print("| level | overhead ms, median | p90 | CPU of it | of the run | run ms | written | lost |")
    print("|---|---|---|---|---|---|---|---|")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    for level in LEVELS:
        interpreter = TimedInterpreter(model, experimental_preserve_all_tensors=level == "layers")
        interpreter.allocate_tensors()
        names = [d["index"] for d in (*interpreter.get_input_details(), *interpreter.get_output_details())]

        def plain(interpreter: TimedInterpreter = interpreter, names: list[int] = names) -> None:
            interpreter.set_tensor(names[0], value)
            interpreter.invoke()
            interpreter.get_tensor(names[1])

        with EdgeMonitor(folder / f"{level}.exray", level=level, model=model) as monitor:

            def watched(monitor: EdgeMonitor = monitor, interpreter: TimedInterpreter = interpreter) -> None:
                with monitor.frame(raw=image) as frame:
                    frame.run(interpreter, {"image": value})

            rows: dict[Callable[[], None], list[tuple[float, float, float]]] = {plain: [], watched: []}
            for i in range(frames + _WARMUP):
                for run, row in rows.items():
                    beyond = _beyond(run, interpreter)
                    if i >= _WARMUP:
                        row.append(beyond)
                time.sleep(pause if level == "layers" else 0)
        (plain_wall, plain_cpu, inference), (wall, cpu, _) = (np.median(row, 0) for row in rows.values())
        slow = np.percentile([row[0] for row in rows[watched]], 90)
        counts = monitor.counts
        print(
            f"| {level} | {wall - plain_wall:.3f} | {slow - plain_wall:.3f} | {cpu - plain_cpu:.3f} | "
            f"{100 * (wall - plain_wall) / inference:.1f} % | {inference:.2f} | {counts['written']} | "
            f"{sum(counts['dropped'].values())} |",
            flush=True,
        )
    os.sched_setaffinity(0, cores)
    off = EdgeMonitor(folder / "off.exray", level="off")

    def idle() -> None:
        with off.frame(raw=image) as frame:
            frame.run(_same, value)

    times = [min(timeit.repeat(call, number=10_000, repeat=20)) for call in (idle, lambda: _same(value))]
    print(f"off, a frame around a function that does nothing: {_US * (times[0] - times[1]) / 10_000:.2f} us")


def _beyond(run: Callable[[], None], interpreter: TimedInterpreter) -> tuple[float, float, float]:
    """Returns wall time and CPU time of a frame beyond the interpreter's calls, and the wall time of those, in ms."""
    interpreter.wall = interpreter.cpu = 0.0
    cpu, wall = time.thread_time(), time.perf_counter()
    run()
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    return _MS * (wall - interpreter.wall), _MS * (cpu - interpreter.cpu), _MS * interpreter.wall


def _same(value: Any) -> Any:
    return value


def _sizes(model: str, folder: pathlib.Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for codec in ("none", "zstd"):
        interpreter = litert.Interpreter(model, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
        path = folder / f"size_{codec}.exray"
        start = time.perf_counter()
        with EdgeMonitor(
            path, level="layers", codec=codec, policy="block", max_bytes=2**33, file_bytes=2**33
        ) as monitor:
            for value in zoo.frames(NETWORK, 5)["image"]:
                with monitor.frame(raw=image) as frame:
                    frame.run(interpreter, value[np.newaxis])
        seconds = time.perf_counter() - start
        tensors = 0
        for logged in read_log(path):
            for role in (logged.raw, logged.inputs, logged.outputs, logged.layers):
                tensors += sum(t.value.nbytes for t in role.values() if t.value is not None)
        size = path.stat().st_size
        print(
            f"layers, codec {codec}: {tensors / 5 / _MB:.1f} MB of tensors a frame, {size / tensors:.5f} of that in "
            f"the log, {tensors / seconds / _MB:.0f} MB/s with the runs"
        )
        path.unlink()


def _checksums() -> None:
    data = np.random.default_rng(0).integers(0, 256, 2**24, dtype=np.uint8)
    for name, function in (("here", crc.crc32c), ("without google-crc32c", crc.portable_crc32c)):
        best = min(timeit.repeat(lambda f=function: f(data), number=1, repeat=5))
        print(f"CRC-32C {name}: {len(data) / best / _MB:.0f} MB/s")


def _kills(folder: pathlib.Path, count: int) -> bool:
    chooser = random.Random(0)
    torn = lost = wrong = frames = 0
    for i in range(count):
        path = folder / f"kill{i}.exray"
        child = subprocess.Popen([sys.executable, "-c", _WRITE_FOREVER, path], stdout=subprocess.PIPE)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chooser.randrange(1, 60))]
        time.sleep(chooser.random() * 0.02)
        child.kill()
        told = int([*lines, *child.communicate()[0].splitlines()][-1])
        log = read_log(path)
        found = list(log)
        frames += len(found)
        lost += max(told - len(found), 0)
        wrong += [f.sequence for f in found] != list(range(len(found)))
        wrong += any((f.inputs["input"].value != f.sequence).any() for f in found)
        wrong += any(not damage.is_torn_tail for damage in log.report.damages) + (log.report.unclosed == [])
        torn += len(log.report.damages)
        path.unlink()
    print(f"{count} writers killed: {frames} frames read, {lost} written ones lost, {torn} torn tails, {wrong} wrong")
    return not (lost or wrong)


def _fuzz(folder: pathlib.Path, count: int) -> bool:
    path = folder / "whole.exray"
    arrays = [np.random.default_rng(i).integers(-9, 9, 300).astype(np.int16) for i in range(20)]
    with EdgeMonitor(path, level="inputs", policy="block") as monitor:
        for array in arrays:
            with monitor.frame() as frame:
                frame.inputs(array)
    original = path.read_bytes()
    generator = np.random.default_rng(0)
    damaged = folder / "damaged.exray"
    wrong = silent = frames = 0
    for case in range(count):
        content = bytearray(original)
        begin, end = sorted(generator.integers(0, len(content), 2).tolist())
        if case % 3 == 0:
            for place in generator.integers(0, len(content), generator.integers(1, 9)):
                content[place] ^= 1 << generator.integers(0, 8)
        elif case % 3 == 1:
            del content[begin:]
        else:
            content[begin:end] = generator.bytes(int(generator.integers(0, 50)))
        damaged.write_bytes(content)
        log = read_log(damaged)
        for logged in log:
            frames += 1
            wrong += not np.array_equal(logged.inputs["input"].value, arrays[logged.sequence])
        # Cut off between two records nothing is damaged, but the footer is missing.
        silent += bytes(content) != original and not log.report.damages and not log.report.unclosed
    print(f"{count} damaged logs: {frames} frames read, {wrong} wrong, {silent} damages not told")
    return not (wrong or silent)


if __name__ == "__main__":
    sys.exit(main())
