"""The thread that encodes and writes frames, and the queue before it."""

import collections
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from edge_exray.models.tensors import Quantization
from edge_exray.monitor import example, records, tensors
from edge_exray.monitor.records import Part
from edge_exray.monitor.storage import LogFiles

POLICIES = ("drop", "block")
# Smaller tensors become bytes: reusing memory saves nothing there.
_POOLED_BYTES = 2**18
# Most arrays are of one of these, whose bytes are what is logged: asking this is quicker than asking why.
_PLAIN = frozenset(map(np.dtype, "?bBhHiIlLqQefdFD"))
# Below that, zstd's own head is larger than what it saves.
_MIN_COMPRESSED = 64


class CapturedTensor(NamedTuple):
    """A copy of a tensor; a tuple, because an app waits while it is made.

    Attributes:
        role, name: See `schemas/edge_log.md`.
        dtype: Of the array.
        shape: Its shape.
        quantization: None when it is not quantised.
        content: The elements, little-endian: bytes, a uint8 array of a `Pool`, or the texts.
        size: Bytes of them.
    """

    role: str
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    quantization: Quantization | None
    content: Part | list[bytes]
    size: int


class CapturedFrame(NamedTuple):
    """What is logged of a frame, as the app's thread leaves it; all that can wait is worked out when it is written.

    Attributes:
        sequence: Number in the run.
        frame_id: What the app called it; None: the number.
        sampled_by: The rule that chose it.
        time: When it began, in nanoseconds of the wall clock.
        start, end: When it began and ended, in nanoseconds of the monotonic clock.
        dropped: How many frames the run had lost by then.
        spans: Stage, begin and end, of each run of a stage.
        facts: Key to what `example.feature` takes.
        tensors: Copies.
        size: Bytes of those.
    """

    sequence: int
    frame_id: str | None
    sampled_by: str
    time: int
    start: int
    end: int
    dropped: int
    spans: list[tuple[str, int, int]]
    facts: dict[str, Any]
    tensors: list[CapturedTensor]
    size: int

    def features(self) -> dict[str, Any]:
        """Returns what `schemas/edge_log.md` says of a frame, its tensors excepted."""
        found = {
            "exray/kind": "frame",
            "exray/frame_id": str(self.sequence) if self.frame_id is None else self.frame_id,
            "exray/sequence": self.sequence,
            "exray/time_ns": self.time,
            "exray/monotonic_ns": self.start,
            "exray/duration_ns": self.end - self.start,
            "exray/sampled_by": self.sampled_by,
            "exray/dropped": self.dropped,
            **self.facts,
        }
        for name, start, end in self.spans:
            found.setdefault(f"span_ns/{name}", []).append(end - start)
            found.setdefault(f"span_start_ns/{name}", []).append(start - self.start)
        return found


class Pool:
    """Memory of tensors that have been written: fresh pages cost as much as the copying itself.

    Args:
        max_bytes: How much is kept while nobody uses it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._free: dict[int, list[np.ndarray]] = collections.defaultdict(list)
        self._free_bytes = 0

    def copy(self, role: str, name: str, array: Any, quantization: Quantization | None = None) -> CapturedTensor:
        """Copies an array, or a text.

        Raises:
            TypeError: It cannot be logged.
        """
        if type(array) is not np.ndarray:
            # Not as a NumPy text, which loses zeros at its end.
            array = np.array(array, object) if type(array) in (bytes, str) else np.asarray(array)
        dtype, size = array.dtype, array.nbytes
        content: Part | list[bytes]
        if dtype in _PLAIN and size < _POOLED_BYTES:
            content = array.tobytes()
        elif dtype.kind in tensors.STRING_KINDS:
            content = tensors.strings(array)
            size = sum(map(len, content))
        elif dtype.byteorder == ">":
            content = array.astype(dtype.newbyteorder("<")).tobytes()
        elif size < _POOLED_BYTES:
            content = array.tobytes()
        else:
            content = self._take(size)
            # NumPy's own copying gives up the interpreter's lock, and the app would wait to get it back.
            content.data[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
        return CapturedTensor(role, name, dtype, array.shape, quantization, content, size)

    def give_back(self, frame: CapturedFrame) -> None:
        """Takes the memory of a frame that nobody reads any more."""
        with self._lock:
            for tensor in frame.tensors:
                content = tensor.content
                if isinstance(content, np.ndarray) and self._free_bytes + len(content) <= self._max_bytes:
                    self._free[len(content)].append(content)
                    self._free_bytes += len(content)

    def _take(self, size: int) -> np.ndarray:
        with self._lock:
            if self._free[size]:
                self._free_bytes -= size
                return self._free[size].pop()
        return np.empty(size, np.uint8)


def encode(
    frame: CapturedFrame,
    compress: Callable[[Part], bytes] | None = None,
    more: dict[str, Any] | None = None,
    hash_raw: bool = False,
) -> list[Part]:
    """Encodes a frame as the pieces of a record; big tensors are not copied.

    Args:
        frame: The frame.
        compress: Of tensors; None leaves them plain.
        more: More features.
        hash_raw: Whether only the hashes of raw tensors are logged.

    Raises:
        OverflowError: It is larger than a record can be.
        ValueError, TypeError: A value cannot be encoded.
    """
    features = frame.features() | (more or {})
    parts: list[Part] = [b"".join(example.feature(key, value) for key, value in features.items())]
    for tensor in frame.tensors:
        key = f"{tensor.role}/{tensor.name}"
        described = tensors.description(tensor.role, tensor.name, tensor.dtype, tensor.shape, tensor.quantization)
        content = tensor.content
        # The app waits for the interpreter's lock up to its switch interval, unless it is given up.
        time.sleep(0)
        if hash_raw and tensor.role == "raw":
            digest = tensors.sha256(content if isinstance(content, list) else [content])
            parts.append(described + example.feature(f"{tensor.role}.sha256/{tensor.name}", digest))
            continue
        if isinstance(content, list):
            parts.append(described + example.bytes_list(key, content))
            continue
        if compress is not None and len(content) >= _MIN_COMPRESSED:
            packed = compress(content)
            if len(packed) < len(content):
                content = packed
                described += example.feature(f"{tensor.role}.codec/{tensor.name}", "zstd")
        parts += [described + example.bytes_head(key, len(content)), content]
    return records.frame(parts)


class Writer:
    """Writes captured frames in a thread of its own.

    Args:
        files: Where to.
        pool: Gets the memory of the frames back.
        policy: `"drop"`: a frame that finds the queue full is lost; `"block"`: it waits.
        queue_bytes: How many bytes of tensors wait at most; a single larger frame waits alone.
        hash_raw, compress: See `encode`.
        observe: Returns features that are read when a frame is written.
        on_written: Called after a frame is in the log.
        on_lost: Called with the reason, and the exception, of a frame that is not.
        on_problem: Called with kind and exception of what failed besides.

    Attributes:
        taken: How many frames it took.
    """

    def __init__(
        self,
        files: LogFiles,
        pool: Pool,
        *,
        policy: str,
        queue_bytes: int,
        hash_raw: bool,
        compress: Callable[[Part], bytes] | None,
        observe: Callable[[], dict[str, Any]],
        on_written: Callable[[], None],
        on_lost: Callable[[str, Exception], None],
        on_problem: Callable[[str, Exception], None],
    ) -> None:
        self._files, self._pool, self._compress, self._observe = files, pool, compress, observe
        self._policy, self._queue_bytes, self._hash_raw = policy, queue_bytes, hash_raw
        self._on_written, self._on_lost, self._on_problem = on_written, on_lost, on_problem
        # Simple queues and plain locks, because they cost an app the least.
        self._queue: queue.SimpleQueue[CapturedFrame | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting_bytes = 0
        self.taken = 0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="edge-exray monitor", daemon=True)
        self._thread.start()

    @property
    def refusal(self) -> str | None:
        """Why any frame would be lost now; None when it may be taken."""
        if self._waiting_bytes >= self._queue_bytes and self._policy == "drop":
            return "queue"
        return "closed" if self._closing else None

    def submit(self, frame: CapturedFrame) -> str | None:
        """Queues a frame; returns the reason if it is lost."""
        size = frame.size
        with self._lock:
            while self._waiting_bytes and self._waiting_bytes + size > self._queue_bytes and not self._closing:
                if self._policy == "drop":
                    return "queue"
                self._room.wait()
            if self._closing:
                return "closed"
            self._waiting_bytes += size
            self.taken += 1
            self._queue.put(frame)
        return None

    def close(self, timeout: float | None) -> bool:
        """Writes what waits and the footer; returns whether that was done in time (in seconds; None: wait)."""
        with self._lock:
            self._closing = True
            self._queue.put(None)
            self._room.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (frame := self._queue.get()) is not None:
            self._write(frame)
            self._pool.give_back(frame)
            with self._lock:
                # Only now: until here its memory was in use.
                self._waiting_bytes -= frame.size
                self._room.notify_all()
        try:
            self._files.close()
        except OSError as e:
            self._on_problem("io", e)

    def _write(self, frame: CapturedFrame) -> None:
        try:
            frame = frame._replace(tensors=self._first_ones(frame.tensors))
            self._files.append(encode(frame, self._compress, self._observe(), self._hash_raw))
        except OverflowError as e:
            self._on_lost("too_large", e)
        except OSError as e:
            self._on_lost("io", e)
        # Whatever an app hands over, the thread has to live on, and the frame is counted.
        except Exception as e:
            self._on_lost("encode", e)
        else:
            self._on_written()

    def _first_ones(self, captured: list[CapturedTensor]) -> list[CapturedTensor]:
        """Leaves out what an app has given before under the same name."""
        found: dict[tuple[str, str], CapturedTensor] = {}
        for tensor in captured:
            role, name = key = tensor[:2]
            if found.setdefault(key, tensor) is not tensor:
                error = ValueError(f"{role} {name} is given twice; the first one is logged")
                self._on_problem("internal", error)
        return list(found.values())
