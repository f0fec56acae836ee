"""What XNNPACK calls its operators, and which ops of TFLite they compute."""

from collections.abc import Mapping

# By the name (`xnn_operator_type_to_string`), less the layout and types in brackets; all others are called like the op.
_OPS: Mapping[str, frozenset[str]] = {
    name: frozenset(ops.split())
    for name, ops in {
        "average pooling": "AVERAGE_POOL_2D MEAN",
        "bankers rounding": "ROUND",
        "batch matrix multiply": "BATCH_MATMUL",
        "ceiling": "CEIL",
        "clamp": "RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1",
        "concatenate": "CONCATENATION",
        "constant pad": "PAD PADV2",
        "convert": "QUANTIZE DEQUANTIZE CAST",
        "convolution": "CONV_2D DEPTHWISE_CONV_2D",
        "copy": "RESHAPE EXPAND_DIMS SQUEEZE CONCATENATION",
        "cosine": "COS",
        "deconvolution": "TRANSPOSE_CONV",
        "divide": "DIV",
        "dynamic fully connected": "FULLY_CONNECTED BATCH_MATMUL",
        "even split": "SPLIT",
        "fully connected": "FULLY_CONNECTED CONV_2D BATCH_MATMUL",
        "global average pooling": "MEAN AVERAGE_POOL_2D",
        "hardswish": "HARD_SWISH",
        "max pooling": "MAX_POOL_2D",
        "multiply": "MUL",
        "negate": "NEG",
        "reciprocal square root": "RSQRT",
        "sigmoid": "LOGISTIC",
        "sine": "SIN",
        "square root": "SQRT",
        "static constant pad": "PAD PADV2",
        "static mean": "MEAN",
        "static reshape": "RESHAPE EXPAND_DIMS SQUEEZE",
        "slice": "SLICE STRIDED_SLICE SPLIT",
        "static slice": "SLICE STRIDED_SLICE SPLIT",
        "static transpose": "TRANSPOSE",
        "subtract": "SUB",
        "sum": "SUM MEAN",
    }.items()
}


def ops_of(tag: str) -> frozenset[str]:
    """Returns the names of the TFLite ops that an operator may stand for.

    Args:
        tag: As profilers show it, for example `"Convolution (NHWC, F32) DWConv"`.
    """
    if "DWConv" in tag:
        return frozenset({"DEPTHWISE_CONV_2D"})
    name = name_of(tag)
    return _OPS.get(name, frozenset({name.upper().replace(" ", "_")}))


def name_of(tag: str) -> str:
    """Returns the name of the operator without layout and types, in lower case."""
    return tag.split(" (")[0].lower()
