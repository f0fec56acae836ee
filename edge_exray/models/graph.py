"""The static graph of a .tflite, read from its flatbuffer."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models import flatbuffer
from edge_exray.models.tensors import Quantization, TensorSpec

# TensorType of the TFLite schema -> NumPy dtype. 4-bit integers are stored two in a byte and read as int8. A type that
# NumPy does not have (BFLOAT16, FLOAT8_E4M3FN, ...) is opaque.
_OPAQUE = np.dtype("V1")
_DTYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT4": np.int8,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT32": np.int32,
    "UINT32": np.uint32,
    "INT64": np.int64,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "COMPLEX64": np.complex64,
    "COMPLEX128": np.complex128,
    "STRING": object,
    "RESOURCE": object,
    "VARIANT": object,
}


@dataclasses.dataclass(frozen=True)
class Op:
    """One operator.

    Attributes:
        index: Position in execution order.
        name: Builtin op name such as `"CONV_2D"`, or the name of a custom op.
        inputs: Tensor indices; -1 is an absent optional input.
        outputs: Tensor indices.
        activation: Name of the activation that is fused into the op, for example `"RELU6"`; `"NONE"` without.
        is_custom: True when `name` is that of a custom op.
        options: The other options of a builtin op, named as in the TFLite schema (`"strideW"`); enums are numbers.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    is_custom: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def subgraphs(self) -> tuple[int, ...]:
        """Indices of the graphs that an op of control flow runs, such as condition and body of a WHILE."""
        return tuple(value for name, value in self.options.items() if flatbuffer.names_graph(name) and value > 0)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes:
        index: Its index.
        spec: Its description.
        is_constant: Its value is part of the model.
        unreadable: Why `Graph.constant` cannot give the value of such a tensor; None when it can.
        type: Name of the type in the TFLite schema, which tells `"INT4"` from `"INT8"`.
        is_variable: It keeps its value from one run to the next, as the state of an LSTM.
        block_size: How many values along an axis share a scale that is a tensor of its own; 0 otherwise.
    """

    index: int
    spec: TensorSpec
    is_constant: bool
    unreadable: str | None = None
    type: str = "FLOAT32"
    block_size: int = 0
    is_variable: bool = False


@dataclasses.dataclass(frozen=True)
class Graph:
    """One graph of a .tflite.

    Attributes:
        ops: In execution order.
        tensors: By index.
        inputs, outputs: Tensor indices.
        signatures: Names of the signatures that the graph computes.
        subgraphs: On subgraph 0 the other graphs of the file, by their index: bodies of loops and branches.
    """

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[str, ...] = ()
    subgraphs: Mapping[int, "Graph"] = dataclasses.field(default_factory=dict, repr=False)
    _buffers: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def producers(self) -> dict[int, Op]:
        """Tensor index to the op that writes it."""
        return {t: op for op in self.ops for t in op.outputs}

    def is_folded(self, op: Op) -> bool:
        """True for an op with only constant inputs: it unpacks a weight and computes nothing of the frame."""
        return all(t < 0 or self.tensors[t].is_constant for t in op.inputs)

    def activations(self, op: Op) -> list[int]:
        """The inputs of an op that depend on the frame."""
        return [
            t
            for t in op.inputs
            if t >= 0
            and not self.tensors[t].is_constant
            and not (t in self.producers and self.is_folded(self.producers[t]))
        ]

    def stored_constant(self, index: int) -> int | None:
        """Returns the constant that a tensor is, or that it unpacks (float16 weights); None for a computed one."""
        while index >= 0 and not self.tensors[index].is_constant:
            op = self.producers.get(index)
            if op is None or op.name != "DEQUANTIZE":
                return None
            index = op.inputs[0]
        return index if index >= 0 else None

    def constant(self, index: int) -> np.ndarray:
        """Returns the stored values of a constant tensor; see `TensorSpec.real` for the real ones.

        Raises:
            ModelError: The tensor is no constant, or its values are not readable.
        """
        tensor = self.tensors[index]
        if not tensor.is_constant or tensor.unreadable:
            reason = tensor.unreadable or "it is computed"
            raise errors.ModelError(f"tensor {index} {tensor.spec.name} has no values to read: {reason}")
        raw = self._buffers[index]
        if tensor.type == "INT4":
            # Two values in a byte, the lower half first; the shift to the left and back extends the sign.
            raw = np.stack([raw << 4, raw & 0xF0], -1).ravel().view(np.int8) >> 4
            return raw[: int(np.prod(tensor.spec.shape))].reshape(tensor.spec.shape)
        return raw.view(tensor.spec.dtype).reshape(tensor.spec.shape)


def read_graph(content: bytes) -> Graph:
    """Parses the graphs of a .tflite.

    Args:
        content: See `flatbuffer.unpack`.

    Returns:
        Subgraph 0, which the interpreter runs; it knows the others.
    """
    model = flatbuffer.unpack(content)
    others = {i: _graph(content, model, i) for i in range(1, len(model.subgraphs))}
    return dataclasses.replace(_graph(content, model, 0), subgraphs=others)


def custom_ops(content: bytes) -> list[str]:
    """Returns the names of the ops of a .tflite that are not of TFLite's own set.

    Args:
        content: See `flatbuffer.unpack`.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    return [code.CustomCode().decode() for code in codes if code.CustomCode()]


def tensorflow_ops(content: bytes) -> list[str]:
    """Returns the names of the ops that TensorFlow has to compute ("Select TensorFlow operators").

    Args:
        content: See `flatbuffer.unpack`.
    """
    return [name for name in custom_ops(content) if is_tensorflow_op(name)]


def is_tensorflow_op(name: str) -> bool:
    """True for the name of a custom op that is TensorFlow's."""
    return name.startswith("Flex")


def _graph(content: bytes, model: Any, index: int) -> Graph:
    tensors, buffers = [], {}
    for i, tensor in enumerate(model.subgraphs[index].tensors):
        raw = _values(content, model.buffers[tensor.buffer])
        tensors.append(_tensor(i, tensor, is_constant=raw is not None))
        if raw is not None:
            buffers[i] = raw
    return Graph(
        ops=tuple(_op(i, model, operator) for i, operator in enumerate(model.subgraphs[index].operators)),
        tensors=tuple(tensors),
        inputs=_ints(model.subgraphs[index].inputs),
        outputs=_ints(model.subgraphs[index].outputs),
        signatures=tuple(s.signatureKey.decode() for s in model.signatureDefs or () if s.subgraphIndex == index),
        _buffers=buffers,
    )


def _op(index: int, model: Any, operator: Any) -> Op:
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    # Files older than schema 3a have only the deprecated 8-bit field; newer ones set both, clipped there.
    name = _names(schema.BuiltinOperator)[max(code.builtinCode, code.deprecatedBuiltinCode)]
    is_custom = name == "CUSTOM"
    # Options are an object of the schema; ops that were added late keep them in a second union.
    stored = operator.builtinOptions or getattr(operator, "builtinOptions2", None)
    options = {key: _plain(value) for key, value in vars(stored).items()} if stored else {}
    activation = _names(schema.ActivationFunctionType)[options.pop("fusedActivationFunction", 0)]
    return Op(
        index=index,
        name=code.customCode.decode() if is_custom else name,
        inputs=_ints(operator.inputs),
        outputs=_ints(operator.outputs),
        activation=activation,
        is_custom=is_custom,
        options=options,
    )


def _tensor(index: int, tensor: Any, is_constant: bool) -> Tensor:
    from ai_edge_litert import schema_py_generated as schema

    kind = _names(schema.TensorType)[tensor.type]
    dtype = np.dtype(_DTYPES.get(kind, _OPAQUE))
    unreadable = None
    details = getattr(tensor.quantization, "details", None)
    if tensor.sparsity is not None:
        unreadable = "it is sparse"
    elif dtype.kind in "OV":
        unreadable = f"its type is {kind}"
    elif details is not None:
        unreadable = "its quantisation is not affine by channel"
    shape = _ints(tensor.shapeSignature) or _ints(tensor.shape)
    name = (tensor.name or b"").decode("utf-8", "replace")
    spec = TensorSpec(name, shape, dtype, _quantization(tensor.quantization))
    block_size = getattr(details, "blockSize", 0)
    return Tensor(index, spec, is_constant, unreadable, kind, block_size, bool(tensor.isVariable))


def _values(content: bytes, buffer: Any) -> np.ndarray | None:
    """Returns the bytes of a constant; large models store them behind the flatbuffer."""
    if getattr(buffer, "offset", 0) > 1:
        return np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    return None if buffer.data is None or not len(buffer.data) else np.asarray(buffer.data, np.uint8)


def _plain(value: Any) -> Any:
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value


@functools.cache
def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


def _ints(values: np.ndarray | list[int] | None) -> tuple[int, ...]:
    return () if values is None else tuple(int(v) for v in values)


def _quantization(parameters: object) -> Quantization | None:
    scale = getattr(parameters, "scale", None)
    if scale is None or len(scale) == 0:
        return None
    zero_point = getattr(parameters, "zeroPoint", None)
    zeros = _ints(zero_point) if zero_point is not None and len(zero_point) else (0,) * len(scale)
    return Quantization(tuple(float(s) for s in scale), zeros, int(getattr(parameters, "quantizedDimension", 0)))
