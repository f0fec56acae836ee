"""Replaying examples on Beam: models open once in each worker, statistics merge by key."""

import contextlib
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms import window

from edge_exray import errors
from edge_exray.frames.examples import decode_example, read_records
from edge_exray.frames.functions import UserFunctions, load_functions
from edge_exray.models.alignment import Alignment
from edge_exray.replay import result
from edge_exray.replay.replayer import ModelPaths, Replayer
from edge_exray.replay.statistics import Key, ReplayStatistics, Statistic, to_line

_FRAMES, _STATISTICS = "frames", "statistics"
_FAILURES = "failures"


@beam.ptransform_fn
def Replay(  # noqa: N802 (Beam's transforms are named like classes)
    files: beam.PCollection[str],
    paths: ModelPaths,
    alignment: Alignment,
    module: str | None,
    slice_keys: Sequence[str],
    directory: pathlib.Path,
) -> None:
    """Replays tf.Examples and writes all but the head of a `ReplayResult` into a directory.

    Args:
        files: TFRecord files of tf.Examples.
        paths: The models; every worker must be able to read them.
        alignment: How their layers are paired.
        module: Source of the user functions, see `load_functions`; None for the defaults.
        slice_keys: Features whose values name slices.
        directory: Directory of the result.
    """
    replayed = (
        files
        | "Read" >> beam.ParDo(_ReadFn(directory))
        # Otherwise a file would be replayed by the one worker that read it, and small splits are one file.
        | "Spread" >> beam.Reshuffle()
        | "Replay"
        >> beam.ParDo(_ReplayFn(paths, alignment, module, slice_keys, directory)).with_outputs(
            _FRAMES, _STATISTICS, main=result.PREDICTIONS
        )
    )
    _ = replayed[result.PREDICTIONS] | "WritePredictions" >> beam.io.WriteToTFRecord(
        str(directory / result.PREDICTIONS / "part"), file_name_suffix=".gz"
    )
    _ = replayed[_FRAMES] | "WriteFrames" >> beam.io.WriteToText(
        str(directory / result.FRAMES / "part"), file_name_suffix=".jsonl.gz"
    )
    _ = (
        replayed[_STATISTICS]
        | "MergeStatistics" >> beam.CombinePerKey(_MergeFn())
        | "ToLines" >> beam.MapTuple(lambda key, statistic: to_line(Key(*key), statistic))
        | "WriteStatistics"
        >> beam.io.WriteToText(str(directory / result.STATISTICS / "part"), file_name_suffix=".jsonl.gz")
    )


@contextlib.contextmanager
def fresh(directory: pathlib.Path) -> Iterator[None]:
    """Gives `Replay` a clean directory, and raises what a worker raised instead of what the runner makes of it.

    Args:
        directory: Directory of the result; parts that an interrupted attempt left there are removed.
    """
    parts = (result.PREDICTIONS, result.FRAMES, result.STATISTICS, _FAILURES)
    _remove(directory, parts)
    try:
        yield
    except Exception as e:
        # Each runner wraps the exceptions of its workers in another type.
        failures = [json.loads(path.read_text("utf-8")) for path in (directory / _FAILURES).glob("*.json")]
        _remove(directory, parts)
        if not failures:
            raise
        first = min(failures, key=lambda failure: failure["message"])
        raise getattr(errors, first["type"])(first["message"]) from e


def _remove(directory: pathlib.Path, parts: Iterable[str]) -> None:
    for part in parts:
        shutil.rmtree(directory / part, ignore_errors=True)


@contextlib.contextmanager
def _reported(directory: pathlib.Path) -> Iterator[None]:
    """Leaves an error where `fresh` finds it: runners carry exceptions of workers as text."""
    try:
        yield
    except errors.ExrayError as e:
        document = json.dumps({"type": type(e).__name__, "message": str(e)})
        (directory / _FAILURES).mkdir(parents=True, exist_ok=True)
        (directory / _FAILURES / f"{uuid.uuid4().hex}.json").write_text(document, "utf-8")
        raise


class _ReadFn(beam.DoFn):
    """Reads the records of files."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory

    def process(self, file: str) -> Iterator[bytes]:
        with _reported(self._directory):
            yield from read_records([file])


class _ReplayFn(beam.DoFn):
    """Replays records; the statistics of a bundle leave it once, at its end."""

    def __init__(
        self,
        paths: ModelPaths,
        alignment: Alignment,
        module: str | None,
        slice_keys: Sequence[str],
        directory: pathlib.Path,
    ) -> None:
        self._paths = paths
        self._alignment = alignment
        self._module = module
        self._slice_keys = tuple(slice_keys)
        self._directory = directory
        self._replayer: Replayer
        self._functions: UserFunctions
        self._statistics: ReplayStatistics

    def setup(self) -> None:
        with _reported(self._directory):
            self._functions = load_functions(self._module)
            self._replayer = Replayer(self._paths)
        self._replayer.alignment = self._alignment

    def start_bundle(self) -> None:
        self._statistics = ReplayStatistics()

    def process(self, record: bytes) -> Iterator[Any]:
        cloud, edge = self._replayer.cloud.inputs, self._replayer.edge.inputs
        with _reported(self._directory):
            frame = self._functions.frame(decode_example(record), cloud, edge, self._slice_keys)
            prediction = self._replayer.replay(frame, self._statistics)
        yield result.prediction_record(prediction)
        yield beam.pvalue.TaggedOutput(_FRAMES, result.frame_line(prediction))

    def finish_bundle(self) -> Iterator[Any]:
        for key, statistic in self._statistics.by_key.items():
            # A plain tuple: Beam has a deterministic coder for it.
            value = window.GlobalWindows.windowed_value((tuple(key), statistic))
            yield beam.pvalue.TaggedOutput(_STATISTICS, value)


class _MergeFn(beam.CombineFn):
    """Merges the statistics of one key."""

    def create_accumulator(self) -> Statistic | None:
        return None  # the kind of statistic is known with the first input

    def add_input(self, accumulator: Statistic | None, statistic: Statistic) -> Statistic:
        merged = type(statistic)() if accumulator is None else accumulator
        merged.merge(statistic)  # type: ignore[arg-type]
        return merged

    def merge_accumulators(self, accumulators: Iterable[Statistic | None]) -> Statistic | None:
        merged: Statistic | None = None
        for accumulator in accumulators:
            if accumulator is not None:
                merged = self.add_input(merged, accumulator)
        return merged

    def extract_output(self, accumulator: Statistic) -> Statistic:
        return accumulator
