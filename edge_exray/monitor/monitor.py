"""The monitor that an app carries."""

import atexit
import collections
import contextlib
import hashlib
import json
import logging
import os
import pathlib
import re
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from edge_exray import errors
from edge_exray.models.tensors import Quantization
from edge_exray.monitor import device, example, records, tensors
from edge_exray.monitor.runners import InterpreterRunner, Runner, named, runner_of
from edge_exray.monitor.sampling import Sampling
from edge_exray.monitor.storage import LogFiles
from edge_exray.monitor.writer import POLICIES, CapturedFrame, CapturedTensor, Pool, Writer
from edge_exray.version import __version__

LEVELS = ("off", "outputs", "inputs", "layers")
RAW = ("none", "hash", "value")
CODECS = ("none", "zstd")
# The fastest level: what it leaves, the slower ones hardly find.
_ZSTD_LEVEL = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_RUNNERS = 16
_INT64 = range(-(2**63), 2**63)

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class EdgeMonitor:
    """Logs what a model does in a running app; see `schemas/edge_log.md` for what a log holds.

        with EdgeMonitor("run.exray", level="layers", sample=0.01) as monitor:
            for image in camera:
                with monitor.frame(raw=image) as frame:
                    x = frame.stage("preprocess", preprocess, image)
                    frame.run(interpreter, {"image": x})
                    frame.stage("postprocess", draw)

    Nothing that goes wrong with logging reaches the app: it is counted (`counts`), and said once on the logger
    `edge_exray.monitor`. Exceptions of the app's own functions and of its interpreter pass unchanged, and end the frame
    with what it has until then. A wrong argument here is an error at once.

    A record is written by a thread, in one append, so that an app that is killed loses at most the frame that is being
    written and those in the queue. Threads may share a monitor, each with a frame of its own.

    Args:
        path: Name of the log. A log is never overwritten: if there is one, the next file is `NAME-00001.SUFFIX`.
        level: `"off"`; `"outputs"`; `"inputs"`, and raw inputs; `"layers"`, of interpreters that were made with
            `experimental_preserve_all_tensors=True`.
        sample: Share of the frames, or `Sampling`.
        raw: What is logged of raw inputs: `"none"`, `"hash"` or `"value"`. None: the hash at level `outputs`, else the
            value.
        model: The .tflite: its path, its content, or its SHA-256. Without it the log is tied to no model.
        contract: Input contract of the model: `InputContract`, JSON text, or the document.
        app: Name and version of the app.
        kernels: What the model runs on: `"xnnpack"`, `"builtin"`, `"reference"`, or the name of a delegate.
        threads: Of the interpreter.
        op_hook: The `edge_exray.profiling.hook.OpHook` among the delegates that the interpreter was made with:
            at level `layers` the ops are timed, which makes a frame slower. Frames that a trigger chooses have no such
            times.
        user: What else to say of the run, key to number or text.
        policy: What becomes of a frame when the queue is full: `"drop"`, and it is counted; or `"block"`, and the app
            waits at the end of the frame.
        queue_bytes: How many bytes of tensors wait for the disk at most; a single larger frame waits alone. As much
            again is kept to be used anew.
        max_bytes: How large all files of the log become together; the oldest are deleted.
        file_bytes: Size at which the next file is begun; None: an eighth of `max_bytes`.
        codec: `"zstd"` compresses tensors; `"none"`.
        sync: Sync every frame to the disk, so that it survives the loss of power; otherwise a file when it is full.
        strict: Raise what would only be counted; what happens in the thread is raised by a later frame, or `close`.

    Raises:
        SpecError: An argument has a value that there is not.
        ModelError: The model cannot be read.
        MonitorError: In strict mode, the log cannot be begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        level: str = "outputs",
        sample: float | Sampling = 1.0,
        raw: str | None = None,
        model: str | os.PathLike[str] | bytes | None = None,
        contract: Any = None,
        app: tuple[str, str] | None = None,
        kernels: str | None = None,
        threads: int | None = None,
        op_hook: Any = None,
        user: Mapping[str, Any] | None = None,
        policy: str = "drop",
        queue_bytes: int = 2**27,
        max_bytes: int = 2**30,
        file_bytes: int | None = None,
        codec: str = "none",
        sync: bool = False,
        strict: bool = False,
    ) -> None:
        _check("level", level, LEVELS)
        _check("policy", policy, POLICIES)
        _check("codec", codec, CODECS)
        self.level = level
        self.strict = strict
        self._raw = raw if raw is not None else "hash" if level == "outputs" else "value"
        _check("raw", self._raw, RAW)
        self._sampling = sample if isinstance(sample, Sampling) else Sampling(rate=float(sample))
        self._op_hook = op_hook
        self._lock = threading.Lock()
        self._seen = self._sampled = self._written = 0
        self._lost: collections.Counter[str] = collections.Counter()
        self._problems: collections.Counter[str] = collections.Counter()
        self._failure: errors.MonitorError | None = None
        self._open: set[Frame] = set()
        self._label: int | None = None
        self._runners: dict[int, Runner] = {}
        self._log_id = secrets.token_hex(16)
        self._sensors = device.Sensors()
        self._pool = Pool(queue_bytes)
        self._writer: Writer | None = None
        self._off = _OffFrame(self) if level == "off" else None
        if level == "off":
            return
        self._facts: dict[str, Any] = {
            "exray/level": level,
            "exray/raw": self._raw,
            "exray/sampling": self._sampling.to_json(),
            "exray/policy": policy,
            "exray/codec": codec,
            **device.describe(),
            **_model_facts(model, contract),
            **(dict(zip(("app/name", "app/version"), app, strict=True)) if app else {}),
            **({"runtime/kernels": kernels} if kernels else {}),
            **({"runtime/threads": threads} if threads else {}),
            **{f"user/{key}": _user_value(value) for key, value in (user or {}).items()},
        }
        self._files = LogFiles(
            path,
            header=self._header,
            footer=self._footer,
            max_bytes=max_bytes,
            file_bytes=max_bytes // 8 if file_bytes is None else file_bytes,
            sync=sync,
        )
        compress = tensors.zstandard().ZstdCompressor(_ZSTD_LEVEL).compress if codec == "zstd" else None
        try:
            self._files.open()
        except (OSError, OverflowError) as e:
            self._problem("io", e)
        self._writer = Writer(
            self._files,
            self._pool,
            policy=policy,
            queue_bytes=queue_bytes,
            compress=compress,
            observe=self._observe,
            on_written=self._count_written,
            on_lost=self._count_lost,
            on_problem=self._count_problem,
        )
        # An app that ends without closing has its last frames in the queue.
        atexit.register(self.close)
        # The child of a fork has the queue, but not the thread: it logs nothing.
        monitor = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _disable(monitor()))

    def __enter__(self) -> "EdgeMonitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def counts(self) -> dict[str, Any]:
        """What happened so far: `seen`, `sampled`, `written`, `dropped` and `problems` by reason, `deleted_*`."""
        with self._lock:
            counts = {
                "seen": self._seen,
                "sampled": self._sampled,
                "written": self._written,
                "dropped": dict(self._lost),
                "problems": dict(self._problems),
            }
        if self.level != "off":
            deleted = self._files.deleted
            counts |= {
                "deleted_files": deleted.files,
                "deleted_bytes": deleted.bytes,
                "deleted_frames": deleted.frames,
            }
        return counts

    def frame(self, raw: Any = None, id: str | None = None) -> "Frame":
        """Begins a frame; use it in a `with`.

        Args:
            raw: What the sensor gave: an array, text or bytes (an encoded image), or a mapping of name to such.
            id: Identifies the frame, by which logs are joined; None: its number in the run.
        """
        if self._off is not None:
            return self._off
        with self._lock:
            sequence = self._seen
            self._seen += 1
        # What is no text in UTF-8 would not reach the log.
        name = str(sequence) if id is None else str(id).encode("utf-8", "replace").decode()
        return Frame(self, sequence, raw, name)

    def close(self, timeout: float | None = None) -> None:
        """Writes what waits and the footer; may be called again.

        Args:
            timeout: How many seconds to wait for the disk at most; None waits as long as it takes.

        Raises:
            MonitorError: In strict mode, something was lost.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            atexit.unregister(self.close)
            with self._lock:
                unfinished = [frame for frame in self._open.copy() if frame._rule is not None]
                self._open.difference_update(unfinished)
                self._sampled += len(unfinished)
            for _ in unfinished:
                self._count_lost("closed", None)
            if not writer.close(timeout):
                self._count_problem("io", TimeoutError(f"the disk did not take all frames in {timeout} s"))
        self._raise_failure()

    def _runner(self, model: Any) -> Runner:
        kept = self._runners.get(id(model))
        if kept is not None:
            return kept
        if len(self._runners) >= _MAX_RUNNERS:  # an app that makes a new function for each frame
            self._runners.clear()
        # It holds the model, so that no other one gets its id.
        runner = self._runners[id(model)] = runner_of(model)
        return runner

    def _submit(self, frame: CapturedFrame) -> None:
        writer = self._writer
        reason = "closed" if writer is None else writer.submit(frame)
        if reason is not None:
            self._count_lost(reason, None)

    def _header(self, part: int) -> bytes:
        facts = {
            "exray/kind": "header",
            "exray/format_version": records.FORMAT_VERSION,
            "exray/writer": f"python/{__version__}",
            "exray/log_id": self._log_id,
            "exray/part": part,
            "exray/time_ns": time.time_ns(),
            "exray/monotonic_ns": time.monotonic_ns(),
            "exray/clock": "CLOCK_MONOTONIC",
            **self._facts,
        }
        return _features(facts)

    def _footer(self, part: int, final: bool) -> bytes:
        counts = self.counts
        facts: dict[str, Any] = {
            "exray/kind": "footer",
            "exray/log_id": self._log_id,
            "exray/part": part,
            "exray/final": int(final),
            "exray/time_ns": time.time_ns(),
            "exray/monotonic_ns": time.monotonic_ns(),
        }
        for name in ("dropped", "problems"):
            facts |= {f"count/{name}/{key}": number for key, number in counts.pop(name).items()}
        return _features(facts | {f"count/{name}": number for name, number in counts.items()})

    def _observe(self) -> dict[str, Any]:
        resident = device.memory()
        return {
            **({} if resident is None else {"exray/rss_bytes": resident}),
            "exray/peak_rss_bytes": device.peak_memory(),
            **self._sensors.read(),
        }

    def _count_written(self) -> None:
        with self._lock:
            self._written += 1

    def _count_lost(self, reason: str, error: Exception | None) -> None:
        with self._lock:
            self._lost[reason] += 1
            is_first = self._lost[reason] == 1
        self._tell(f"a frame was not logged ({reason}){f': {error}' if error else ''}", is_first, error)

    def _count_problem(self, kind: str, error: Exception) -> None:
        with self._lock:
            self._problems[kind] += 1
            is_first = self._problems[kind] == 1
        self._tell(f"{kind}: {error}", is_first, error)

    def _tell(self, message: str, is_first: bool, error: Exception | None) -> None:
        # Each kind once: a full disk would fill the app's log as well.
        _log.log(logging.WARNING if is_first else logging.DEBUG, "edge-exray monitor: %s", message)
        if self.strict and self._failure is None:
            self._failure = errors.MonitorError(f"the monitor failed: {message}")
            self._failure.__cause__ = error

    def _problem(self, kind: str, error: Exception) -> None:
        """Counts a problem in the app's thread."""
        self._count_problem(kind, error)
        self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


class Frame:
    """A frame that is being computed; made by `EdgeMonitor.frame`."""

    def __init__(self, monitor: EdgeMonitor, sequence: int, raw: Any, frame_id: str) -> None:
        self._monitor = monitor
        self._raw = raw
        self._ran = False
        self._lost: tuple[str, Exception | None] | None = None
        self._tensors: list[CapturedTensor] = []
        self._names: set[tuple[str, str]] = set()
        self._spans: list[tuple[str, int, int]] = []
        self._facts: dict[str, Any] = {
            "exray/kind": "frame",
            "exray/frame_id": frame_id,
            "exray/sequence": sequence,
            "exray/time_ns": time.time_ns(),
        }
        self._rule = monitor._sampling.at_begin(frame_id, sequence)
        self._start = self._facts["exray/monotonic_ns"] = time.monotonic_ns()
        if self._is_watched:
            self._guard(self._capture_raw)

    def __enter__(self) -> "Frame":
        self._monitor._open.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._rule is None:
            self._monitor._open.discard(self)
            return
        self._facts["exray/duration_ns"] = time.monotonic_ns() - self._start
        if error is not None:
            self._facts["exray/error"] = f"{type(error).__name__}: {error}"
        self._guard(self._finish)
        if error is None:
            self._monitor._raise_failure()

    def stage(self, name: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Calls a function of the app, and logs how long it takes; its exceptions pass."""
        start = time.monotonic_ns()
        try:
            return function(*args, **kwargs)
        finally:
            self._add_span(name, start, time.monotonic_ns())

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Logs how long the body of a `with` takes."""
        start = time.monotonic_ns()
        try:
            yield
        finally:
            self._add_span(name, start, time.monotonic_ns())

    def run(self, model: Any, feed: Any) -> Any:
        """Runs the model, and logs what the level says.

        Args:
            model: An interpreter of ai-edge-litert, TensorFlow or tflite-runtime whose tensors are allocated, or a
                function that maps arrays to arrays.
            feed: What it is fed. For an interpreter input name (in the signature, or the tensor's) to array, or the
                array of the only input; the values go in as they are. A function gets it as it is.

        Returns:
            Of an interpreter, output name to array; of a function what it returns.

        Raises:
            DataError: The interpreter has no such input.
        """
        runner = self._monitor._runner(model)
        if self._ran:
            self._guard(self._refuse_run)
            return runner.run(feed)[0]
        self._ran = True
        if self._is_watched and self._monitor.level != "outputs":
            # Before the run: a function may change what it is given.
            self._guard(self._capture, "input", runner, feed)
        if self._monitor._op_hook is None:
            result, start, end = runner.run(feed)
        else:
            with self._timing(runner):
                result, start, end = runner.run(feed)
        self._add_span("inference", start, end)
        if self._is_watched:
            self._guard(self._after_run, runner, result)
        return result

    def inputs(self, feed: Any) -> None:
        """Logs the inputs of a model that the app runs itself: name to array, or one array."""
        if self._is_watched and self._monitor.level != "outputs":
            self._guard(self._capture_named, "input", feed, {})

    def outputs(self, values: Any) -> None:
        """Logs the outputs of a model that the app runs itself: name to array, or one array."""
        if self._is_watched:
            self._guard(self._capture_outputs, values, {})

    def layers(self, values: Mapping[str, Any]) -> None:
        """Logs layers of a model that the app runs itself: name to array, in the order of execution."""
        if self._rule is not None and self._monitor.level == "layers":
            self._guard(self._capture_layers, values)

    def log(self, **values: Any) -> None:
        """Logs what the app has to say of the frame: numbers or texts, one or several of a kind for each key."""
        for key, value in values.items():
            self._guard(self._log_value, key, value)

    def keep(self) -> None:
        """Logs the frame though no rule says so: what follows, and its raw input if nobody has changed that yet."""
        if self._rule is None:
            watched, self._rule = self._is_watched, "app"
            if not watched:
                self._guard(self._capture_raw)

    @property
    def _is_watched(self) -> bool:
        """Whether the frame is logged or still may be."""
        return self._lost is None and (self._rule is not None or self._monitor._sampling.has_triggers)

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        """Does what is the monitor's, not the app's.

        Raises:
            MonitorError: In strict mode, when it fails.
        """
        try:
            function(*args)
        except errors.MonitorError:
            raise
        # An app must not stop because it is watched: whatever it is, it is counted and told.
        except Exception as e:
            self._monitor._problem("internal", e)

    def _add_span(self, name: str, start: int, end: int) -> None:
        self._spans.append((name, start - self._start, end - start))

    def _timing(self, runner: Runner) -> contextlib.AbstractContextManager[None]:
        monitor = self._monitor
        wanted = self._rule is not None and self._lost is None and monitor.level == "layers"
        if wanted and isinstance(runner, InterpreterRunner):
            return self._ops_timed(runner)
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _ops_timed(self, runner: InterpreterRunner) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            times: list[tuple[int, str, int]] = []
            try:
                times = stack.enter_context(runner.timed_ops(self._monitor._op_hook))
            # The hook reads what belongs to the runtime: whatever it meets there, the app goes on.
            except Exception as e:
                self._monitor._problem("ops", e)
            yield
        if times:
            for key, values in zip(("op/index", "op/name", "op/ns"), zip(*times, strict=True), strict=True):
                self._facts[key] = list(values)

    def _capture_raw(self) -> None:
        writer = self._monitor._writer
        # Nothing is copied of a frame that is lost for sure; one that waits for a trigger may meet an empty queue.
        if self._rule is not None and (writer is None or writer.is_full):
            self._lost = ("closed" if writer is None else "queue", None)
        elif self._raw is not None and self._monitor._raw != "none":
            raw = named(self._raw, "input")
            for name, value in raw.items():
                self._add("raw", name, value)
        self._raw = None

    def _capture(self, role: str, runner: Runner, feed: Any) -> None:
        self._capture_named(role, runner.inputs(feed), runner.quantization(role))

    def _capture_named(self, role: str, values: Any, quantization: Mapping[str, Quantization | None]) -> None:
        for name, value in named(values, role).items():
            self._add(role, name, value, quantization.get(name))

    def _capture_outputs(self, values: Any, quantization: Mapping[str, Quantization | None]) -> None:
        outputs = named(values, "output")
        for name, value in outputs.items():
            self._add("output", name, value, quantization.get(name))
        sampling = self._monitor._sampling
        if outputs and sampling.has_triggers:
            label = int(np.argmax(np.asarray(next(iter(outputs.values())))))
            with self._monitor._lock:
                previous, self._monitor._label = self._monitor._label, label
            if self._rule is None:
                arrays = {name: np.asarray(value) for name, value in outputs.items()}
                real = {n: q.dequantize(a) if (q := quantization.get(n)) else a for n, a in arrays.items()}
                try:
                    self._rule = sampling.after_run(real, label, previous)
                # The predicate is the app's own code.
                except Exception as e:
                    self._monitor._problem("trigger", e)

    def _capture_layers(self, values: Mapping[str, Any]) -> None:
        for index, (name, value) in enumerate(values.items()):
            self._add("layer", f"{index}/{name}", value)

    def _after_run(self, runner: Runner, result: Any) -> None:
        self._facts["exray/runtime"] = runner.runtime
        self._capture_outputs(result, runner.quantization("output"))
        if self._rule is None or self._monitor.level != "layers" or not isinstance(runner, InterpreterRunner):
            return
        layers = runner.layers()
        if layers is None:
            message = "the interpreter does not keep its layers: make it with experimental_preserve_all_tensors=True"
            self._monitor._problem("layers", RuntimeError(message))
            return
        for info, view in layers.items():
            self._add("layer", info.name, view, info.quantization)

    def _add(self, role: str, name: str, value: Any, quantization: Quantization | None = None) -> None:
        if self._lost is not None:
            return
        if (role, name) in self._names:
            self._monitor._problem("internal", ValueError(f"{role} {name} is given twice; the first one is logged"))
            return
        self._names.add((role, name))
        try:
            as_hash = role == "raw" and self._monitor._raw == "hash"
            self._tensors.append(self._monitor._pool.copy(role, name, value, quantization, as_hash))
        except (TypeError, ValueError) as e:
            self._lost = ("encode", TypeError(f"{role} {name}: {e}"))

    def _log_value(self, key: str, value: Any) -> None:
        try:
            self._facts[f"user/{key}"] = _user_value(value)
        except TypeError as e:
            self._monitor._problem("user", e)

    def _refuse_run(self) -> None:
        self._monitor._problem("run", RuntimeError("a frame is one run of the model; the second one is not logged"))

    def _finish(self) -> None:
        monitor = self._monitor
        with monitor._lock:
            if self not in monitor._open:  # the footer has counted it
                return
            monitor._open.remove(self)
            monitor._sampled += 1
            dropped = sum(monitor._lost.values())
        if self._lost is not None:
            monitor._count_lost(*self._lost)
            return
        self._facts["exray/sampled_by"] = self._rule
        self._facts["exray/dropped"] = dropped
        monitor._submit(CapturedFrame(self._facts, self._spans, self._tensors))


class _OffFrame(Frame):
    """The frame of a monitor that is off: it calls what the app hands over, and does nothing else."""

    def __init__(self, monitor: EdgeMonitor) -> None:
        self._monitor = monitor
        self._runners = monitor._runners

    def __enter__(self) -> "Frame":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, name: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return function(*args, **kwargs)

    def span(self, name: str) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    def run(self, model: Any, feed: Any) -> Any:
        runner = self._runners.get(id(model)) or self._monitor._runner(model)
        return runner.call(feed)

    def inputs(self, feed: Any) -> None:
        pass

    def outputs(self, values: Any) -> None:
        pass

    def layers(self, values: Mapping[str, Any]) -> None:
        pass

    def log(self, **values: Any) -> None:
        pass

    def keep(self) -> None:
        pass


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise errors.SpecError(f"EdgeMonitor: {name} is one of {', '.join(allowed)}, not {value!r}")


def _features(facts: Mapping[str, Any]) -> bytes:
    return b"".join(example.feature(key, value) for key, value in facts.items())


def _model_facts(model: str | os.PathLike[str] | bytes | None, contract: Any) -> dict[str, str]:
    facts = {}
    if isinstance(model, bytes):
        facts["model/sha256"] = hashlib.sha256(model).hexdigest()
    elif isinstance(model, str) and _SHA256.fullmatch(model):
        facts["model/sha256"] = model
    elif model is not None:
        path = pathlib.Path(model)
        try:
            facts["model/sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as e:
            raise errors.ModelError(f"EdgeMonitor: cannot read the model {path}: {e.strerror}") from e
        facts["model/name"] = path.name
    if contract is not None:
        if hasattr(contract, "to_json"):
            contract = contract.to_json()
        facts["model/input_contract"] = contract if isinstance(contract, str) else json.dumps(contract, sort_keys=True)
    return facts


def _user_value(value: Any) -> list[bytes] | list[int] | list[float]:
    """Returns what the app logs as one of the lists that a tf.Example has.

    Raises:
        TypeError: It is something else.
    """
    listed = value.ravel().tolist() if isinstance(value, np.ndarray | np.generic) else value
    listed = list(listed) if isinstance(listed, list | tuple) else [listed]
    if all(isinstance(v, bytes | str) for v in listed):
        return [v.encode("utf-8", "replace") if isinstance(v, str) else v for v in listed]
    if all(isinstance(v, int | np.integer) and int(v) in _INT64 for v in listed):
        return [int(v) for v in listed]
    is_float = any(isinstance(v, float | np.floating) for v in listed)
    if is_float and all(isinstance(v, int | float | np.integer | np.floating) for v in listed):
        return [float(v) for v in listed]
    raise TypeError(f"the value {value!r:.80} is neither numbers nor texts")


def _disable(monitor: EdgeMonitor | None) -> None:
    """Turns a monitor off in the child of a fork, where other threads, and the locks that they held, are gone."""
    if monitor is not None and monitor._writer is not None:
        atexit.unregister(monitor.close)
        monitor._writer = None
        monitor.level, monitor._off = "off", _OffFrame(monitor)
        monitor._lock = threading.Lock()
        monitor._pool = Pool(0)
