"""The static graph of a .tflite, read from its flatbuffer."""

import dataclasses
import functools

import numpy as np

from edge_exray.models.tensors import Quantization, TensorSpec

# TensorType of the TFLite schema -> NumPy dtype. 4-bit integers are stored two in a byte and read as int8.
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
    """One operator of subgraph 0.

    Attributes:
        index: Position in execution order.
        name: Builtin op name such as `"CONV_2D"`, or the name of a custom op.
        inputs: Tensor indices; -1 is an absent optional input.
        outputs: Tensor indices.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of subgraph 0: its description, and whether its value is part of the file."""

    index: int
    spec: TensorSpec
    is_constant: bool


@dataclasses.dataclass(frozen=True)
class Graph:
    """Subgraph 0 of a .tflite: ops in execution order, tensors by index, and the signatures that it computes."""

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[str, ...]

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


def read_graph(content: bytes) -> Graph:
    """Parses subgraph 0 of a .tflite.

    Args:
        content: A flatbuffer that LiteRT's interpreter has accepted; a damaged one gives undefined results.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    subgraph = model.subgraphs[0]
    builtin = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    ops = []
    for i, operator in enumerate(subgraph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        # Files older than schema 3a have only the deprecated 8-bit field; newer ones set both, clipped there.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = code.customCode.decode() if builtin[number] == "CUSTOM" else builtin[number]
        ops.append(Op(i, name, _ints(operator.inputs), _ints(operator.outputs)))
    tensors = []
    for i, tensor in enumerate(subgraph.tensors):
        data = model.buffers[tensor.buffer].data
        external = getattr(model.buffers[tensor.buffer], "offset", 0) > 1
        shape = _ints(tensor.shapeSignature) or _ints(tensor.shape)
        spec = TensorSpec(
            (tensor.name or b"").decode("utf-8", "replace"),
            shape,
            np.dtype(_DTYPES[types[tensor.type]]),
            _quantization(tensor.quantization),
        )
        tensors.append(Tensor(i, spec, (data is not None and len(data) > 0) or external))
    signatures = tuple(s.signatureKey.decode() for s in model.signatureDefs or () if s.subgraphIndex == 0)
    return Graph(tuple(ops), tuple(tensors), _ints(subgraph.inputs), _ints(subgraph.outputs), signatures)


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
