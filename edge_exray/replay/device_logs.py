"""Logs that apps wrote on devices, as frames to replay.

The first device is judged. The others are environments: what they answered to a frame, joined by its id, stands beside
what the first one did.
"""

import collections
import copy
import dataclasses
import functools
import operator
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from edge_exray import errors, files
from edge_exray.drift.quantiles import QuantileSketch
from edge_exray.frames.functions import UserFunctions
from edge_exray.monitor.log import EdgeLog, LoggedFrame, LogHeader, LogReport, frame_at

UNKNOWN_DEVICE = "unknown"
"""Name of a device whose header is lost or does not tell."""

_NS_PER_MS = 1e6
_NAMED = 5
# What the answers of the two sides go by, where those of environments are stored.
_SIDES = ("cloud", "edge")
_FACTS = ("device/os", "app/name", "app/version", "runtime/kernels", "runtime/threads", "exray/level", "exray/raw")


class FramePlace(NamedTuple):
    """Where a frame of the judged device stands.

    Attributes:
        id: Its id.
        path, offset: File and offset of its record.
        others: Name of each other device that logged a frame of this id, with its file and offset.
    """

    id: str
    path: str
    offset: int
    others: tuple[tuple[str, str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.path}, byte {self.offset}"


class LoggedExample(dict[str, np.ndarray]):
    """A logged frame as the user's functions see it: raw inputs by name, and what the app said of the frame by its key.

    Raw tensors keep their shape; numbers and texts are 1-D, as in a tf.Example. What the app said under the name of a
    raw input is found under `user/KEY` alone, where all of it is.

    Args:
        frame: The frame.
        others: Name of each other device to its frame, or why it cannot be read.

    Raises:
        DataError: The raw inputs were not logged, or only their hashes.

    Attributes:
        frame, others: See above.
    """

    def __init__(self, frame: LoggedFrame, others: "Mapping[str, LoggedFrame | str] | None" = None) -> None:
        super().__init__()
        for key, value in frame.user.items():
            self[key] = self[f"user/{key}"] = _array(value)
        for name, tensor in frame.raw.items():
            real = tensor.real()
            if real is None:
                raise errors.DataError(
                    f"the device logged raw input {name!r} as its hash: log its value (EdgeMonitor(raw='value')), "
                    "which the reference's preprocessing starts from"
                )
            self[name] = np.atleast_1d(real)
        if not frame.raw:
            raise errors.DataError(
                "the device logged no raw input, which the reference's preprocessing starts from: "
                "monitor.frame(raw=...) and EdgeMonitor(raw='value')"
            )
        self.frame = frame
        self.others = others or {}


@dataclasses.dataclass
class _Times:
    """How long the stages and ops of the frames took, in milliseconds."""

    stages: dict[str, QuantileSketch] = dataclasses.field(default_factory=dict)
    ops: dict[tuple[int, str], QuantileSketch] = dataclasses.field(default_factory=dict)

    def add(self, frame: LoggedFrame) -> None:
        for name, spans in frame.spans.items():
            total = sum(span.duration_ns for span in spans) / _NS_PER_MS
            self.stages.setdefault(name, QuantileSketch()).add(total)
        for op in frame.ops:
            self.ops.setdefault((op.index, op.name), QuantileSketch()).add(op.duration_ns / _NS_PER_MS)

    def to_dict(self) -> dict[str, Any]:
        ops = [{"index": index, "op": name, **_figures(sketch)} for (index, name), sketch in sorted(self.ops.items())]
        return {"stages": {name: _figures(sketch) for name, sketch in self.stages.items()}, "ops": ops}


class DeviceLogs:
    """The logs of one or several devices.

    Args:
        paths: Names of logs or folders of logs, see `EdgeLog`; all files of a device, by the name in their headers,
            are one log.

    Raises:
        DataError: Nothing is there, or no file has the header of a log.
        OSError: A file cannot be read.

    Attributes:
        devices: Name of each device to its log; the first one is judged.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        whole = EdgeLog(*paths)
        headers = {header.path: header for header in whole.headers()}
        if not headers:
            raise errors.DataError(f"{', '.join(map(str, paths))}: no file begins with the header of an edge log")
        self._headers: dict[str, list[LogHeader]] = collections.defaultdict(list)
        self.devices: dict[str, EdgeLog] = {}
        for path in dict.fromkeys(whole.files):
            header = headers.get(path)
            name = _name(header)
            if name not in self.devices:
                self.devices[name] = copy.copy(whole)
                self.devices[name].files, self.devices[name].report = [], LogReport()
            self.devices[name].files.append(path)
            if header is not None:
                self._headers[name].append(header)

    def require_model(self, edge: str | os.PathLike[str]) -> None:
        """Refuses logs of another model; a log that does not tell its model is let through.

        Raises:
            DataError: A header names another SHA-256 than that of the file.
        """
        found = files.sha256(edge)
        for headers in self._headers.values():
            for header in headers:
                if header.model_sha256 not in (None, found):
                    raise errors.DataError(
                        f"{header.path} is the log of another model: its header names SHA-256 {header.model_sha256}, "
                        f"{edge} has {found}; give the .tflite that the device ran, or logs of this one"
                    )

    @property
    def frames(self) -> list[FramePlace]:
        """The frames of the judged device; frames of others that share its id are paired turn by turn."""
        return self._joined[0]

    @functools.cached_property
    def _joined(self) -> tuple[list[FramePlace], dict[str, int]]:
        """The frames, and how many of each other device have no frame of the judged one beside them."""
        judged, *others = self.devices
        places = {name: self._places(name) for name in others}
        frames = []
        for frame_id, path, offset in self._read(judged):
            found = [(name, *places[name][frame_id].popleft()) for name in others if places[name].get(frame_id)]
            frames.append(FramePlace(frame_id, path, offset, tuple(found)))
        return frames, {name: sum(map(len, left.values())) for name, left in places.items()}

    def to_dict(self) -> list[dict[str, Any]]:
        """Returns what is known of each device: `device_logs` of `schemas/report.schema.json`."""
        _, alone = self._joined  # which also reads what is described
        roles = ["judged", *["environment"] * (len(self.devices) - 1)]
        return [self._describe(name, role, alone.get(name, 0)) for name, role in zip(self.devices, roles, strict=True)]

    def examples(self) -> Iterator[LoggedExample | errors.DataError]:
        """Reads the frames of the judged device; what is wrong with one stands in its place."""
        return (read(place) for place in self.frames)

    @functools.cached_property
    def _times(self) -> dict[str, _Times]:
        return {name: _Times() for name in self.devices}

    def _read(self, device: str) -> Iterator[tuple[str, str, int]]:
        for frame in self.devices[device]:
            self._times[device].add(frame)
            yield frame.id, *frame.at

    def _places(self, device: str) -> dict[str, collections.deque[tuple[str, int]]]:
        places: dict[str, collections.deque[tuple[str, int]]] = collections.defaultdict(collections.deque)
        for frame_id, path, offset in self._read(device):
            places[frame_id].append((path, offset))
        return places

    def _describe(self, name: str, role: str, alone: int) -> dict[str, Any]:
        report, headers = self.devices[name].report, self._headers[name]
        facts = {fact.replace("/", "_"): sorted({h.facts[fact] for h in headers if fact in h.facts}) for fact in _FACTS}
        return {
            "device": name,
            "role": role,
            "model_sha256": sorted({h.model_sha256 for h in headers if h.model_sha256}),
            **{fact.removeprefix("exray_"): [str(value) for value in values] for fact, values in facts.items()},
            "files": report.files,
            "frames": report.frames,
            "alone": alone,
            "dropped": report.dropped,
            "unclosed": len(report.unclosed),
            "damages": len(report.damages),
            "first_damages": [str(damage) for damage in report.damages[:_NAMED]],
            **self._times[name].to_dict(),
        }


def over_logs(functions: UserFunctions) -> UserFunctions:
    """Returns the user's functions as they apply to logged examples: ids and the app's inputs are those of the log."""
    return dataclasses.replace(functions, edge_inputs_fn=None, frame_id_fn=operator.attrgetter("frame.id"))


def read(place: FramePlace) -> LoggedExample | errors.DataError:
    """Reads a frame with those of the other devices; what is wrong with it is returned, with its id."""
    try:
        others = {name: _read_other(path, offset) for name, path, offset in place.others}
        return LoggedExample(frame_at(place.path, place.offset), others)
    except errors.DataError as e:
        return errors.DataError(e.reason, place.id)


def _read_other(path: str, offset: int) -> LoggedFrame | str:
    try:
        return frame_at(path, offset)
    except errors.DataError as e:
        return e.reason


def _name(header: LogHeader | None) -> str:
    """Returns the name of a header's device as it can stand between slashes, beside those of the two sides."""
    name = str(header.facts.get("device/name") or UNKNOWN_DEVICE) if header else UNKNOWN_DEVICE
    return f"device {name}" if name in _SIDES else name.replace("/", "_")


def _array(value: Any) -> np.ndarray:
    values = value if isinstance(value, list) else [value]
    if not any(isinstance(v, str | bytes) for v in values):
        return np.array(values, np.int64 if all(isinstance(v, int) for v in values) else np.float32)
    array = np.empty(len(values), object)
    array[:] = [v.encode() if isinstance(v, str) else v for v in values]
    return array


def _figures(sketch: QuantileSketch) -> dict[str, float]:
    frames = sketch.zeros + sum(sketch.bins.values())
    return {"frames": frames, "p50_ms": sketch.quantile(0.5), "p90_ms": sketch.quantile(0.9)}
