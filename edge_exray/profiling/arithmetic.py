"""How much an op has to compute and to move, from its shapes alone.

A multiplication with the addition that follows it counts as two operations, as usual for FLOPs. Biases and fused
activations are not counted: less than a hundredth of a layer. With `n` values of the output and `m` of the input that
carries the frame:

| op | operations |
|---|---|
| `CONV_2D`, `CONV_3D` | 2 n x weights of one output channel: height x width (x depth) x input channels of the group |
| `DEPTHWISE_CONV_2D` | 2 n x height x width of the filter |
| `TRANSPOSE_CONV`, `CONV_3D_TRANSPOSE` | 2 m x weights of one input channel |
| `FULLY_CONNECTED`, `BATCH_MATMUL` | 2 n x length of the sum |
| `UNIDIRECTIONAL_SEQUENCE_LSTM` | 2 x steps x batch x all weights of gates and projection |
| pooling | n x values of the window |
| sums and other reductions, `L2_NORMALIZATION` | m, 3 m |
| functions that are no single operation: `SOFTMAX`, `LOGISTIC`, `TANH`, `EXP`, ... | 64 n |
| one operation for each value: `ADD`, `MUL`, `RELU`, ... | n |
| `QUANTIZE`, `DEQUANTIZE`, `RESIZE_BILINEAR` | 2 n, 2 n, 8 n (four products and their sum) |
| what only moves values | 0 |

The rule for the convolutions and the 64 operations of an elementary function are those by which TFLite's converter
counts (`EstimateArithmeticOpsCount` in `lite/toco/tooling_util.cc`, today the `GetArithmeticCount` of its MLIR ops).

The traffic is each input that is read and each output once, which no kernel goes below as long as nothing stays in
registers from one op to the next, as in Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance
Model for Multicore Architectures", Communications of the ACM 52(4), 2009.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

from edge_exray.models.graph import Graph, Op

Shapes = Mapping[int, tuple[int, ...]]
"""Tensor index to its shape without unknown dimensions."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one op has to do.

    Attributes:
        flops: Operations; integer ones count as well. None where it is not known, as of custom ops and loops.
        bytes: Bytes to read and to write; None where it is not known.
        constant_bytes: How many of these are weights and other constants.
    """

    flops: int | None
    bytes: int | None
    constant_bytes: int = 0


def work(graph: Graph, op: Op, shapes: Shapes) -> Work:
    """Estimates what an op has to do; see the module's text for the formulas.

    Args:
        graph: Its graph.
        op: The op.
        shapes: Shapes as the interpreter has them after it ran.
    """
    if op.is_custom or not op.outputs:
        return Work(None, None)
    flops = _flops(op, shapes)
    sizes = None if flops is None else _sizes(graph, op, shapes)
    if sizes is None:
        return Work(flops, None)
    constants = sum(size for t, size in sizes.items() if graph.stored_constant(t) is not None)
    return Work(flops, sum(sizes.values()), constants)


def _elements(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _flops(op: Op, shapes: Shapes) -> int | None:
    if op.name in _PER_OUTPUT:
        return _PER_OUTPUT[op.name] * _elements(shapes[op.outputs[0]])
    if op.name in _PER_INPUT:
        return _PER_INPUT[op.name] * _elements(shapes[op.inputs[0]])
    rule = _RULES.get(op.name)
    return rule(op, shapes) if rule else None


def _each_output(weights: slice) -> Callable[[Op, Shapes], int]:
    """A sum over some dimensions of the second input for each output."""
    return lambda op, shapes: 2 * _elements(shapes[op.outputs[0]]) * _elements(shapes[op.inputs[1]][weights])


def _each_input(weights: slice) -> Callable[[Op, Shapes], int]:
    """Products with some dimensions of the second input for each value of the third, which carries the frame."""
    return lambda op, shapes: 2 * _elements(shapes[op.inputs[2]]) * _elements(shapes[op.inputs[1]][weights])


def _matmul(op: Op, shapes: Shapes) -> int:
    left = shapes[op.inputs[0]]
    return 2 * _elements(shapes[op.outputs[0]]) * left[-2 if op.options.get("adjX") else -1]


def _pool(op: Op, shapes: Shapes) -> int:
    return _elements(shapes[op.outputs[0]]) * op.options["filterHeight"] * op.options["filterWidth"]


def _lstm(op: Op, shapes: Shapes) -> int:
    # Inputs 1 to 8 are the weights of the gates for frame and state, 16 those of the projection; absent ones are -1.
    weights = [t for t in (*op.inputs[1:9], *op.inputs[16:17]) if t >= 0]
    steps = _elements(shapes[op.inputs[0]][:-1])
    return 2 * steps * sum(_elements(shapes[t]) for t in weights)


_RULES: dict[str, Callable[[Op, Shapes], int]] = {
    "CONV_2D": _each_output(slice(1, None)),
    "DEPTHWISE_CONV_2D": _each_output(slice(1, 3)),
    "CONV_3D": _each_output(slice(0, 4)),
    "TRANSPOSE_CONV": _each_input(slice(0, 3)),
    "CONV_3D_TRANSPOSE": _each_input(slice(0, 4)),
    "FULLY_CONNECTED": _each_output(slice(-1, None)),
    "BATCH_MATMUL": _matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "L2_POOL_2D": _pool,
}
_ELEMENTARY = 64
_ONCE = """
    ABS ADD CEIL DIV EQUAL FLOOR FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LEAKY_RELU LESS LESS_EQUAL LOGICAL_AND
    LOGICAL_NOT LOGICAL_OR MAXIMUM MINIMUM MUL NEG NOT_EQUAL PRELU RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND SIGN SQRT
    SQUARE SUB
"""
_FUNCTIONS = "COS ELU EXP GELU LOG LOGISTIC LOG_SOFTMAX POW SIN SOFTMAX TANH"
_MOVES = """
    BATCH_TO_SPACE_ND BROADCAST_TO CAST CONCATENATION DEPTH_TO_SPACE DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP EXPAND_DIMS
    FILL GATHER GATHER_ND MIRROR_PAD PACK PAD PADV2 RANK RESHAPE RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SELECT SELECT_V2
    SHAPE SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE TRANSPOSE UNPACK ZEROS_LIKE
"""
_PER_OUTPUT = {
    **dict.fromkeys(_MOVES.split(), 0),
    **dict.fromkeys(_ONCE.split(), 1),
    **dict.fromkeys(_FUNCTIONS.split(), _ELEMENTARY),
    "SQUARED_DIFFERENCE": 2,
    "RSQRT": 2,
    "HARD_SWISH": 5,
    "QUANTIZE": 2,
    "DEQUANTIZE": 2,
    "RESIZE_BILINEAR": 8,
}
_PER_INPUT = {
    **dict.fromkeys(["ARG_MAX", "ARG_MIN", "CUMSUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"], 1),
    "L2_NORMALIZATION": 3,
}

# Of their first input they read as many values as they write, or none.
_PICKS = {"GATHER", "GATHER_ND", "SLICE", "STRIDED_SLICE"}
_SHAPE_ONLY = {"SHAPE", "RANK", "ZEROS_LIKE"}


def _sizes(graph: Graph, op: Op, shapes: Shapes) -> dict[int, int] | None:
    """Returns the bytes that an op reads or writes of each tensor; None when one is not known."""
    picked = {"EMBEDDING_LOOKUP": 1}.get(op.name, 0 if op.name in _PICKS else None)
    sizes = {}
    for t in (*(() if op.name in _SHAPE_ONLY else op.inputs), *op.outputs):
        if t < 0:
            continue
        is_picked = picked is not None and t == op.inputs[picked]
        size = _tensor_bytes(graph, t, shapes[op.outputs[0] if is_picked else t])
        if size is None:
            return None
        sizes[t] = size
    return sizes


def _tensor_bytes(graph: Graph, tensor: int, shape: tuple[int, ...]) -> int | None:
    stored = graph.tensors[tensor]
    if stored.spec.dtype.kind in "OV" or stored.unreadable == "it is sparse":
        return None
    # Two values of four bits share a byte.
    return (_elements(shape) + 1) // 2 if stored.type == "INT4" else _elements(shape) * stored.spec.dtype.itemsize
