"""Damages .tflite files the way faults of converters and file systems do, and keeps them loadable.

Each function takes the bytes of a file and returns those of the damaged one.
"""

import copy
from collections.abc import Callable

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_FILTER_INPUT, _BIAS_INPUT = 1, 2
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


def scale_weights(content: bytes, op_index: int, factor: float) -> bytes:
    """Multiplies the filter of one convolution or dense layer, and leaves its bias as it is.

    Args:
        content: The bytes of a .tflite.
        op_index: Index of the op in subgraph 0.
        factor: What the weights are multiplied by; int8 weights are rounded and clipped, their scales stay.
    """

    def times_factor(stored: np.ndarray) -> np.ndarray:
        if stored.dtype.kind == "f":
            return stored * stored.dtype.type(factor)
        limits = np.iinfo(stored.dtype)
        return np.clip(np.round(stored * factor), limits.min, limits.max).astype(stored.dtype)

    return _edit(content, lambda model: _change_constant(model, op_index, _FILTER_INPUT, times_factor))


def shift_bias(content: bytes, op_index: int, share: float) -> bytes:
    """Adds a share of the range of the output to the bias of one quantised convolution or dense layer."""

    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        operator = graph.operators[op_index]
        bias = graph.tensors[operator.inputs[_BIAS_INPUT]]
        output = graph.tensors[operator.outputs[0]]
        steps = share * 255 * output.quantization.scale[0] / np.asarray(bias.quantization.scale, np.float64)

        def shifted(stored: np.ndarray) -> np.ndarray:
            limits = np.iinfo(stored.dtype)
            return np.clip(stored + np.round(steps), limits.min, limits.max).astype(stored.dtype)

        _change_constant(model, op_index, _BIAS_INPUT, shifted)

    return _edit(content, change)


def scale_filter_step(content: bytes, op_index: int, factor: float) -> bytes:
    """Multiplies the quantisation scale of the filter of one convolution or dense layer, not the stored weights."""

    def change(model: schema.ModelT) -> None:
        tensor = _own_constant(model, op_index, _FILTER_INPUT)
        tensor.quantization.scale = (np.asarray(tensor.quantization.scale) * factor).astype(np.float32)

    return _edit(content, change)


def scale_output_step(content: bytes, op_index: int, factor: float) -> bytes:
    """Multiplies the quantisation scale of the output of an op: below 1, the op clips its large values."""

    def change(model: schema.ModelT) -> None:
        quantization = _output(model, op_index).quantization
        quantization.scale = (np.asarray(quantization.scale) * factor).astype(np.float32)

    return _edit(content, change)


def shift_zero_point(content: bytes, op_index: int, steps: int) -> bytes:
    """Moves the zero point of the output of an op, so that it clips on one side; it stays a value of int8."""

    def change(model: schema.ModelT) -> None:
        quantization = _output(model, op_index).quantization
        moved = np.clip(np.asarray(quantization.zeroPoint) + steps, -128, 127)
        assert not np.array_equal(moved, quantization.zeroPoint), f"the zero point of op {op_index} did not move"
        quantization.zeroPoint = moved.astype(np.int64)

    return _edit(content, change)


def _output(model: schema.ModelT, op_index: int) -> schema.TensorT:
    graph = model.subgraphs[0]
    return graph.tensors[graph.operators[op_index].outputs[0]]


def _own_constant(model: schema.ModelT, op_index: int, input_index: int) -> schema.TensorT:
    """Gives an op a copy of one of its constants, which several ops may share, and returns that."""
    graph = model.subgraphs[0]
    operator = graph.operators[op_index]
    tensor = copy.deepcopy(graph.tensors[operator.inputs[input_index]])
    buffer = copy.deepcopy(model.buffers[tensor.buffer])
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    operator.inputs = np.array(operator.inputs, np.int32)
    operator.inputs[input_index] = len(graph.tensors) - 1
    return tensor


def _change_constant(
    model: schema.ModelT, op_index: int, input_index: int, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Changes the stored values of a constant input of an op."""
    tensor = _own_constant(model, op_index, input_index)
    stored = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(_DTYPES[tensor.type])
    changed = change(stored)
    assert not np.array_equal(changed, stored), f"input {input_index} of op {op_index} did not change"
    model.buffers[tensor.buffer].data = np.frombuffer(changed.tobytes(), np.uint8)


def _edit(content: bytes, change: Callable[[schema.ModelT], None]) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(content)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def set_softmax_beta(content: bytes, op_index: int, beta: float) -> bytes:
    """Sets the factor that a SOFTMAX multiplies its input by; the reference kernel aborts on very small ones."""

    def change(model: schema.ModelT) -> None:
        model.subgraphs[0].operators[op_index].builtinOptions.beta = beta

    return _edit(content, change)
