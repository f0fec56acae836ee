"""Reading logs: frame by frame, in bounded memory, past what is damaged."""

import collections
import contextlib
import dataclasses
import functools
import gzip
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.monitor import example, records, storage, tensors
from edge_exray.monitor.records import Damage, Record
from edge_exray.monitor.tensors import LoggedTensor

_NUMBER = re.compile(r"-(\d{5,})$")
# With the one slash that a path keeps of two.
_ADDRESS = re.compile(r"[a-z0-9]{2,}:/")


@dataclasses.dataclass(frozen=True)
class Span:
    """One run of a stage: when it began after the frame's begin, and how long it took, in nanoseconds."""

    start_ns: int
    duration_ns: int


@dataclasses.dataclass(frozen=True)
class OpTime:
    """Time of an op: its index in subgraph 0, its name such as `CONV_2D`, nanoseconds."""

    index: int
    name: str
    duration_ns: int


class LogHeader:
    """What a file tells of the run that wrote it.

    Args:
        record: The header's record.

    Raises:
        DataError: A newer version wrote it, or it lacks what every header has.

    Attributes:
        path: The file.
        facts: Feature to text or number, see `schemas/edge_log.md`; several values are a list.
    """

    def __init__(self, record: Record) -> None:
        self.path = record.path
        self.facts: dict[str, Any] = {key: _plain(values) for key, values in record.features.items()}
        version = _required(self.facts, "exray/format_version", record)
        if version > records.FORMAT_VERSION:
            raise errors.DataError(
                f"{record.path} is a log of format version {version}, this edge-exray reads up to "
                f"{records.FORMAT_VERSION}: upgrade it"
            )
        self.log_id: str = _required(self.facts, "exray/log_id", record)
        self.part: int = _required(self.facts, "exray/part", record)
        self.level: str = _required(self.facts, "exray/level", record)

    @property
    def model_sha256(self) -> str | None:
        """SHA-256 of the .tflite; None when the app did not tell."""
        return self.facts.get("model/sha256")


class LoggedFrame:
    """A frame of a log; tensors are decoded when they are asked for.

    Args:
        record: The frame's record.
        header: The header before it; None when that is damaged.

    Raises:
        DataError: It lacks what every frame has; reading a tensor: its features contradict each other.

    Attributes:
        place: File and offset.
        header: See above.
        id: By which logs are joined.
        sequence: Number in the run, frames that are not logged included.
        time_ns: Wall clock at its begin, nanoseconds since 1970.
        monotonic_ns: The log's clock then.
        duration_ns: From begin to end.
        sampled_by: The rule that chose it.
        dropped: Frames that the run had lost before it.
        runtime: What ran the model.
        error: The app's exception that ended it.
    """

    def __init__(self, record: Record, header: LogHeader | None = None) -> None:
        self._record = record
        self.place = record.place
        self.header = header
        facts = {key: _plain(v) for key, v in record.features.items() if tensors.split_key(key) is None}
        self._facts = facts
        self.id: str = _required(facts, "exray/frame_id", record)
        self.sequence: int = _required(facts, "exray/sequence", record)
        self.time_ns: int = _required(facts, "exray/time_ns", record)
        self.monotonic_ns: int = _required(facts, "exray/monotonic_ns", record)
        self.duration_ns: int = _required(facts, "exray/duration_ns", record)
        self.sampled_by: str = _required(facts, "exray/sampled_by", record)
        self.dropped: int = _required(facts, "exray/dropped", record)
        self.runtime: str | None = facts.get("exray/runtime")
        self.error: str | None = facts.get("exray/error")

    @classmethod
    def of_example(cls, serialized: bytes, header: LogHeader | None = None) -> "LoggedFrame":
        """Takes a frame from the serialized tf.Example that it is in the file.

        Raises:
            DataError: It is none.
        """
        try:
            features = example.decode(serialized)
        except example.WireError as e:
            raise errors.DataError(f"the bytes are not a tf.Example: {e}") from e
        if _plain(features.get("exray/kind", [])) != "frame":
            raise errors.DataError("the tf.Example is no frame of an edge log: its exray/kind is another")
        return cls(Record("<bytes>", 0, serialized, features), header)

    @property
    def serialized(self) -> bytes:
        """The serialized tf.Example that it is in the file."""
        return self._record.data

    @property
    def at(self) -> tuple[str, int]:
        """File and offset of its record, by which `frame_at` reads it again."""
        return self._record.path, self._record.offset

    @property
    def raw(self) -> dict[str, LoggedTensor]:
        """What the sensor gave."""
        return self._tensors["raw"]

    @property
    def inputs(self) -> dict[str, LoggedTensor]:
        """What the model was fed."""
        return self._tensors["input"]

    @property
    def outputs(self) -> dict[str, LoggedTensor]:
        """What it answered."""
        return self._tensors["output"]

    @property
    def layers(self) -> dict[str, LoggedTensor]:
        """What its ops computed, `INDEX/TENSOR` to tensor, in the order of execution."""
        return self._tensors["layer"]

    @functools.cached_property
    def spans(self) -> dict[str, list[Span]]:
        """Stage to the times that it ran."""
        spans = {}
        for key in self._record.features:
            head, _, name = key.partition("/")
            if head == "span_ns":
                durations, starts = _listed(self._facts[key]), _listed(self._facts.get(f"span_start_ns/{name}", []))
                # A writer that tells no starts still tells durations.
                starts = starts if len(starts) == len(durations) else [0] * len(durations)
                spans[name] = [Span(s, d) for s, d in zip(starts, durations, strict=True)]
        return spans

    @property
    def ops(self) -> list[OpTime]:
        """Times of the ops in the order of execution; empty where the runtime does not tell."""
        columns = [_listed(self._facts.get(f"op/{key}", [])) for key in ("index", "name", "ns")]
        if len({len(column) for column in columns}) > 1:
            raise errors.DataError(f"{self.place}: op/index, op/name and op/ns differ in length; its writer is wrong")
        return [OpTime(*row) for row in zip(*columns, strict=True)]

    @property
    def device(self) -> dict[str, float]:
        """`rss_bytes`, `peak_rss_bytes`, `battery_percent`, `temperature_c`, each where it is known."""
        names = ("rss_bytes", "peak_rss_bytes", "battery_percent", "temperature_c")
        return {name: self._facts[f"exray/{name}"] for name in names if f"exray/{name}" in self._facts}

    @property
    def user(self) -> dict[str, Any]:
        """What the app said: key to number or text, or a list of several."""
        return {key.partition("/")[2]: value for key, value in self._facts.items() if key.startswith("user/")}

    def to_example(self, layers: bool = False) -> dict[str, np.ndarray]:
        """Returns it with numbers as numbers, as statistics over examples need it.

        Args:
            layers: Whether the layers come along.

        Returns:
            Feature to 1-D array: tensors under their keys in the log, flat, dequantised, float32, int64 or bytes;
            all else as it is in the log.
        """
        found: dict[str, np.ndarray] = {}
        for key, values in self._record.features.items():
            if tensors.split_key(key) is None:
                found[key] = _object_array(values) if isinstance(values, list) else values
        for role, named in self._tensors.items():
            for name, tensor in named.items():
                real = tensor.real()
                if real is not None and (layers or role != "layer"):
                    found[f"{role}/{name}"] = _flat(real, tensor.dtype)
        return found

    @functools.cached_property
    def _tensors(self) -> dict[str, dict[str, LoggedTensor]]:
        return tensors.decode_tensors(self._record.features, self.place)


@dataclasses.dataclass
class LogReport:
    """What reading found.

    Attributes:
        files: How many were read.
        frames: How many whole frames.
        damages: What was left out, in the order of the files.
        unclosed: Files without a footer: their app was killed, or still writes.
        counts: Run (`log_id`) to the counts of its last footer: `seen`, `sampled`, `written`, `deleted_frames`, ...,
            `dropped/REASON`, `problems/KIND`.
        read: Run to the frames of it that were read.
    """

    files: int = 0
    frames: int = 0
    damages: list[Damage] = dataclasses.field(default_factory=list)
    unclosed: list[str] = dataclasses.field(default_factory=list)
    counts: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    read: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def __bool__(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages

    @property
    def dropped(self) -> int:
        """Frames that were sampled and that the apps themselves could not log."""
        return sum(n for counts in self.counts.values() for key, n in counts.items() if key.startswith("dropped/"))


class EdgeLog:
    """One or several logs, read in the order of their files.

    Args:
        paths: The name of a log, `DIR/run.exray`, for its file and the continuations `run-00001.exray`, ... beside it;
            or a folder, for all files in it; or several of these.

    Raises:
        DataError: Nothing is there.

    Attributes:
        files: The files, oldest first.
        report: What the last iteration found, as far as it got.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        self.files = [file for path in paths for file in _files(pathlib.Path(path))]
        self.report = LogReport()

    def __iter__(self) -> Iterator[LoggedFrame]:
        """Reads the frames, one in memory at a time.

        Raises:
            DataError: A file has a format that this version does not know.
            OSError: A file cannot be read.
        """
        self.report = report = LogReport()
        for file in self.files:
            report.files += 1
            header: LogHeader | None = None
            is_closed = False
            for found in records.read(file):
                if isinstance(found, Damage):
                    report.damages.append(found)
                    continue
                kind = _plain(found.features["exray/kind"])
                is_closed = kind == "footer"
                if kind == "header":
                    header = LogHeader(found)
                elif kind == "footer":
                    report.counts[_plain(found.features.get("exray/log_id", []))] = _counts(found)
                elif kind == "frame":
                    report.frames += 1
                    report.read[header.log_id if header else ""] += 1
                    yield LoggedFrame(found, header)
            if not is_closed:
                report.unclosed.append(file)

    def check(self) -> LogReport:
        """Reads everything for its report."""
        for _ in self:
            pass
        return self.report

    def headers(self) -> list[LogHeader]:
        """Reads the header of each file that has a whole one."""
        found = []
        for file in self.files:
            with open(file, "rb") as stream:
                record = records.read_at(stream, file, 0, os.fstat(stream.fileno()).st_size)
            if isinstance(record, Record) and _plain(record.features["exray/kind"]) == "header":
                found.append(LogHeader(record))
        return found

    def join(self, other: "EdgeLog") -> "JoinedLogs":
        """Pairs the frames that have the same id in another log."""
        return JoinedLogs(self, other)

    def write_examples(
        self, path: str | os.PathLike[str], layers: bool = False, names: Mapping[str, str] | None = None
    ) -> int:
        """Writes the frames as `LoggedFrame.to_example` has them, in one TFRecord file, GZIP if it ends with `.gz`.

        Args:
            path: The file.
            layers: Whether the layers come along.
            names: Feature to the name that it gets instead.

        Returns:
            How many.

        Raises:
            ArtifactError: The file cannot be written.
            DataError: Two features of a frame get one name.
        """
        target = pathlib.Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        count = 0
        try:
            try:
                with gzip.open(temporary, "wb") if target.suffix == ".gz" else open(temporary, "wb") as stream:
                    for frame in self:
                        found = _renamed(frame.to_example(layers), names or {}, frame.place)
                        encoded = [_encode(key, values) for key, values in found.items()]
                        stream.writelines(map(records.view, records.frame(encoded)))
                        count += 1
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as e:
            raise errors.ArtifactError(f"cannot write {target}: {e.strerror}") from e
        return count


class JoinedLogs:
    """Pairs of frames with the same id in two logs, in the order of the first.

    A frame whose id stands several times in both is paired with the one of the same turn.

    Attributes:
        only_left, only_right: Ids without a partner, known after an iteration.
    """

    def __init__(self, left: EdgeLog, right: EdgeLog) -> None:
        self._left, self._right = left, right
        self.only_left: list[str] = []
        self.only_right: list[str] = []

    def __iter__(self) -> Iterator[tuple[LoggedFrame, LoggedFrame]]:
        """Reads both; only the places of the frames of the second are in memory."""
        headers: dict[str, LogHeader | None] = {}
        places: dict[str, collections.deque[tuple[str, int]]] = collections.defaultdict(collections.deque)
        for frame in self._right:
            record = frame._record
            headers.setdefault(record.path, frame.header)
            places[frame.id].append((record.path, record.offset))
        self.only_left = []
        with contextlib.ExitStack() as stack:
            streams: dict[str, Any] = {}
            for frame in self._left:
                if not places[frame.id]:
                    self.only_left.append(frame.id)
                    continue
                path, offset = places[frame.id].popleft()
                if path not in streams:
                    streams[path] = stack.enter_context(open(path, "rb"))
                found = records.read_at(streams[path], path, offset, os.fstat(streams[path].fileno()).st_size)
                if isinstance(found, Damage):
                    raise errors.DataError(f"{found}: the file was changed while it was read")
                yield frame, LoggedFrame(found, headers[path])
        self.only_right = [frame_id for frame_id, left in places.items() for _ in left]


def read_log(*paths: str | os.PathLike[str]) -> EdgeLog:
    """Opens one or several logs; see `EdgeLog`."""
    return EdgeLog(*paths)


def frame_at(path: str, offset: int) -> LoggedFrame:
    """Reads a frame again, see `LoggedFrame.at`.

    Raises:
        DataError: Its record is not there any more.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        found = records.read_at(file, path, offset, os.fstat(file.fileno()).st_size)
    if isinstance(found, Damage):
        raise errors.DataError(f"{found}: the file was changed while it was read")
    return LoggedFrame(found)


def _files(path: pathlib.Path) -> list[str]:
    if path.is_dir():
        found = sorted((p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")), key=_order)
    else:
        found = storage.files_of(path)
    if not found and _ADDRESS.match(str(path)):
        raise errors.DataError(f"{path} is an address, and logs are read from files: copy them here first")
    if not found:
        what = "the folder has no files" if path.is_dir() else "there is no such file"
        raise errors.DataError(f"no log at {path}: {what}")
    return [str(p) for p in found]


def _order(path: pathlib.Path) -> tuple[str, int]:
    match = _NUMBER.search(path.stem)
    return (path.stem[: match.start()], int(match[1])) if match else (path.stem, 0)


def _plain(values: Any) -> Any:
    """Returns the values of a feature as text or number, or as a list when there is not just one."""
    listed = [_text(v) for v in values] if isinstance(values, list) else values.tolist()
    return listed[0] if len(listed) == 1 else listed


def _text(value: memoryview) -> str | bytes:
    content = bytes(value)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _required(facts: Mapping[str, Any], key: str, record: Record) -> Any:
    value = facts.get(key, [])
    if isinstance(value, list):
        raise errors.DataError(f"{record.place}: {key} needs one value; its writer is wrong")
    return value


def _counts(record: Record) -> dict[str, int]:
    found = {key: _plain(v) for key, v in record.features.items()}
    return {key.removeprefix("count/"): value for key, value in found.items() if key.startswith("count/")}


def _object_array(values: Iterable[Any]) -> np.ndarray:
    listed = [bytes(v) for v in values]
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def _renamed(found: dict[str, np.ndarray], names: Mapping[str, str], place: str) -> dict[str, np.ndarray]:
    renamed = {names.get(key, key): values for key, values in found.items()}
    if len(renamed) < len(found):
        raise errors.DataError(f"{place}: of {sorted(found)} two get the same name: rename them otherwise than {names}")
    return renamed


def _flat(values: np.ndarray, dtype: str) -> np.ndarray:
    if values.dtype == object:
        return values.ravel()
    if dtype == "bfloat16":  # the upper half of a float32
        return (values.ravel().astype(np.uint32) << 16).view(np.float32)
    if values.dtype.kind == "c":
        return np.stack([values.real, values.imag], -1).ravel().astype(np.float32)
    # The only integers that int64 has no room for.
    is_float = values.dtype.kind == "f" or values.dtype == np.uint64
    return values.ravel().astype(np.float32 if is_float else np.int64)


def _encode(key: str, values: np.ndarray) -> bytes:
    if values.dtype == object:
        return example.bytes_list(key, values.tolist())
    return example.numbers(key, values)
