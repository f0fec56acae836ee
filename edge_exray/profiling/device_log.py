"""What an app's own log tells of the time of its model, in the form of a profile.

Unlike a benchmark a log has the runs that users saw: warm and hot, beside all else that the device did. They have an
order in time, so that percentiles have intervals as here. Frames whose ops were timed are slower; where there are
others, these alone tell the time of whole inferences.
"""

import array
import collections
import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.graph import Graph, read_graph
from edge_exray.monitor import storage
from edge_exray.monitor.log import EdgeLog, LoggedFrame, LogHeader
from edge_exray.profiling import intervals
from edge_exray.profiling.device_ops import DELEGATE
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime

INFERENCE = "inference"
"""Name of the stage that is the run of the model itself, see `schemas/edge_log.md`."""

_NS_PER_MS = 1e6
_CONFIDENCE = 0.95
_PERCENTILES = (50, 90, 99)
# Neighbouring runs that make a block: as many blocks tell how runs of different times differ.
_BLOCKS = 40
# With fewer undisturbed runs than that the median has no interval.
_FEWEST_PLAIN = 6
_FACTS = {"os": "device/os", "app": "app/name", "app_version": "app/version"}
_CONDITIONS = ("model/sha256", "runtime/kernels", "runtime/threads")
_NAMED = 3
# Eight bytes a run: a log may have millions.
_DURATIONS = functools.partial(array.array, "q")


@dataclasses.dataclass
class _Times:
    """Nanoseconds of what ran, in the order of the frames."""

    plain: "array.array[int]" = dataclasses.field(default_factory=_DURATIONS)
    with_ops: "array.array[int]" = dataclasses.field(default_factory=_DURATIONS)
    stages: "dict[str, array.array[int]]" = dataclasses.field(
        default_factory=lambda: collections.defaultdict(_DURATIONS)
    )
    ops: "dict[tuple[int, str], array.array[int]]" = dataclasses.field(
        default_factory=lambda: collections.defaultdict(_DURATIONS)
    )
    states: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    failed: int = 0

    def add(self, frame: LoggedFrame) -> None:
        """Takes the times of a frame."""
        if frame.error is not None:
            self.failed += 1
            return
        ops = frame.ops
        for name, spans in frame.spans.items():
            durations = [span.duration_ns for span in spans]
            if name == INFERENCE:
                (self.with_ops if ops else self.plain).extend(durations)
            else:
                self.stages[name].append(sum(durations))
        self.stages["whole frame"].append(frame.duration_ns)
        for op in ops:
            self.ops[op.index, op.name].append(op.duration_ns)
        for name, value in frame.device.items():
            low, high = self.states.get(name, (value, value))
            self.states[name] = [min(low, value), max(high, value)]


def is_log(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file, a continuation of it or a file of a folder begins like the log of an app."""
    return (os.path.exists(path) or bool(storage.files_of(path))) and bool(_headers(path))


def _headers(path: str | os.PathLike[str]) -> list[LogHeader]:
    place = pathlib.Path(path)
    if place.is_dir() and not any(p.is_file() and not p.name.startswith(".") for p in place.iterdir()):
        return []
    return EdgeLog(place).headers()


def read_log(path: str | os.PathLike[str], name: str, model: str | os.PathLike[str] | None = None) -> ModelProfile:
    """Reads the times of a model from a log.

    Args:
        path: A log or a folder of logs, see `edge_exray.monitor.log.EdgeLog`.
        name: Name of the machine. Where the logs are of several devices, those of the one that is called so count.
        model: The .tflite that ran; None trusts the log.

    Returns:
        Its profile, with the role `edge`; its `device` tells `frames`, `failed_frames`, `dropped`, `damages`, `stages`
        (name to `p50_ms`, `p90_ms` and `runs`), the facts of the app, and the extremes of what was read of the device's
        state.

    Raises:
        ArtifactError: The log is damaged where it matters, of another model or of other devices, or tells no time of an
            inference.
        ModelError: The model cannot be read.
    """
    source = os.fspath(path)
    try:
        log = EdgeLog(path)
        headers = _of_device(log, name, source)
        times = _Times()
        for frame in log:
            times.add(frame)
    except errors.DataError as e:
        raise errors.ArtifactError(str(e)) from e
    content = None if model is None else pathlib.Path(model).read_bytes()
    fingerprint = _fingerprint(headers, content, source, model)
    graph = None if content is None else read_graph(content)
    latency = _latency(times, source)
    ops, scale = _op_times(times, latency.p50, graph, headers, source)
    told = headers[0].facts
    threads = told.get("runtime/threads")
    return ModelProfile(
        role="edge",
        path=os.fspath(model) if model is not None else str(told.get("model/name", "")),
        bytes=None if content is None else len(content),
        kernels=str(told.get("runtime/kernels") or "unknown"),
        num_threads=int(threads) if threads else None,
        profiler="device_log",
        latency_ms=latency,
        init_ms=None,
        memory_bytes=None,
        ops=ops,
        profiler_note=_note(times, log),
        profiled_ms={"p50": _median_ms(times.with_ops)} if times.with_ops else None,
        scale=scale,
        fingerprint=fingerprint,
        device={
            "name": name,
            "source": source,
            "frames": log.report.frames,
            "failed_frames": times.failed,
            "dropped": log.report.dropped,
            "damages": len(log.report.damages),
            "stages": {stage: _stage(durations) for stage, durations in times.stages.items()},
            **{key: str(told[fact]) for key, fact in _FACTS.items() if fact in told},
            **times.states,
        },
    )


def _of_device(log: EdgeLog, name: str, source: str) -> list[LogHeader]:
    """Returns the headers of the device's files, and takes the other files out of the log."""
    headers = log.headers()
    devices = {str(header.facts.get("device/name") or "") for header in headers}
    if len(devices) > 1:
        headers = [header for header in headers if header.facts.get("device/name") == name]
        if not headers:
            raise errors.DataError(
                f"{source} has the logs of several devices, {', '.join(sorted(devices))}: name one of these, or give "
                "the files of one"
            )
        files = {header.path for header in headers}
        log.files = [file for file in log.files if file in files]
    for fact in _CONDITIONS:
        told = {str(header.facts[fact]) for header in headers if fact in header.facts}
        if len(told) > 1:
            raise errors.DataError(
                f"{source}: the files differ in {fact}, {', '.join(sorted(told))}, so that their times are not of one "
                "kind: give those of one"
            )
    return headers


def _fingerprint(
    headers: Sequence[LogHeader], content: bytes | None, source: str, model: str | os.PathLike[str] | None
) -> str | None:
    told = next((header.model_sha256 for header in headers if header.model_sha256), None)
    own = None if content is None else hashlib.sha256(content).hexdigest()
    if told and own and told != own:
        raise errors.ArtifactError(
            f"{source}: the log is of another model, with the fingerprint {told[:12]}; {os.fspath(model or '')} has "
            f"{own[:12]}: log that one there"
        )
    return told or own


def _latency(times: _Times, source: str) -> Latency:
    runs = times.plain if len(times.plain) >= _FEWEST_PLAIN else times.plain + times.with_ops
    if not runs:
        raise errors.ArtifactError(
            f"{source}: no frame tells how long an inference took: run the model through frame.run, or put it into "
            f"frame.span({INFERENCE!r})"
        )
    ms = np.array(runs, float) / _NS_PER_MS
    bounds = {q: intervals.percentile_interval(_blocks(ms), q, _CONFIDENCE) for q in _PERCENTILES}
    p50, p90, p99 = (float(p) for p in np.percentile(ms, _PERCENTILES))
    if p50 <= 0:
        raise errors.ArtifactError(
            f"{source}: half of its inferences took no time, because the clock of the device is too coarse; log a "
            "device with a finer one"
        )
    return Latency(
        p50,
        p90,
        p99,
        mean=float(ms.mean()),
        runs=len(ms),
        intervals={f"p{q}": list(interval) if interval else None for q, interval in bounds.items()},
        confidence=_CONFIDENCE,
        outliers=intervals.count_outliers(ms.tolist()),
    )


def _blocks(ms: np.ndarray) -> list[list[float]]:
    size = math.ceil(len(ms) / _BLOCKS)
    return [ms[i : i + size].tolist() for i in range(0, len(ms), size)]


def _op_times(
    times: _Times, wall_ms: float, graph: Graph | None, headers: Sequence[LogHeader], source: str
) -> tuple[list[OpTime], float | None]:
    medians = {key: _median_ms(durations) for key, durations in times.ops.items()}
    total = math.fsum(medians.values())
    if not total:
        return [], None
    kernels = str(headers[0].facts.get("runtime/kernels") or "unknown")
    scale, found = wall_ms / total, []
    for (index, kind), raw_ms in sorted(medians.items()):
        name, op = kind, None
        if graph is not None and index < len(graph.ops):
            op = graph.ops[index]
            if kind != op.name:
                raise errors.ArtifactError(
                    f"{source}: op {index} is {kind}, in the model it is {op.name}: the log is of another model"
                )
            name = graph.tensors[op.outputs[0]].spec.name if op.outputs else kind
        # A delegate's node comes behind all ops of the graph.
        is_delegate = kind == DELEGATE or (graph is not None and op is None)
        bounds = intervals.percentile_interval(
            _blocks(np.array(times.ops[index, kind], float) / _NS_PER_MS), 50, _CONFIDENCE
        )
        found.append(
            OpTime(
                index=index,
                op=DELEGATE if is_delegate else kind,
                name=name,
                kernel=kernels,
                ms=raw_ms * scale,
                raw_ms=raw_ms,
                share=min(raw_ms / total, 1.0),
                interval_ms=[bound * scale for bound in bounds] if bounds else None,
            )
        )
    return found, scale


def _median_ms(durations: Sequence[int]) -> float:
    return statistics.median(durations) / _NS_PER_MS


def _stage(durations: Sequence[int]) -> dict[str, Any]:
    p50, p90 = (float(p) / _NS_PER_MS for p in np.percentile(np.array(durations, float), (50, 90)))
    return {"p50_ms": p50, "p90_ms": p90, "runs": len(durations)}


def _note(times: _Times, log: EdgeLog) -> str:
    notes = ["the runs are those that users saw"]
    if not times.ops:
        notes.append("it has no times of ops: log some frames at level layers, with an op hook")
    elif len(times.plain) >= _FEWEST_PLAIN:
        notes.append(f"the ops were timed in {len(times.with_ops)} other inferences than the whole")
    else:
        notes.append("the ops were timed in the same inferences as the whole, which makes these slower")
    report = log.report
    counted: Mapping[str, int] = {
        "frames that ended with an error": times.failed,
        "frames that the app could not log": report.dropped,
        "damaged stretches": len(report.damages),
        "files without an end": len(report.unclosed),
    }
    notes += [f"{number} {what}" for what, number in counted.items() if number]
    notes += [str(damage) for damage in report.damages[:_NAMED]]
    return "; ".join(notes)
