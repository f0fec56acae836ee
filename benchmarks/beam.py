"""EdgeReplay's workers: what further processes bring, and that it changes nothing in what is learned.

python -m benchmarks.beam [--root DIR] [--frames 300] [--repeats 3] [--workers 1 2 4]
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import rich.box
import rich.console
import rich.table
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks import zoo
from edge_exray.components.edge_replay import beam_replay
from edge_exray.components.edge_replay.sources import ExampleSource
from edge_exray.components.transforms import Decoder
from edge_exray.frames.examples import try_tfrecords
from edge_exray.models.alignment import Alignment
from edge_exray.replay import replay, result
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.statistics import to_line
from edge_exray.replay.tally import TallyOptions
from edge_exray.reporting import formats

NETWORK = "mobilenet_v2_96"
SHARDS = 4
WARM_FRAMES = 16
TOLERANCE = 1e-9


def main() -> int:
    """Prints the table and returns 0 when all runs learned the same."""
    parser = argparse.ArgumentParser(description="Compare numbers of worker processes of EdgeReplay.")
    parser.add_argument("--root", type=pathlib.Path, help="folder that keeps the network (default: a temporary one)")
    parser.add_argument("--frames", type=int, default=300, help="frames to replay")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, in turns")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="processes; the first is the measure")
    arguments = parser.parse_args()
    # Also for the workers, which inherit it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        return _measure(arguments.root or scratch, scratch, arguments.frames, arguments.repeats, arguments.workers)


def _measure(root: pathlib.Path, scratch: pathlib.Path, count: int, repeats: int, numbers: list[int]) -> int:
    paths = ModelPaths(
        str(zoo.saved_model(NETWORK, root)),
        str(zoo.tflite(NETWORK, root, "none")),
        str(zoo.tflite(NETWORK, root, "int8")),
        zoo.SIGNATURE,
    )
    many, few = _write_records(scratch / "many", count), _write_records(scratch / "few", WARM_FRAMES)
    options = TallyOptions()
    expected = replay.replay(paths, try_tfrecords(many), scratch / "expected", options=options)
    walls: dict[tuple[int, int], list[float]] = {}
    differences: dict[int, tuple[int, float]] = dict.fromkeys(numbers, (0, 0.0))
    for _ in range(repeats):
        # In turns, so that what else the machine does meets all alike.
        for workers in numbers:
            for files, frames in ((few, WARM_FRAMES), (many, count)):
                start = time.perf_counter()
                replayed = _replay(paths, files, expected.alignment, options, workers, scratch / f"{workers}-{frames}")
                walls.setdefault((workers, frames), []).append(time.perf_counter() - start)
            counts, sums = _difference(replayed, expected)
            differences[workers] = differences[workers][0] + counts, max(differences[workers][1], sums)

    wall = {key: statistics.median(values) for key, values in walls.items()}
    # What the frames cost beyond the start of the processes and the opening of the models.
    frame = {w: (wall[w, count] - wall[w, WARM_FRAMES]) / (count - WARM_FRAMES) for w in numbers}
    table = rich.table.Table(title=f"{NETWORK}, {count} frames, median of {repeats}", box=rich.box.SIMPLE_HEAD)
    table.add_column("worker processes")
    for column in ("whole run", "a frame", "speed-up a frame", "other counts", "largest difference of sums"):
        table.add_column(column, justify="right")
    for workers in numbers:
        counts, sums = differences[workers]
        table.add_row(
            str(workers),
            f"{wall[workers, count]:.1f} s",
            f"{1000 * frame[workers]:.1f} ms",
            f"{frame[numbers[0]] / frame[workers]:.2f}",
            str(counts),
            formats.number(sums),
        )
    rich.console.Console(width=110).print(table)
    print("Counts, extremes, failures and worst frames against a replay in one process without Beam; sums relative.")
    return int(any(counts or sums > TOLERANCE for counts, sums in differences.values()))


def _replay(
    paths: ModelPaths,
    files: list[str],
    alignment: Alignment,
    options: TallyOptions,
    workers: int,
    directory: pathlib.Path,
) -> result.ReplayResult:
    arguments = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    shared_replayer = beam_replay.SharedReplayer(paths)
    source = ExampleSource(files, Decoder())
    with beam_replay.fresh(directory), beam.Pipeline(options=PipelineOptions(arguments)) as pipeline:
        _ = (
            pipeline
            | beam.Create(source.parts)
            | beam_replay.Replay(shared_replayer, alignment, source, None, options, directory)
        )
    failures = beam_replay.take_failures(directory, options)
    learned = result.ReplayResult(directory).statistics
    result.write_head(directory, replay.summary(paths, shared_replayer.acquire(), failures, learned), alignment)
    return result.ReplayResult.open(directory)


def _difference(found: result.ReplayResult, expected: result.ReplayResult) -> tuple[int, float]:
    """Returns how many exact figures differ, and the largest relative difference of the others."""
    pairs = zip(_figures(found), _figures(expected), strict=True)
    counts, sums = 0, 0.0
    for left, right in pairs:
        if isinstance(left, float) and isinstance(right, float) and not math.isnan(right):
            sums = max(sums, abs(left - right) / max(abs(left), abs(right), sys.float_info.min))
        else:
            counts += left != right
    return counts, sums


def _figures(replayed: result.ReplayResult) -> Iterator[Any]:
    for key in sorted(replayed.statistics.by_key):
        yield from _leaves(json.loads(to_line(key, replayed.statistics.by_key[key])))
    yield from _leaves(replayed.failures.to_dict())
    for frame in replayed.worst_frames():
        yield frame.id
        yield repr(frame.drift)


def _leaves(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        document = [value for pair in sorted(document.items()) for value in pair]
    if isinstance(document, list):
        for value in document:
            yield from _leaves(value)
    else:
        yield document


def _write_records(folder: pathlib.Path, count: int) -> list[str]:
    import tensorflow as tf

    folder.mkdir()
    inputs = zoo.frames(NETWORK, count)
    files = [str(folder / f"data-{shard}.gz") for shard in range(SHARDS)]
    for shard, file in enumerate(files):
        with tf.io.TFRecordWriter(file, "GZIP") as writer:
            for number in range(shard, count, SHARDS):
                features = {
                    name: tf.train.Feature(float_list=tf.train.FloatList(value=values[number].ravel()))
                    for name, values in inputs.items()
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return files


if __name__ == "__main__":
    sys.exit(main())
