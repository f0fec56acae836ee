"""Replaying examples on Beam: models open once in each worker, statistics merge by key."""

import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms import window

from edge_exray.frames.examples import decode_example
from edge_exray.frames.functions import UserFunctions, load_functions
from edge_exray.models.alignment import Alignment
from edge_exray.replay import result
from edge_exray.replay.replayer import ModelPaths, Replayer
from edge_exray.replay.statistics import Key, ReplayStatistics, Statistic, to_line

_FRAMES, _STATISTICS = "frames", "statistics"


@beam.ptransform_fn
def Replay(  # noqa: N802 (Beam's transforms are named like classes)
    records: beam.PCollection[bytes],
    paths: ModelPaths,
    alignment: Alignment,
    module: str | None,
    slice_keys: Sequence[str],
    directory: pathlib.Path,
) -> None:
    """Replays serialized tf.Examples and writes all but the head of a `ReplayResult` into a directory.

    Args:
        records: Serialized tf.Examples.
        paths: The models; every worker must be able to read them.
        alignment: How their layers are paired.
        module: Source of the user functions, see `load_functions`; None for the defaults.
        slice_keys: Features whose values name slices.
        directory: Directory of the result.
    """
    replayed = records | "Replay" >> beam.ParDo(_ReplayFn(paths, alignment, module, slice_keys)).with_outputs(
        _FRAMES, _STATISTICS, main=result.PREDICTIONS
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


class _ReplayFn(beam.DoFn):
    """Replays records; the statistics of a bundle leave it once, at its end."""

    def __init__(self, paths: ModelPaths, alignment: Alignment, module: str | None, slice_keys: Sequence[str]) -> None:
        self._paths = paths
        self._alignment = alignment
        self._module = module
        self._slice_keys = tuple(slice_keys)
        self._replayer: Replayer
        self._functions: UserFunctions
        self._statistics: ReplayStatistics

    def setup(self) -> None:
        self._functions = load_functions(self._module)
        self._replayer = Replayer(self._paths)
        self._replayer.alignment = self._alignment

    def start_bundle(self) -> None:
        self._statistics = ReplayStatistics()

    def process(self, record: bytes) -> Iterator[Any]:
        cloud, edge = self._replayer.cloud.inputs, self._replayer.edge.inputs
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
