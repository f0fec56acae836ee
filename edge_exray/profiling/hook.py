"""Runs Python code around every op of a LiteRT interpreter, on the production kernels and with nothing compiled.

The way in is the public C interface for delegates (`tensorflow/lite/core/c/common.h`): a delegate that takes over
no op is told the address of the runtime's `TfLiteContext`, through which every node of the execution plan and its
`TfLiteRegistration` can be reached; the registration's `invoke` pointer is then exchanged for a Python callback that
calls the original. The structures are declared here from that header. Nothing is exchanged before they have been
compared with what the interpreter itself says about the graph, so that a runtime with another layout is refused.
"""

import contextlib
import ctypes
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from edge_exray import errors

_Address = ctypes.c_void_p
_OK = 0
_ALLOW_DYNAMIC_TENSORS = 1

# TfLiteStatus invoke(TfLiteContext*, TfLiteNode*)
Invoke = Callable[[int, int], int]
_INVOKE = ctypes.CFUNCTYPE(ctypes.c_int, _Address, _Address)
_PREPARE = ctypes.CFUNCTYPE(ctypes.c_int, _Address, _Address)


class _IntArray(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int), ("data", ctypes.c_int * 0))

    def values(self) -> tuple[int, ...]:
        return tuple((ctypes.c_int * self.size).from_address(ctypes.addressof(self) + _IntArray.data.offset))


_IntArrayPointer = ctypes.POINTER(_IntArray)


class _Context(ctypes.Structure):
    """The leading fields of TfLiteContext."""

    _fields_ = (
        ("tensors_size", ctypes.c_size_t),
        ("get_execution_plan", _Address),
        ("tensors", _Address),
        ("impl", _Address),
        ("resize_tensor", _Address),
        ("report_error", _Address),
        ("add_tensors", _Address),
        ("get_node_and_registration", _Address),
        ("replace_node_subsets_with_delegate_kernels", _Address),
        ("recommended_num_threads", ctypes.c_int),
    )


class _Node(ctypes.Structure):
    """The leading fields of TfLiteNode."""

    _fields_ = (("inputs", _IntArrayPointer), ("outputs", _IntArrayPointer))


class _Registration(ctypes.Structure):
    """The leading fields of TfLiteRegistration."""

    _fields_ = (
        ("init", _Address),
        ("free", _Address),
        ("prepare", _Address),
        ("invoke", _Address),
        ("profiling_string", _Address),
        ("builtin_code", ctypes.c_int32),
        ("custom_name", ctypes.c_char_p),
    )


class _Delegate(ctypes.Structure):
    _fields_ = (
        ("data", _Address),
        ("prepare", _PREPARE),
        ("copy_from_buffer_handle", _Address),
        ("copy_to_buffer_handle", _Address),
        ("free_buffer_handle", _Address),
        ("flags", ctypes.c_int64),
        ("opaque_delegate_builder", _Address),
        # A runtime newer than this declaration finds zeros here, not another object.
        ("reserved", _Address * 4),
    )


_NodePointer = ctypes.POINTER(_Node)
_RegistrationPointer = ctypes.POINTER(_Registration)
_GET_EXECUTION_PLAN = ctypes.CFUNCTYPE(ctypes.c_int, _Address, ctypes.POINTER(_IntArrayPointer))
_GET_NODE_AND_REGISTRATION = ctypes.CFUNCTYPE(
    ctypes.c_int, _Address, ctypes.c_int, ctypes.POINTER(_NodePointer), ctypes.POINTER(_RegistrationPointer)
)

# A function of the runtime's signature that returns at once: what calling through ctypes costs.
NULL_INVOKE: Invoke = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, _INVOKE)


@dataclasses.dataclass(frozen=True)
class _GraphAccess:
    context: int
    get_plan: Any
    get_node: Any


@dataclasses.dataclass(frozen=True)
class Step:
    """One entry of the execution plan of subgraph 0; WHILE and IF are one step with all of their body.

    Attributes:
        node: Index of the node: that of the op in the flatbuffer, or a higher one when a delegate took the op.
        op: Op name as the interpreter gives it; `"DELEGATE"` for a delegate's kernel.
        inputs, outputs: Tensor indices; -1 is an absent optional input.
    """

    node: int
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def is_delegated(self) -> bool:
        """Whether a delegate such as XNNPACK runs it."""
        return self.op == "DELEGATE"


class OpHook:
    """A delegate that takes over no op and lets Python code run around each of them.

    Give it to the interpreter when that is made (`EdgeModel(..., delegates=[hook])`); it serves one interpreter.

    Args:
        num_threads: What the interpreter is made with; compared in the self-test.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self._num_threads = num_threads
        self._graph: _GraphAccess | None = None
        # The runtime keeps only addresses: both objects live as long as the hook, which the interpreter holds.
        self._prepare = _PREPARE(self._on_prepare)
        self._delegate = _Delegate(prepare=self._prepare, flags=_ALLOW_DYNAMIC_TENSORS)

    def _get_native_delegate_pointer(self) -> int:
        """The name under which the interpreter asks a delegate for its TfLiteDelegate."""
        return ctypes.addressof(self._delegate)

    def _on_prepare(self, context: int, _delegate: int) -> int:
        # Called for each subgraph, the primary one first.
        if self._graph is None:
            # The runtime puts functions that refuse in place of these two once delegates are prepared; the ones
            # that are there now keep working. They are called after the self-test, not here.
            fields = _Context.from_address(context)
            self._graph = _GraphAccess(
                context,
                _GET_EXECUTION_PLAN(fields.get_execution_plan),
                _GET_NODE_AND_REGISTRATION(fields.get_node_and_registration),
            )
        return _OK

    def steps(self, interpreter: Any) -> list[Step]:
        """Returns the execution plan of an interpreter whose tensors are allocated, after the self-test.

        Raises:
            ProfilingError: The runtime's structures are not laid out as declared here.
        """
        return [step for step, _ in self._plan(interpreter)]

    @contextlib.contextmanager
    def wrap(self, interpreter: Any, make_invoke: Callable[[Step, Invoke], Invoke]) -> Iterator[list[Step]]:
        """Puts Python code around every op while the context is open.

        Tensors must be allocated and must not be resized inside: the runtime would make new nodes.

        Args:
            interpreter: The interpreter that was made with this hook.
            make_invoke: Given a step and the runtime's function, returns what to call in its place. That gets the
                addresses of the TfLiteContext and the TfLiteNode, returns a TfLiteStatus, and must not raise: an
                exception cannot cross the runtime and would count as success.

        Yields:
            The wrapped steps in execution order.

        Raises:
            ProfilingError: See `steps`.
        """
        plan = self._plan(interpreter)
        originals = [registration.invoke for _, registration in plan]
        callbacks = [
            _INVOKE(make_invoke(step, _INVOKE(original))) for (step, _), original in zip(plan, originals, strict=True)
        ]
        try:
            for (_, registration), callback in zip(plan, callbacks, strict=True):
                registration.invoke = ctypes.cast(callback, _Address).value
            yield [step for step, _ in plan]
        finally:
            for (_, registration), original in zip(plan, originals, strict=True):
                registration.invoke = original

    def _plan(self, interpreter: Any) -> list[tuple[Step, _Registration]]:
        graph = self._graph
        if graph is None:
            raise errors.ProfilingError(
                "the hook was not given to the interpreter as a delegate: make a new one with it"
            )
        fields = _Context.from_address(graph.context)
        # The first and the last declared field enclose the function pointers: only call those when both are right.
        _expect("TfLiteContext.tensors_size", fields.tensors_size, interpreter._interpreter.NumTensors(0))
        _expect("TfLiteContext.recommended_num_threads", fields.recommended_num_threads, self._num_threads)
        indices = _IntArrayPointer()
        _expect("status of GetExecutionPlan()", graph.get_plan(graph.context, ctypes.byref(indices)), _OK)
        details = interpreter._get_ops_details()
        codes = _builtin_codes()
        plan = []
        for index in indices.contents.values():
            node, registration = _NodePointer(), _RegistrationPointer()
            status = graph.get_node(graph.context, index, ctypes.byref(node), ctypes.byref(registration))
            _expect(f"status of GetNodeAndRegistration() for node {index}", status, _OK)
            op = details[index]["op_name"]
            step = Step(index, op, node.contents.inputs.contents.values(), node.contents.outputs.contents.values())
            _expect(f"inputs of node {index}", step.inputs, tuple(details[index]["inputs"]))
            _expect(f"outputs of node {index}", step.outputs, tuple(details[index]["outputs"]))
            _expect(f"op of node {index}", registration.contents.builtin_code, codes.get(op, codes["CUSTOM"]))
            plan.append((step, registration.contents))
        # Each node owns a copy of its registration. If two shared one, wrapping it twice would count an op twice.
        _expect("number of registrations", len({ctypes.addressof(r) for _, r in plan}), len(plan))
        return plan


def _builtin_codes() -> dict[str, int]:
    from ai_edge_litert import schema_py_generated as schema

    return {name: code for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def _expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise errors.ProfilingError(
            f"this LiteRT runtime cannot be profiled op by op: {what} is {found}, expected {expected} by its own "
            "description of the graph; install a version of ai-edge-litert that edge-exray's lock files name"
        )
