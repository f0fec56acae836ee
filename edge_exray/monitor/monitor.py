"""The monitor that an app carries."""

import atexit
import collections
import contextlib
import hashlib
import json
import logging
import operator
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
from edge_exray.monitor import example, records, tensors
from edge_exray.monitor.device import Sensors, describe
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
_HANDOVER_SECONDS, _HANDOVER_PAUSE = 10.0, 1e-3
_INT64 = range(-(2**63), 2**63)
_FRAMES = 2**62
_now = time.monotonic_ns

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
        device: Name of the device, by which its logs are told from those of others; None: the host's name, which many
            devices share.
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
        device: str | None = None,
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
        self._logs_all = self._sampling.rate == 1
        self._lock = threading.Lock()
        # Unlike a counter of its own it needs no lock: what is left of it tells how many frames there were.
        self._numbers = iter(range(_FRAMES))
        self._refused = self._dropped = self._written = 0
        self._lost: collections.Counter[str] = collections.Counter()
        self._problems: collections.Counter[str] = collections.Counter()
        self._failure: errors.MonitorError | None = None
        self._open: set[Frame] = set()
        self._handed: dict[Frame, int] = {}  # those that the writer may not have yet, and the threads that give them
        self._label: int | None = None
        self._runners: dict[int, Runner] = {}
        self._log_id = secrets.token_hex(16)
        self._pool = Pool(queue_bytes)
        self._writer: Writer | None = None
        self._is_closed = False
        self._off = _OffFrame(self) if level == "off" else None
        if level == "off":
            return
        self._facts: dict[str, Any] = {
            "exray/level": level,
            "exray/raw": self._raw,
            "exray/sampling": self._sampling.to_json(),
            "exray/policy": policy,
            "exray/codec": codec,
            **describe(device),
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
            hash_raw=self._raw == "hash",
            compress=compress,
            observe=Sensors().read,
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
                "seen": _FRAMES - operator.length_hint(self._numbers),
                "sampled": self._refused + (self._writer.taken if self._writer is not None else 0),
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
        return Frame(self, next(self._numbers), raw, id if id is None else str(id))

    def close(self, timeout: float | None = None) -> None:
        """Writes what waits and the footer; may be called again.

        Args:
            timeout: How many seconds to wait for the disk at most; None waits as long as it takes.

        Raises:
            MonitorError: In strict mode, something was lost.
        """
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        writer = self._writer
        if writer is not None and not was_closed:
            atexit.unregister(self.close)
            for frame in self._open.copy():
                if frame._rule is not None and frame._leave():
                    self._refuse("closed", None)
            # What comes behind the footer would be lost without a word.
            latest = time.monotonic() + min(_HANDOVER_SECONDS if timeout is None else timeout, _HANDOVER_SECONDS)
            own = threading.get_ident()
            while any(thread != own for thread in tuple(self._handed.values())) and time.monotonic() < latest:
                time.sleep(_HANDOVER_PAUSE)
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

    def _count_written(self) -> None:
        with self._lock:
            self._written += 1

    def _refuse(self, reason: str, error: Exception | None) -> None:
        """Counts a frame that the writer does not get."""
        self._count_lost(reason, error, refused=1)

    def _count_lost(self, reason: str, error: Exception | None, refused: int = 0) -> None:
        with self._lock:
            self._refused += refused
            self._dropped += 1
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
    """A frame that is being computed; made by `EdgeMonitor.frame`.

    An inference leaves nothing in the processor's caches, and every object that is touched then costs: what can wait
    for the writer's thread does.
    """

    __slots__ = (
        "_facts",
        "_has_run",
        "_id",
        "_is_watched",
        "_lost",
        "_monitor",
        "_raw",
        "_rule",
        "_sequence",
        "_size",
        "_spans",
        "_start",
        "_tensors",
        "_time",
    )

    def __init__(self, monitor: EdgeMonitor, sequence: int, raw: Any, frame_id: str | None) -> None:
        self._time, self._start = time.time_ns(), _now()
        self._monitor = monitor
        self._sequence = sequence
        self._id = frame_id
        self._raw = raw
        self._has_run = False
        self._lost: tuple[str, Exception | None] | None = None
        self._tensors: list[CapturedTensor] = []
        self._size = 0
        self._spans: list[tuple[str, int, int]] = []
        self._facts: dict[str, Any] = {}
        sampling = monitor._sampling
        # That of most monitors, which needs no hash of the id.
        self._rule = (
            "rate"
            if monitor._logs_all
            else sampling.at_begin(str(sequence) if frame_id is None else frame_id, sequence)
        )
        # Whether it is logged, or still may be.
        self._is_watched = self._rule is not None or sampling.has_triggers
        if self._is_watched:
            self._guard(self._capture_raw)

    def __enter__(self) -> "Frame":
        self._monitor._open.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        monitor = self._monitor
        if self._rule is None:
            monitor._open.discard(self)
            return
        if error is not None:
            self._facts["exray/error"] = f"{type(error).__name__}: {error}"
        self._guard(self._finish)
        if error is None and monitor._failure is not None:
            monitor._raise_failure()

    def stage(self, name: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Calls a function of the app, and logs how long it takes; its exceptions pass."""
        start = _now()
        try:
            return function(*args, **kwargs)
        finally:
            self._spans.append((name, start, _now()))

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Logs how long the body of a `with` takes."""
        start = _now()
        try:
            yield
        finally:
            self._spans.append((name, start, _now()))

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
        monitor = self._monitor
        runner = monitor._runners.get(id(model)) or monitor._runner(model)
        if self._has_run:
            self._guard(self._refuse_run)
            return runner.run(feed)[0]
        self._has_run = True
        if self._is_watched and monitor.level != "outputs":
            # Before the run: a function may change what it is given.
            self._guard(self._capture, "input", runner.inputs(feed), runner.quantization["input"])
        if monitor._op_hook is None:
            result, start, end = runner.run(feed)
        else:
            with self._timing(runner):
                result, start, end = runner.run(feed)
        self._spans.append(("inference", start, end))
        if self._is_watched:
            self._guard(self._after_run, runner, result)
        return result

    def inputs(self, feed: Any) -> None:
        """Logs the inputs of a model that the app runs itself: name to array, or one array."""
        if self._is_watched and self._monitor.level != "outputs":
            self._guard(self._capture, "input", named(feed, "input"), {})

    def outputs(self, values: Any) -> None:
        """Logs the outputs of a model that the app runs itself: name to array, or one array."""
        if self._is_watched:
            self._guard(self._capture_outputs, named(values, "output"), {})

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
            self._rule = "app"
            if not self._is_watched and self._lost is None:
                self._is_watched = True
                self._guard(self._capture_raw)

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

    def _timing(self, runner: Runner) -> contextlib.AbstractContextManager[None]:
        monitor = self._monitor
        wanted = self._rule is not None and self._is_watched and monitor.level == "layers"
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
        raw, self._raw = self._raw, None
        if self._rule is not None:
            writer = self._monitor._writer
            # Nothing is copied of a frame that is lost for sure; one that waits for a trigger may meet an empty queue.
            refusal = "closed" if writer is None else writer.refusal
            if refusal is not None:
                self._lose(refusal, None)
                return
        if raw is not None and self._monitor._raw != "none":
            self._capture("raw", named(raw, "input"), {})

    def _capture(self, role: str, values: Mapping[str, Any], quantization: Mapping[str, Quantization | None]) -> None:
        copy = self._monitor._pool.copy
        for name, value in values.items():
            if self._lost is not None:
                return
            try:
                copied = copy(role, name, value, quantization.get(name))
            except (TypeError, ValueError) as e:
                self._lose("encode", TypeError(f"{role} {name}: {e}"))
                return
            self._tensors.append(copied)
            self._size += copied.size

    def _capture_outputs(self, outputs: Mapping[str, Any], quantization: Mapping[str, Quantization | None]) -> None:
        self._capture("output", outputs, quantization)
        sampling = self._monitor._sampling
        if not sampling.has_triggers or not outputs:
            return
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
        self._capture("layer", {f"{i}/{name}": value for i, (name, value) in enumerate(values.items())}, {})

    def _after_run(self, runner: Runner, result: Any) -> None:
        self._facts["exray/runtime"] = runner.runtime
        self._capture_outputs(runner.outputs(result), runner.quantization["output"])
        if self._monitor.level != "layers" or self._rule is None or not isinstance(runner, InterpreterRunner):
            return
        layers = runner.layers()
        if layers is None:
            message = "the interpreter does not keep its layers: make it with experimental_preserve_all_tensors=True"
            self._monitor._problem("layers", RuntimeError(message))
            return
        quantization = {info.name: info.quantization for info in layers}
        self._capture("layer", {info.name: view for info, view in layers.items()}, quantization)

    def _lose(self, reason: str, error: Exception | None) -> None:
        self._lost = (reason, error)
        self._is_watched = False

    def _log_value(self, key: str, value: Any) -> None:
        try:
            self._facts[f"user/{key}"] = _user_value(value)
        except TypeError as e:
            self._monitor._problem("user", e)

    def _refuse_run(self) -> None:
        self._monitor._problem("run", RuntimeError("a frame is one run of the model; the second one is not logged"))

    def _finish(self) -> None:
        handed = self._monitor._handed
        handed[self] = threading.get_ident()
        try:
            self._hand_over()
        finally:
            del handed[self]

    def _hand_over(self) -> None:
        end = _now()
        monitor = self._monitor
        assert self._rule is not None
        if not self._leave():  # the footer has counted it
            return
        if self._lost is not None:
            monitor._refuse(*self._lost)
            return
        captured = CapturedFrame(
            self._sequence,
            self._id,
            self._rule,
            self._time,
            self._start,
            end,
            monitor._dropped,
            self._spans,
            self._facts,
            self._tensors,
            self._size,
        )
        writer = monitor._writer
        refusal = "closed" if writer is None else writer.submit(captured)
        if refusal is not None:
            monitor._refuse(refusal, None)

    def _leave(self) -> bool:
        """Takes the frame from those that are open; returns False if somebody has done so."""
        try:
            self._monitor._open.remove(self)
        except KeyError:
            return False
        return True


class _OffFrame(Frame):
    """The frame of a monitor that is off: it calls what the app hands over, and does nothing else."""

    __slots__ = ("_runners",)

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
        return [example.utf8(v) if isinstance(v, str) else v for v in listed]
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
