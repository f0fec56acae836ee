"""Replaying examples on Beam: models open once in each worker process, what is learned merges."""

import contextlib
import copy
import functools
import json
import pathlib
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.transforms import window
from apache_beam.utils import shared

from edge_exray import errors
from edge_exray.components.edge_replay.sources import Source
from edge_exray.frames.functions import Frame, UserFunctions, load_functions
from edge_exray.models.alignment import Alignment
from edge_exray.replay import result
from edge_exray.replay.failures import FrameFailures
from edge_exray.replay.replayer import ModelPaths, Prediction, Replayer
from edge_exray.replay.statistics import Key, ReplayStatistics, to_line
from edge_exray.replay.tally import Tally, TallyOptions

_FRAMES, _STATISTICS, _WORST, _SAMPLES, _FAILURES = "frames", "statistics", "worst", "samples", "failures"
_FAILURES_FILE = "failures.json"
_ERRORS = "errors"
_TEMPORARY = (_ERRORS, _FAILURES)
_Mergeable = TypeVar("_Mergeable")


class SharedReplayer:
    """Models that all threads of a process share; a copy in another process opens them there, once.

    Args:
        paths: The models; every worker must be able to read them.
    """

    def __init__(self, paths: ModelPaths) -> None:
        self._paths = paths
        self._handle = shared.Shared()

    def acquire(self) -> "_ThreadSafeReplayer":
        """Returns the models of this process, which open on the first call.

        Raises:
            ModelError: A model does not load, or the models do not pair.
        """
        return self._handle.acquire(functools.partial(_ThreadSafeReplayer, self._paths))


class _ThreadSafeReplayer(Replayer):
    """Replays one frame at a time: the layers of a frame are read from the memory of the interpreters.

    A worker process has one set of models however many threads it runs; it takes more processes to use more cores.
    """

    def __init__(self, paths: ModelPaths) -> None:
        super().__init__(paths)
        self._lock = threading.Lock()

    def replay(self, frame: Frame, statistics: ReplayStatistics) -> Prediction:
        with self._lock:
            return super().replay(frame, statistics)

    def close(self) -> None:
        """Ends child processes; another thread that still replays starts them anew."""
        with self._lock:
            super().close()


@beam.ptransform_fn
def Replay(  # noqa: N802 (Beam's transforms are named like classes)
    parts: beam.PCollection[Any],
    replayer: SharedReplayer,
    alignment: Alignment,
    source: Source,
    module: str | None,
    options: TallyOptions,
    directory: pathlib.Path,
) -> None:
    """Replays frames and writes all but the head of a `ReplayResult` into a directory.

    Args:
        parts: The parts of the source.
        replayer: The models.
        alignment: How their layers are paired.
        source: Reads the parts and makes examples of their records.
        module: Source of the user functions, see `load_functions`; None for the defaults.
        options: Slices, how many frames may fail, and what is kept of the frames.
        directory: Directory of the result.
    """
    replayed = (
        parts
        | "Read" >> beam.ParDo(_ReadFn(source, directory))
        # Otherwise a file would be replayed by the one worker that read it, and small splits are one file.
        | "Spread" >> beam.Reshuffle()
        | "Replay"
        >> beam.ParDo(_ReplayFn(replayer, alignment, source, module, options, directory)).with_outputs(
            _FRAMES, _STATISTICS, _WORST, _SAMPLES, _FAILURES, main=result.PREDICTIONS
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
    for tag, part, to_record in (
        (_WORST, result.WORST_FRAMES, result.worst_frame_record),
        (_SAMPLES, result.INPUT_SAMPLES, result.input_sample_record),
    ):
        _ = (
            replayed[tag]
            | f"Merge {tag}" >> beam.CombineGlobally(_MergeFn()).without_defaults()
            | f"Records of {tag}" >> beam.FlatMap(functools.partial(map, to_record))
            | f"Write {tag}" >> beam.io.WriteToTFRecord(str(directory / part / "part"), file_name_suffix=".gz")
        )
    _ = (
        replayed[_FAILURES]
        | "MergeFailures" >> beam.CombineGlobally(_MergeFn()).without_defaults()
        | "ToDocument" >> beam.Map(lambda failures: json.dumps(failures.to_dict()))
        | "WriteFailures" >> beam.io.WriteToText(str(directory / _FAILURES / _FAILURES_FILE), shard_name_template="")
    )


@contextlib.contextmanager
def fresh(directory: pathlib.Path) -> Iterator[None]:
    """Gives `Replay` a clean directory, and raises what a worker raised instead of what the runner makes of it.

    Args:
        directory: Directory of the result; parts that an interrupted attempt left there are removed.
    """
    _remove(directory, (*result.PARTS, *_TEMPORARY))
    try:
        yield
    except Exception as e:
        # Each runner wraps the exceptions of its workers in another type.
        raised = [json.loads(path.read_text("utf-8")) for path in (directory / _ERRORS).glob("*.json")]
        _remove(directory, (*result.PARTS, *_TEMPORARY))
        if not raised:
            raise
        first = min(raised, key=lambda error: error["message"])
        raise getattr(errors, first["type"])(first["message"]) from e


def take_failures(directory: pathlib.Path, options: TallyOptions) -> FrameFailures:
    """Returns the frames that failed in all workers, once `Replay` has run; each of them knew its own only.

    Raises:
        DataError: More failed than may; nothing is left of the result then.
    """
    document = json.loads((directory / _FAILURES / _FAILURES_FILE).read_text("utf-8"))
    failures = FrameFailures.from_dict(document)
    _remove(directory, _TEMPORARY)
    try:
        failures.check(options.max_failed_frames)
    except errors.DataError:
        _remove(directory, result.PARTS)
        raise
    return failures


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
        (directory / _ERRORS).mkdir(parents=True, exist_ok=True)
        (directory / _ERRORS / f"{uuid.uuid4().hex}.json").write_text(document, "utf-8")
        raise


class _ReadFn(beam.DoFn):
    """Reads the records of parts, each with its place."""

    def __init__(self, source: Source, directory: pathlib.Path) -> None:
        self._source = source
        self._directory = directory

    def process(self, part: Any) -> Iterator[tuple[str, Any]]:
        with _reported(self._directory):
            yield from self._source.records(part)


class _ReplayFn(beam.DoFn):
    """Replays records; what a bundle has learned leaves it once, at its end."""

    def __init__(
        self,
        shared_replayer: SharedReplayer,
        alignment: Alignment,
        source: Source,
        module: str | None,
        options: TallyOptions,
        directory: pathlib.Path,
    ) -> None:
        self._shared_replayer = shared_replayer
        self._alignment = alignment
        self._source = source
        self._module = module
        self._options = options
        self._directory = directory
        self._replayer: _ThreadSafeReplayer | None = None
        self._functions: UserFunctions
        self._tally: Tally

    def setup(self) -> None:
        with _reported(self._directory):
            self._functions = load_functions(self._module)
            self._replayer = self._shared_replayer.acquire()
        self._replayer.alignment = self._alignment

    def start_bundle(self) -> None:
        assert self._replayer is not None
        self._tally = Tally(self._replayer, self._functions, self._options)

    def process(self, placed_record: tuple[str, Any]) -> Iterator[Any]:
        place, record = placed_record
        with _reported(self._directory):
            prediction = self._tally.replay(self._source.decode(place, record), place)
        if prediction is not None:
            yield result.prediction_record(prediction)
            yield beam.pvalue.TaggedOutput(_FRAMES, result.frame_line(prediction))

    def finish_bundle(self) -> Iterator[Any]:
        outputs: list[tuple[str, Any]] = [
            (_WORST, self._tally.worst),
            (_SAMPLES, self._tally.samples),
            (_FAILURES, self._tally.failures),
        ]
        # Plain tuples as keys: Beam has a deterministic coder for them.
        outputs += [(_STATISTICS, (tuple(key), value)) for key, value in self._tally.statistics.by_key.items()]
        for tag, value in outputs:
            yield beam.pvalue.TaggedOutput(tag, window.GlobalWindows.windowed_value(value))

    def teardown(self) -> None:
        if self._replayer is not None:  # there is none when `setup` failed
            self._replayer.close()


class _MergeFn(beam.CombineFn):
    """Merges what has a method `merge`."""

    def create_accumulator(self) -> None:
        return None  # what there is to merge is known with the first input

    def add_input(self, accumulator: _Mergeable | None, part: _Mergeable) -> _Mergeable:
        if accumulator is None:
            return copy.deepcopy(part)  # Beam's inputs are not to be changed
        accumulator.merge(part)  # type: ignore[attr-defined]
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[_Mergeable | None]) -> _Mergeable | None:
        merged = None
        for accumulator in accumulators:
            if accumulator is not None:
                merged = self.add_input(merged, accumulator)
        return merged

    def extract_output(self, accumulator: _Mergeable) -> _Mergeable:
        return accumulator
