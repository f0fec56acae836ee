"""Times ops with LiteRT's own profiler, which its Python packages do not show.

`libLiteRt.so`, which ai-edge-litert brings, has it in its public C interface (`litert/c/litert_profiler.h` and
`litert/c/litert_compiled_model.h` of the LiteRT repository). The structures are declared here from those headers, and
what the library returns is compared with the graph before it is believed.

The profiler counts whole microseconds, and with XNNPACK it knows the ops that XNNPACK made of those of the graph: some
are fused into their neighbours, some are two. `match` tells which are which.
"""

import contextlib
import ctypes
import importlib.util
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.graph import Op
from edge_exray.profiling import xnnpack_operators
from edge_exray.profiling.op_profiler import OpSample, Subject
from edge_exray.profiling.timing import Blocks

_US_PER_MS = 1e3
_NS_PER_MS = 1e6
_MAX_RANK = 8
# Bits of the first word of LiteRtLayout that hold the rank.
_RANK_MASK = 0x7F
_CPU = 1
_WRITE_LOCK = 1

# What `kernel_mode` of LiteRT's options for processors is called. Its reference kernels are not used when asked for.
_KERNEL_MODES = {"xnnpack": "delegate", "builtin": "builtin"}

# Types of events (`ProfiledEventData` of LiteRT): an op of the interpreter, and one inside a delegate.
_OPERATOR = 2
_DELEGATE_OPERATOR = 8

# What XNNPACK also inserts beside an op of the graph, and what it lets its neighbours do.
_INSERTED = {"convert", "copy", "static reshape", "transpose", "clamp"}
_FUSED = {"PAD", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "QUANTIZE", "DEQUANTIZE", "RELU", "RELU6", "TRANSPOSE"}


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint),
        ("sizes", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_size_t), ("in_use", ctypes.c_size_t), ("private", ctypes.c_size_t))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", _Memory),
        ("memory_after", _Memory),
        ("node", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )

    @property
    def text(self) -> str:
        return ctypes.string_at(self.tag).decode()


class LiteRtProfiler:
    """Times every op through the profiler of `libLiteRt.so`; see `OpProfiler`.

    Args:
        subject: What to profile. Its feeds have the shapes that the file declares, 1 where it leaves them open.

    Raises:
        ProfilingError: The installed LiteRT has no such profiler or another one, or it cannot run the model so.
    """

    name = "litert_profiler"

    def __init__(self, subject: Subject) -> None:
        if subject.kernels not in _KERNEL_MODES:
            raise errors.ProfilingError(f"LiteRT's own profiler does not run {subject.kernels} kernels")
        self._subject = subject
        self._library = _open_library()
        # The library only borrows the model's bytes.
        self._content = ctypes.create_string_buffer(subject.model.content, len(subject.model.content))
        self._nodes: dict[int, Blocks] = {}
        self._delegated: dict[int, Blocks] = {}
        self._tags: dict[int, str] = {}
        with contextlib.ExitStack() as made:
            self._compile(made)
            self._check()
            self._made = made.pop_all()

    def warm(self) -> float:
        """See `Timer`."""
        start = time.perf_counter_ns()
        count = ctypes.c_size_t
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            self._place,
            count(len(self._inputs)),
            self._inputs,
            count(len(self._outputs)),
            self._outputs,
        )
        return (time.perf_counter_ns() - start) / _NS_PER_MS

    def time(self, runs: int) -> list[float]:
        """See `Timer`."""
        times, events = self._profile(runs)
        spans: dict[tuple[int, int], list[int]] = {}
        for event in events:
            spans.setdefault((event.type, event.node), []).append(event.elapsed_us)
            if event.type == _DELEGATE_OPERATOR:
                self._tags[event.node] = event.text
        for (kind, node), span in spans.items():
            # Whole microseconds are too coarse for a plain median of short ops; half of one keeps shares defined.
            median = max(statistics.median_grouped(span), 0.5) / _US_PER_MS
            (self._delegated if kind == _DELEGATE_OPERATOR else self._nodes).setdefault(node, []).append([median])
        return times

    def forget(self) -> None:
        """See `OpProfiler`."""
        self._nodes.clear()
        self._delegated.clear()

    def close(self) -> None:
        """See `OpProfiler`."""
        self._made.close()

    def op_samples(self) -> dict[int, OpSample]:
        """See `OpProfiler`; what XNNPACK inserts beside an op, such as a copy, is counted with it."""
        ops = self._subject.graph.ops
        # The kernel of a delegate is a node beyond those of the graph.
        samples = {
            node: OpSample(self._subject.op_kernel, blocks) for node, blocks in self._nodes.items() if node < len(ops)
        }
        if not self._delegated:
            return samples
        left = [op for op in ops if op.index not in samples and not self._subject.graph.is_folded(op)]
        places = sorted(self._delegated)
        owners = match(left, [self._tags[place] for place in places])
        for op in left:
            parts = [self._delegated[place] for place, owner in zip(places, owners, strict=True) if owner == op.index]
            total = [[sum(ms for [ms] in blocks)] for blocks in zip(*parts, strict=True)]
            samples[op.index] = OpSample("xnnpack", total) if parts else OpSample("fused", [[0.0]])
        return samples

    def _compile(self, made: contextlib.ExitStack) -> None:
        model, size = self._subject.model, ctypes.c_size_t

        def make(kind: str, *arguments: Any) -> ctypes.c_void_p:
            handle = self._get(f"LiteRtCreate{kind}", *arguments)
            made.callback(getattr(self._library, f"LiteRtDestroy{kind}"), handle)
            return handle

        environment = make("Environment", 0, None)
        loaded = self._get("LiteRtCreateModelFromBuffer", environment, self._content, size(len(self._content)))
        made.callback(self._library.LiteRtDestroyModel, loaded)
        options = make("Options")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        mode, threads = _KERNEL_MODES[self._subject.kernels], self._subject.num_threads
        self._add_options(options, "xnnpack", f'kernel_mode = "{mode}"\nnum_threads = {threads}\n')
        self._add_options(options, "runtime_options_string", "enable_profiling = true\n")
        self._compiled = make("CompiledModel", environment, loaded, options)
        self._place = self._find_signature(loaded)
        signature = self._get("LiteRtGetModelSignature", loaded, self._place)
        handles: dict[str, list[ctypes.c_void_p]] = {"Input": [], "Output": []}
        tensors = model.input_tensors()
        for kind, buffers in handles.items():
            number = size()
            self._call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(number))
            for i in map(size, range(number.value)):
                tensor_type = self._tensor_type(self._get(f"LiteRtGetSignature{kind}TensorByIndex", signature, i))
                needed = self._get(f"LiteRtGetCompiledModel{kind}BufferRequirements", self._compiled, self._place, i)
                buffer = self._get(
                    "LiteRtCreateManagedTensorBufferFromRequirements", environment, ctypes.byref(tensor_type), needed
                )
                made.callback(self._library.LiteRtDestroyTensorBuffer, buffer)
                buffers.append(buffer)
                if kind == "Input":
                    name = _text(self._get("LiteRtGetSignatureInputName", signature, i))
                    _expect("name of an input", name in tensors, True)
                    self._write(buffer, tensor_type, model.interpreter.get_tensor(tensors[name]))
        self._inputs = (ctypes.c_void_p * len(handles["Input"]))(*handles["Input"])
        self._outputs = (ctypes.c_void_p * len(handles["Output"]))(*handles["Output"])
        self._profiler = self._get("LiteRtCompiledModelGetProfiler", self._compiled)

    def _find_signature(self, loaded: ctypes.c_void_p) -> ctypes.c_size_t:
        """Returns the place of the signature in the file, which `EdgeModel.content` does not change."""
        number = ctypes.c_size_t()
        self._call("LiteRtGetNumModelSignatures", loaded, ctypes.byref(number))
        for place in map(ctypes.c_size_t, range(number.value)):
            signature = self._get("LiteRtGetModelSignature", loaded, place)
            if _text(self._get("LiteRtGetSignatureKey", signature)) == self._subject.signature:
                return place
        return ctypes.c_size_t(0)

    def _tensor_type(self, tensor: ctypes.c_void_p) -> _TensorType:
        tensor_type = _TensorType()
        self._call("LiteRtGetRankedTensorType", tensor, ctypes.byref(tensor_type))
        for i in range(tensor_type.layout.rank & _RANK_MASK):
            tensor_type.layout.sizes[i] = max(tensor_type.layout.sizes[i], 1)
        return tensor_type

    def _write(self, buffer: ctypes.c_void_p, tensor_type: _TensorType, value: np.ndarray) -> None:
        shape = tuple(tensor_type.layout.sizes[: tensor_type.layout.rank & _RANK_MASK])
        _expect("shape of an input", value.shape, shape)
        place = ctypes.c_void_p()
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(place), _WRITE_LOCK)
        ctypes.memmove(place, np.ascontiguousarray(value).ctypes.data, value.nbytes)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def _add_options(self, options: ctypes.c_void_p, name: str, text: str) -> None:
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        content = text.encode() + b"\0"
        # The library frees it.
        memory = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(len(content))))
        ctypes.memmove(memory, content, len(content))
        made = self._get("LiteRtCreateOpaqueOptions", name.encode(), memory, libc.free)
        self._call("LiteRtAddOpaqueOptions", options, made)

    def _profile(self, runs: int) -> tuple[list[float], list[_Event]]:
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        times = [self.warm() for _ in range(runs)]
        self._call("LiteRtStopProfiler", self._profiler)
        number = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(number))
        events = (_Event * number.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, number, events)
        return times, [event for event in events if event.type in (_OPERATOR, _DELEGATE_OPERATOR)]

    def _check(self) -> None:
        """Refuses events that are not laid out as declared here: one run must show the graph."""
        [wall], events = self._profile(1)
        ops = self._subject.graph.ops
        _expect("profiler without events", not events, False)
        for event in events:
            # Integers first: the text lies behind a pointer.
            _expect("time of an op beyond that of the run", event.elapsed_us > wall * _US_PER_MS + 1, False)
            if event.type == _OPERATOR and event.node < len(ops):
                _expect(f"op of node {event.node}", event.text, ops[event.node].name)

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise errors.ProfilingError(f"LiteRT's own profiler does not run this model: {function}() returns {status}")

    def _get(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        """Calls a function whose last argument is where it puts its result."""
        handle = ctypes.c_void_p()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle


def match(ops: Sequence[Op], tags: Sequence[str]) -> list[int]:
    """Tells which op of the graph each op of XNNPACK belongs to; both are in execution order.

    Args:
        ops: The ops of the graph that XNNPACK runs.
        tags: Names of the ops that it made of them.

    Returns:
        For each tag the index of its op. Ops that are not named are fused into others.

    Raises:
        ProfilingError: The sequences do not fit each other.
    """
    owners: list[int] = []
    place = 0
    for tag in tags:
        candidates = xnnpack_operators.ops_of(tag)
        found = place
        while found < len(ops) and ops[found].name not in candidates and ops[found].name in _FUSED:
            found += 1
        if found < len(ops) and ops[found].name in candidates:
            owners.append(ops[found].index)
            place = found + 1
        elif xnnpack_operators.name_of(tag) in _INSERTED and ops:
            owners.append(owners[-1] if owners else ops[0].index)
        else:
            where = f"where the graph has {ops[found].name}" if found < len(ops) else "after the last op of the graph"
            raise errors.ProfilingError(f"LiteRT's own profiler shows {tag} {where}: profile with builtin kernels")
    left = [op.name for op in ops[place:] if op.name not in _FUSED]
    if left:
        raise errors.ProfilingError(f"LiteRT's own profiler does not show {left[0]}: profile with builtin kernels")
    return owners


def _text(address: ctypes.c_void_p) -> str:
    return ctypes.string_at(address.value or 0).decode()


def _open_library() -> ctypes.CDLL:
    package = importlib.util.find_spec("ai_edge_litert")
    path = pathlib.Path(package.origin).parent / "libLiteRt.so" if package and package.origin else None
    if path is None or not path.exists():
        raise errors.ProfilingError(
            "this LiteRT has no profiler of its own: libLiteRt.so of ai-edge-litert 2.3 is missing"
        )
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "LiteRtGetProfilerEvents"):
        raise errors.ProfilingError("libLiteRt.so has no profiler: install ai-edge-litert 2.3 or later")
    return library


def _expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise errors.ProfilingError(f"LiteRT's own profiler cannot be used: {what} is {found}, expected {expected}")
