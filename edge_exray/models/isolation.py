"""Rewrites a .tflite so that its ops no longer hear of each other: each reads values that come from elsewhere.

`graft` puts the ops of the edge model into the float edge model, where each reads the float model's values: what such
an op computes differs from the float value by the error that this op adds, with none that it inherits. `isolate` makes
every op read graph inputs of its own, so that several kernels can be given the same values.

Constants, ops that unpack constants, op options and further subgraphs (the bodies of WHILE and IF) stay as they are.
"""

import copy
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from edge_exray.models import flatbuffer
from edge_exray.models.graph import Graph, Op
from edge_exray.models.tensors import TensorSpec

# What the kernel of QUANTIZE turns float32 into.
_QUANTIZABLE = {np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int16)}
# Type of weights that are symmetric around zero to the largest value that is stored of them.
_LEVELS = {"INT8": 127, "INT4": 7, "INT2": 1}
_RESOURCE_OPS = {"VAR_HANDLE", "CALL_ONCE", "HASHTABLE"}


@dataclasses.dataclass(frozen=True)
class Grafted:
    """A float model that also holds the ops of an edge model.

    Attributes:
        content: The .tflite. Inputs, outputs, signatures and tensor indices are those of the float model.
        offset: What to add to the index of a tensor of the edge model.
        fed: Tensors of the edge model that ops read, which carry the values of the float model here. Those that are
            not among them carry what the edge model's own op computed.
    """

    content: bytes
    offset: int
    fed: frozenset[int]


@dataclasses.dataclass(frozen=True)
class Isolated:
    """A model in which every op reads graph inputs. Tensors and their indices are those of the original.

    Attributes:
        content: The rewritten .tflite.
        inputs: Index of each tensor of the original that an op reads, to the graph input that stands in for it and
            takes stored values.
        ops: Indices of the ops of the original that are in it; their output tensors are its graph outputs.
    """

    content: bytes
    inputs: dict[int, int]
    ops: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rounded:
    """A float model that also holds its ops once more, on rounded inputs and weights.

    Attributes:
        content: The .tflite. Inputs, outputs, signatures and tensor indices are those of the float model.
        outputs: Index of the edge model's op to the tensor that its float twin computes from rounded inputs and
            weights; ops without quantised ones are not among them.
    """

    content: bytes
    outputs: dict[int, int]


def obstacle(content: bytes, graph: Graph) -> str | None:
    """Returns why the ops of a model cannot be set apart; None when they can."""
    if any(op.name in _RESOURCE_OPS for op in graph.ops):
        return "the model keeps state in resources"
    if flatbuffer.keeps_data_outside(flatbuffer.unpack(content)):
        return "the weights of the model lie outside its flatbuffer"
    return None


def live(graph: Graph) -> Iterable[Op]:
    """Yields the ops that depend on the frame."""
    return (op for op in graph.ops if not graph.is_folded(op))


def graft(
    float_content: bytes, float_graph: Graph, edge_content: bytes, edge_graph: Graph, twins: Mapping[int, int]
) -> Grafted:
    """Makes the float model that also runs each op of the edge model on float values.

    An op reads the twins of its inputs, quantised like those inputs where they are quantised. Where an input has no
    twin, the op reads what the edge model's own op computed: its error then counts as the reader's.

    Args:
        float_content, float_graph: The float edge model.
        edge_content, edge_graph: The edge model; neither model may have an `obstacle`.
        twins: Tensor index in the edge model to that in the float edge model. Every input of the edge model that an
            op reads has a twin.
    """
    model, edge = flatbuffer.unpack(float_content), flatbuffer.unpack(edge_content)
    main, guest = model.subgraphs[0], edge.subgraphs[0]
    codes, buffers, subgraphs = len(model.operatorCodes), len(model.buffers), len(model.subgraphs)
    offset = len(main.tensors)
    model.operatorCodes += edge.operatorCodes
    # Buffer 0 means no buffer in both.
    model.buffers += edge.buffers[1:]
    for subgraph in edge.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer += buffers - 1 if tensor.buffer else 0
        for operator in subgraph.operators:
            operator.opcodeIndex += codes
            _shift_subgraphs(operator, subgraphs - 1)
    model.subgraphs += edge.subgraphs[1:]
    for tensor in guest.tensors:
        _shift_scales(tensor, offset)
    main.tensors += guest.tensors
    readers: dict[int, int] = {}
    quantizers = []
    for t in dict.fromkeys(t for op in live(edge_graph) for t in edge_graph.activations(op) if t in twins):
        source, spec = float_graph.tensors[twins[t]].spec, edge_graph.tensors[t].spec
        if not _has_one_shape(spec, source):
            continue
        if spec.quantization is None and spec.dtype == source.dtype:
            readers[t] = twins[t]
        elif _is_quantizable(spec, source):
            readers[t] = _append(main, guest.tensors[t])
            quantizers.append(_convert(model, "QUANTIZE", twins[t], readers[t]))
    for operator in guest.operators:
        operator.inputs = np.array([readers.get(t, t + offset if t >= 0 else t) for t in operator.inputs], np.int32)
        operator.outputs = _shifted(operator.outputs, offset)
        operator.intermediates = _shifted(operator.intermediates, offset)
    main.operators += quantizers + guest.operators
    _let_out(model, float_graph, (t + offset for op in live(edge_graph) for t in op.outputs if t >= 0))
    return Grafted(flatbuffer.pack(model, len(float_content) + len(edge_content)), offset, frozenset(readers))


def round_inputs(
    float_content: bytes, float_graph: Graph, edge_content: bytes, edge_graph: Graph, twins: Mapping[int, int]
) -> Rounded:
    """Makes the float model that also runs its own ops on inputs and weights that are rounded.

    Inputs are rounded like those of the edge model, float weights to as many bits as it has. Its own weights and their
    scales have no say in that: they may be what is wrong.

    Args:
        float_content, float_graph, edge_content, edge_graph, twins: See `graft`.
    """
    model, guest = flatbuffer.unpack(float_content), flatbuffer.unpack(edge_content).subgraphs[0]
    main = model.subgraphs[0]
    rounded: dict[int, int] = {}
    outputs: dict[int, int] = {}
    added: list[Any] = []
    for op in live(edge_graph):
        twin = float_graph.producers.get(twins.get(op.outputs[0], -1))
        if twin is None or twin.name != op.name or float_graph.is_folded(twin):
            continue
        replaced = {}
        for t in edge_graph.activations(op):
            source, spec = float_graph.tensors[twins.get(t, -1)].spec, edge_graph.tensors[t].spec
            if t not in twins or not _has_one_shape(spec, source) or not _is_quantizable(spec, source):
                continue
            if t not in rounded:
                stored = _append(main, guest.tensors[t])
                rounded[t] = _append(main, main.tensors[twins[t]])
                added += [
                    _convert(model, "QUANTIZE", twins[t], stored),
                    _convert(model, "DEQUANTIZE", stored, rounded[t]),
                ]
            replaced[twins[t]] = rounded[t]
        for t, constant in zip(op.inputs, twin.inputs, strict=False):
            weights = _rounded_weights(float_graph, constant, edge_graph, t)
            if weights is not None:
                replaced[constant] = _append(main, main.tensors[constant])
                main.tensors[-1].buffer = _store(model, weights)
        if replaced:
            # The state of an LSTM too: the op itself leaves the end of the sequence there.
            states = [t for t in twin.inputs if t >= 0 and main.tensors[t].isVariable]
            replaced |= {t: _append(main, main.tensors[t]) for t in states}
            operator = copy.copy(main.operators[twin.index])
            operator.inputs = np.array([replaced.get(t, t) for t in twin.inputs], np.int32)
            written = [_append(main, main.tensors[t]) if t >= 0 else t for t in twin.outputs]
            operator.outputs = np.array(written, np.int32)
            added.append(operator)
            outputs[op.index] = written[twin.outputs.index(twins[op.outputs[0]])]
    main.operators += added
    _let_out(model, float_graph, outputs.values())
    return Rounded(flatbuffer.pack(model, len(float_content)), outputs)


def isolate(content: bytes, graph: Graph, ops: Collection[int]) -> Isolated:
    """Makes the model in which some ops are independent of each other.

    Args:
        content: The bytes of the .tflite, which has no `obstacle`.
        graph: Its static graph.
        ops: Indices of the ops to keep.
    """
    model = flatbuffer.unpack(content)
    subgraph = model.subgraphs[0]
    kept = [op for op in live(graph) if op.index in ops]
    variables = {t for t, tensor in enumerate(subgraph.tensors) if tensor.isVariable}
    read = dict.fromkeys(t for op in kept for t in graph.activations(op) if t not in variables)
    inputs = {t: _append(subgraph, subgraph.tensors[t]) for t in read}
    for op in kept:
        operator = subgraph.operators[op.index]
        operator.inputs = np.array([inputs.get(t, t) for t in op.inputs], np.int32)
    kept_indices = {op.index for op in kept}
    unpacked = [op for op in graph.ops if graph.is_folded(op)]
    subgraph.operators = [subgraph.operators[op.index] for op in unpacked] + [
        subgraph.operators[i] for i in sorted(kept_indices)
    ]
    subgraph.inputs = np.array(list(inputs.values()), np.int32)
    subgraph.outputs = np.array([t for op in kept for t in op.outputs if t >= 0], np.int32)
    # They name inputs and outputs that are there no more.
    model.signatureDefs = []
    return Isolated(flatbuffer.pack(model, len(content)), inputs, tuple(sorted(kept_indices)))


def _has_one_shape(one: TensorSpec, other: TensorSpec) -> bool:
    """True for equal shapes, and for open dimensions beside fixed ones: often only one model has a fixed batch."""
    return one.fits(other.shape) or other.fits(one.shape)


def _is_quantizable(spec: TensorSpec, source: TensorSpec) -> bool:
    return (
        spec.quantization is not None
        and len(spec.quantization.scale) == 1
        and spec.dtype in _QUANTIZABLE
        and source.dtype == np.float32
    )


def _rounded_weights(float_graph: Graph, source: int, edge_graph: Graph, tensor: int) -> np.ndarray | None:
    """Returns a float constant as it would be after rounding to the bits of the edge model's; None for any other.

    Symmetric around zero, with a step for each channel or block that has one in the edge model, as in Jacob et al.,
    Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018.
    """
    index = edge_graph.stored_constant(tensor)
    if source < 0 or index is None:
        return None
    stored, real = edge_graph.tensors[index], float_graph.tensors[source]
    scales = stored.spec.quantization
    if not (real.is_constant and (scales or stored.block_size)) or stored.type not in _LEVELS:
        return None
    if stored.spec.shape != real.spec.shape or real.spec.dtype != np.float32 or real.unreadable:
        return None
    weights = float_graph.constant(source)
    others: tuple[int, ...] = (1,)
    if scales:
        others = tuple(i for i in range(weights.ndim) if len(scales.scale) == 1 or i != scales.axis)
    else:
        weights = weights.reshape(-1, stored.block_size)
    step = np.abs(weights).max(others, keepdims=True) / _LEVELS[stored.type]
    step = np.where(step == 0, 1, step)
    return np.asarray(np.round(weights / step) * step, np.float32).reshape(real.spec.shape)


def _store(model: Any, values: np.ndarray) -> int:
    """Adds a buffer with the values of a constant and returns its index."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _append(subgraph: Any, tensor: Any) -> int:
    """Adds a tensor like another one, without its value, and returns its index."""
    entry = copy.copy(tensor)
    entry.buffer = 0
    entry.name = f"added/{len(subgraph.tensors)}"
    subgraph.tensors.append(entry)
    return len(subgraph.tensors) - 1


def _shift_scales(tensor: Any, offset: int) -> None:
    """Moves the references to the tensors that hold the scales of blocks."""
    details = getattr(tensor.quantization, "details", None)
    for name in ("scales", "zeroPoints"):
        if getattr(details, name, -1) >= 0:
            setattr(details, name, getattr(details, name) + offset)


def _shifted(indices: Any, offset: int) -> Any:
    if indices is None:
        return None
    return np.array([t + offset if t >= 0 else t for t in indices], np.int32)


def _shift_subgraphs(operator: Any, offset: int) -> None:
    """Lets control flow find its bodies at their new place."""
    for options, name, value in list(flatbuffer.subgraph_options(operator)):
        setattr(options, name, value + offset)


def _let_out(model: Any, graph: Graph, tensors: Iterable[int]) -> None:
    """Makes further tensors outputs of a model, because delegates do not keep what nothing reads."""
    if not model.signatureDefs:
        # What the graph had as outputs must be told from the further ones.
        model.signatureDefs = [_signature(graph)]
    model.subgraphs[0].outputs = np.array([*graph.outputs, *dict.fromkeys(tensors)], np.int32)


def _signature(graph: Graph) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    def maps(tensors: Iterable[int]) -> list[Any]:
        entries = []
        for t in tensors:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[t].spec.name, t
            entries.append(entry)
        return entries

    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.subgraphIndex = 0
    signature.inputs, signature.outputs = maps(graph.inputs), maps(graph.outputs)
    return signature


def _convert(model: Any, name: str, source: int, target: int) -> Any:
    """Returns a QUANTIZE or DEQUANTIZE op."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = getattr(schema.BuiltinOperator, name)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    if builtin not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        # From version 2 on both know int16.
        code.version = 2
        model.operatorCodes.append(code)
        codes.append(builtin)
    operator = schema.OperatorT()
    operator.opcodeIndex = codes.index(builtin)
    operator.inputs, operator.outputs = np.array([source], np.int32), np.array([target], np.int32)
    return operator
