"""Rewrites a .tflite so that no op hears of another: each reads graph inputs of its own.

One run of the rewritten model runs every op on inputs that the caller chose. Fed with the values of the float twin,
the output of each op shows the error that this op adds by itself, with none that it inherits.
"""

import copy
import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from edge_exray.models.graph import Graph, Op

# What QUANTIZE turns float32 into; wider integers are given as stored values.
_QUANTIZABLE = {np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int16)}


@dataclasses.dataclass(frozen=True)
class Isolated:
    """A model in which every op reads graph inputs. Tensors and their indices are those of the original.

    Attributes:
        content: The rewritten .tflite.
        inputs: Index of each tensor of the original that an op reads, to the graph input that stands in for it.
        real: Those keys of `inputs` that are quantised in the original and take float32 real values here, which the
            rewritten model quantises by the parameters of the tensor; the others take stored values.
        ops: Indices of the ops of the original that are in it and depend on the frame; the output tensors of these
            are its graph outputs.
    """

    content: bytes
    inputs: dict[int, int]
    real: frozenset[int]
    ops: tuple[int, ...]


def obstacles(content: bytes, graph: Graph) -> dict[int, str]:
    """Returns op index to why that op cannot be isolated, for those that cannot; folded ops are not among them."""
    model = _unpack(content)
    tensors = model.subgraphs[0].tensors
    if any(getattr(buffer, "offset", 0) > 1 for buffer in model.buffers):
        return {op.index: "the weights of the model lie outside its flatbuffer" for op in _live(graph)}
    found = {}
    for op in _live(graph):
        touched = [t for t in (*op.inputs, *op.outputs) if t >= 0]
        if any(tensors[t].isVariable for t in touched):
            found[op.index] = "it keeps state from frame to frame"
        elif any(graph.tensors[t].spec.dtype == object for t in touched):
            found[op.index] = "it works on strings or resources"
    return found


def isolate(content: bytes, graph: Graph, ops: Collection[int]) -> Isolated:
    """Makes the model in which some ops are independent of each other.

    Constants, ops that unpack constants, op options and further subgraphs (the bodies of WHILE and IF) stay as they
    are.

    Args:
        content: The bytes of the .tflite.
        graph: Its static graph.
        ops: Indices of the ops to keep; none of them may be among the `obstacles`.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = _unpack(content)
    subgraph = model.subgraphs[0]
    kept = [op for op in _live(graph) if op.index in ops]
    quantizers: list[Any] = []
    inputs: dict[int, int] = {}
    real: set[int] = set()
    readers: dict[int, int] = {}
    for t in dict.fromkeys(t for op in kept for t in graph.activations(op)):
        readers[t] = _append(subgraph, t)
        spec = graph.tensors[t].spec
        if spec.quantization and len(spec.quantization.scale) == 1 and spec.dtype in _QUANTIZABLE:
            real.add(t)
            inputs[t] = _append(subgraph, t)
            entry = subgraph.tensors[inputs[t]]
            entry.type, entry.quantization = schema.TensorType.FLOAT32, None
            quantizers.append(_quantize(model, inputs[t], readers[t]))
        else:
            inputs[t] = readers[t]
    operators = []
    for op in graph.ops:
        operator = subgraph.operators[op.index]
        if graph.is_folded(op):
            operators.append(operator)
        elif op.index in ops:
            operator.inputs = np.array([readers.get(t, t) for t in op.inputs], np.int32)
            operators.append(operator)
    subgraph.operators = quantizers + operators
    subgraph.inputs = np.array(list(inputs.values()), np.int32)
    subgraph.outputs = np.array([t for op in kept for t in op.outputs if t >= 0], np.int32)
    # They name inputs and outputs that are there no more.
    model.signatureDefs = []
    return Isolated(_pack(model, len(content)), inputs, frozenset(real), tuple(op.index for op in kept))


def _live(graph: Graph) -> Iterable[Op]:
    return (op for op in graph.ops if not graph.is_folded(op))


def _append(subgraph: Any, tensor: int) -> int:
    """Adds a copy of a tensor that nothing writes, and returns its index."""
    entry = copy.copy(subgraph.tensors[tensor])
    entry.buffer = 0
    entry.name = f"{tensor}->{len(subgraph.tensors)}"
    subgraph.tensors.append(entry)
    return len(subgraph.tensors) - 1


def _quantize(model: Any, source: int, target: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    quantize = schema.BuiltinOperator.QUANTIZE
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    if quantize not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = quantize
        # From version 2 on it writes int16 and reads integers.
        code.version = 2
        model.operatorCodes.append(code)
        codes.append(quantize)
    operator = schema.OperatorT()
    operator.opcodeIndex = codes.index(quantize)
    operator.inputs, operator.outputs = np.array([source], np.int32), np.array([target], np.int32)
    return operator


def _unpack(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def _pack(model: Any, size: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
