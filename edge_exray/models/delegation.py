"""Which ops XNNPACK takes over, and why it leaves an op alone.

After the delegate's own list of operators and their limits (`delegates/xnnpack/README.md` in the sources of LiteRT) and
what the delegate of LiteRT 2.x was seen to take.
"""

import numpy as np

from edge_exray.models.graph import Graph, Op, Tensor
from edge_exray.models.layouts import WEIGHTED_OPS

# What XNNPACK takes over in LiteRT 2.x by default (delegates/xnnpack in its sources, and what its delegate was seen to
# take); all others run on built-in kernels and split the graph that it has.
_INT8_OPS = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE ELU EXPAND_DIMS
    FULLY_CONNECTED LEAKY_RELU LOGISTIC MAX_POOL_2D MEAN MUL PAD QUANTIZE RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 RESHAPE
    RESIZE_BILINEAR SLICE SPACE_TO_DEPTH SPLIT STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
"""
_FLOAT_OPS = """
    ABS BATCH_MATMUL CEIL COS DIV EXP FLOOR GELU HARD_SWISH LOG MAXIMUM MINIMUM NEG POW PRELU REDUCE_MAX REDUCE_MIN
    ROUND RSQRT SIN SOFTMAX SQRT SQUARE SQUARED_DIFFERENCE
"""
_ACCELERATED = {
    "FLOAT32": {*_INT8_OPS.split(), *_FLOAT_OPS.split()},
    "INT8": {*_INT8_OPS.split()},
    "UINT8": {*_INT8_OPS.split()},
    "INT16": set(),
}
# Float ops with integer weights, by the type of the weights.
_HYBRID = {"INT8": {"CONV_2D", "FULLY_CONNECTED"}, "INT4": {"FULLY_CONNECTED"}}
# They take what they do from further inputs, which have to be constants: axes, paddings, shapes.
_PARAMETERS = {"MEAN", "SUM", "PAD", "RESHAPE", "RESIZE_BILINEAR", "SLICE", "STRIDED_SLICE", "TRANSPOSE", "EXPAND_DIMS"}
_ACTIVATIONS = {"NONE", "RELU", "RELU_N1_TO_1", "RELU6"}
_MOST_PARTS = 4
# Ratios of an input's scale to the output's, by op, for which its fixed-point multiplication has room.
_RATIOS = {
    "ADD": (2.0**-10, 2.0**8),
    "SUB": (2.0**-10, 2.0**8),
    "QUANTIZE": (2.0**-8, 2.0**7),
    "LEAKY_RELU": (2.0**-8, 2.0**7),
}


def kind(graph: Graph, op: Op) -> str:
    """Returns the types that decide which kernels an op can run on: `"INT8"`, `"FLOAT32 with INT8 weights"`."""
    output, weights = _types(graph, op)
    return f"{output.type} with {weights.type} weights" if weights else output.type


def is_accelerated(graph: Graph, op: Op) -> bool | None:
    """Returns whether XNNPACK has kernels for such an op in such types; None for types that nothing is known of."""
    output, weights = _types(graph, op)
    taken = _HYBRID[weights.type] if weights else _ACCELERATED.get(output.type)
    return None if taken is None else op.name in taken


def obstacle(graph: Graph, op: Op) -> str:
    """Returns why XNNPACK leaves an op alone that it was seen to leave alone, as far as that can be told."""
    if op.is_custom:
        return "it is a custom op, which brings its own code"
    if not any(op.name in ops for ops in _ACCELERATED.values()):
        return f"XNNPACK has no kernel for {op.name}"
    if not is_accelerated(graph, op):
        in_float = ", only in FLOAT32" if op.name in _ACCELERATED["FLOAT32"] else ""
        return f"XNNPACK has no kernel for {op.name} in {kind(graph, op)}{in_float}"
    return (
        _unfit_parameters(graph, op)
        or _unfit_scales(graph, op)
        or "XNNPACK has a kernel for it, but refused its shapes or options"
    )


def _types(graph: Graph, op: Op) -> tuple[Tensor, Tensor | None]:
    """Returns the main output, and the weights where they are integers in a float op."""
    output = graph.tensors[op.outputs[0]]
    weights = graph.tensors[op.inputs[1]] if len(op.inputs) > 1 and op.inputs[1] >= 0 else output
    is_hybrid = output.type == "FLOAT32" and weights.type in _HYBRID and weights.is_constant
    return output, weights if is_hybrid else None


def _unfit_parameters(graph: Graph, op: Op) -> str | None:
    computed = [t for t in op.inputs[1:] if t >= 0 and graph.stored_constant(t) is None]
    if op.name in _PARAMETERS and computed:
        return f"it takes {graph.tensors[computed[0]].spec.name} as parameter, which is computed and no constant"
    layout = WEIGHTED_OPS.get(op.name)
    if layout and graph.stored_constant(op.inputs[layout.weights]) is None:
        return "its weights are computed and no constant"
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and (len(op.inputs) < 3 or op.inputs[2] < 0):
        return "it has no bias"
    if op.activation not in _ACTIVATIONS:
        return f"{op.activation} is fused into it"
    if op.name == "SOFTMAX" and op.options.get("beta", 1.0) != 1.0:
        return f"its beta is {op.options['beta']:g}, not 1"
    window = op.options.get("filterWidth"), op.options.get("filterHeight")
    if window == (1, 1) and (op.options["strideW"], op.options["strideH"]) != (1, 1):
        return "it pools windows of 1 x 1 with a stride"
    if op.name == "CONCATENATION" and len(op.inputs) > _MOST_PARTS:
        return f"it joins more than {_MOST_PARTS} tensors"
    if op.name == "SPLIT" and len(op.outputs) > _MOST_PARTS:
        return f"it splits into more than {_MOST_PARTS} tensors"
    return None


def _unfit_scales(graph: Graph, op: Op) -> str | None:
    bounds, target = _RATIOS.get(op.name), graph.tensors[op.outputs[0]].spec.quantization
    if bounds is None or target is None:
        return None
    for t in op.inputs:
        source = graph.tensors[t].spec.quantization
        if source is None:
            continue
        ratio = float(np.max(source.scale) / np.max(target.scale))
        if not bounds[0] <= ratio < bounds[1]:
            name = graph.tensors[t].spec.name
            return (
                f"the scale of {name} is {ratio:.3g} times that of the output, "
                f"beyond {bounds[0]:.3g} to {bounds[1]:.3g}"
            )
    return None
