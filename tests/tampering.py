"""Changes .tflite files the way faults and other converters do, and keeps them loadable.

Each function takes the bytes of a file and returns those of the changed one.
"""

import copy
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_exray.models import flatbuffer

_FILTER_INPUT, _BIAS_INPUT = 1, 2
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_ACTIVATIONS = {
    schema.ActivationFunctionType.RELU: schema.BuiltinOperator.RELU,
    schema.ActivationFunctionType.RELU6: schema.BuiltinOperator.RELU6,
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


def change_bias(content: bytes, op_index: int, factor: float) -> bytes:
    """Multiplies the bias of one convolution or dense layer.

    Args:
        content: The bytes of a .tflite.
        op_index: Index of the op in subgraph 0.
        factor: What the stored values are multiplied by.
    """

    def change(model: schema.ModelT) -> None:
        _change_constant(model, op_index, _BIAS_INPUT, lambda stored: (stored * factor).astype(stored.dtype))

    return _edit(content, change)


def rename_tensors(content: bytes) -> bytes:
    """Names all tensors `t0`, `t1`, ... and drops the signatures, as a converter does that knows no names.

    Args:
        content: The bytes of a .tflite.
    """

    def rename(model: schema.ModelT) -> None:
        for graph in model.subgraphs:
            for i, tensor in enumerate(graph.tensors):
                tensor.name = f"t{i}"
        model.signatureDefs = None

    return _edit(content, rename)


def unfuse_activations(content: bytes) -> bytes:
    """Moves every fused RELU and RELU6 into an op of its own.

    Args:
        content: The bytes of a float .tflite.
    """

    def unfuse(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        operators = []
        for operator in graph.operators:
            operators.append(operator)
            activation = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
            if activation in _ACTIVATIONS:
                operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
                before = copy.deepcopy(graph.tensors[operator.outputs[0]])
                before.name = b"before"
                graph.tensors.append(before)
                code = schema.OperatorCodeT()
                code.builtinCode = code.deprecatedBuiltinCode = _ACTIVATIONS[activation]
                code.version = 1
                model.operatorCodes.append(code)
                following = schema.OperatorT()
                following.opcodeIndex = len(model.operatorCodes) - 1
                following.inputs, following.outputs = [len(graph.tensors) - 1], operator.outputs
                operator.outputs = [len(graph.tensors) - 1]
                operators.append(following)
        assert len(operators) > len(graph.operators), "nothing was fused"
        graph.operators = operators

    return _edit(content, unfuse)


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
    model = flatbuffer.unpack(content)
    change(model)
    return flatbuffer.pack(model, len(content))


def change_constant(
    content: bytes, op_index: int, input_index: int, change: Callable[[np.ndarray], np.ndarray]
) -> bytes:
    """Changes a constant of one op.

    Args:
        content: The bytes of a .tflite.
        op_index: Index of the op in subgraph 0.
        input_index: Which of its inputs.
        change: Takes the stored values in the shape of the tensor and returns as many.
    """

    def edit(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        shape = graph.tensors[graph.operators[op_index].inputs[input_index]].shape
        _change_constant(model, op_index, input_index, lambda stored: change(stored.reshape(shape)).ravel())

    return _edit(content, edit)


def set_activation(content: bytes, op_index: int, name: str) -> bytes:
    """Sets the activation that is fused into an op, such as `"RELU"` or `"NONE"`."""

    def change(model: schema.ModelT) -> None:
        options = model.subgraphs[0].operators[op_index].builtinOptions
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, name)

    return _edit(content, change)


def set_softmax_beta(content: bytes, op_index: int, beta: float) -> bytes:
    """Sets the factor that a SOFTMAX multiplies its input by; the reference kernel aborts on very small ones."""

    def change(model: schema.ModelT) -> None:
        model.subgraphs[0].operators[op_index].builtinOptions.beta = beta

    return _edit(content, change)


def set_constant(content: bytes, op_index: int, input_index: int, value: float, share: float = 1.0) -> bytes:
    """Overwrites the first values of a constant of one op.

    Args:
        content: The bytes of a .tflite.
        op_index: Index of the op in subgraph 0.
        input_index: Which of its inputs.
        value: What is stored, before any scale.
        share: How much of the constant; it is counted along its first axis.
    """

    def overwrite(stored: np.ndarray) -> np.ndarray:
        changed = stored.copy()
        changed[: max(1, int(share * len(stored)))] = value
        return changed

    return _edit(content, lambda model: _change_constant(model, op_index, input_index, overwrite))


def quantize_per_tensor(content: bytes, op_index: int, spread: float) -> bytes:
    """Gives the int8 filter of one convolution a single scale, and shrinks its first channel to 127 / spread."""

    def change(model: schema.ModelT) -> None:
        tensor = _own_constant(model, op_index, _FILTER_INPUT)
        buffer = model.buffers[tensor.buffer]
        stored = np.asarray(buffer.data, np.uint8).view(np.int8).reshape(tensor.shape).astype(np.float64)
        # Every channel of a filter that is quantised by channel reaches 127.
        stored[0] /= spread
        buffer.data = np.frombuffer(np.round(stored).astype(np.int8).tobytes(), np.uint8)
        tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32)[:1]
        tensor.quantization.zeroPoint = np.zeros(1, np.int64)

    return _edit(content, change)


def insert_behind(content: bytes, op_index: int, *names: str) -> bytes:
    """Puts ops behind an op, before what reads it.

    Args:
        content: The bytes of a .tflite.
        op_index: Index of the op in subgraph 0.
        names: Ops with one input, or `"MUL"`, which multiplies the channels by ones. What a DEQUANTIZE returns is
            float32, and so is what follows up to a QUANTIZE.
    """

    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        final = graph.operators[op_index].outputs[0]
        current = len(graph.tensors)
        graph.tensors.append(copy.deepcopy(graph.tensors[final]))
        graph.operators[op_index].outputs = [current]
        added = []
        for name in names:
            inputs = [current]
            if name == "MUL":
                channels = int(graph.tensors[final].shape[-1])
                ones = schema.BufferT()
                ones.data = np.frombuffer(np.ones(channels, np.float32).tobytes(), np.uint8)
                model.buffers.append(ones)
                factor = schema.TensorT()
                factor.name, factor.shape, factor.buffer = b"ones", [channels], len(model.buffers) - 1
                factor.type = schema.TensorType.FLOAT32
                graph.tensors.append(factor)
                inputs.append(len(graph.tensors) - 1)
            output = final
            if name != names[-1]:
                following = copy.deepcopy(graph.tensors[final])
                following.type, following.quantization = schema.TensorType.FLOAT32, None
                following.name = f"behind_{name}".encode()
                graph.tensors.append(following)
                output = len(graph.tensors) - 1
            operator = schema.OperatorT()
            operator.opcodeIndex = _code(model, name)
            operator.inputs, operator.outputs = inputs, [output]
            added.append(operator)
            current = output
        graph.operators[op_index + 1 : op_index + 1] = added

    return _edit(content, change)


def replace_op(content: bytes, op_index: int, name: str) -> bytes:
    """Turns an op into another one with the same inputs and outputs, a custom op when no builtin has that name."""

    def change(model: schema.ModelT) -> None:
        operator = model.subgraphs[0].operators[op_index]
        operator.opcodeIndex = _code(model, name)
        operator.builtinOptionsType, operator.builtinOptions = 0, None

    return _edit(content, change)


def unfix_shape(content: bytes, tensor_index: int, axis: int) -> bytes:
    """Makes one dimension of a tensor unknown."""

    def change(model: schema.ModelT) -> None:
        tensor = model.subgraphs[0].tensors[tensor_index]
        signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        tensor.shapeSignature = np.where(np.arange(len(signature)) == axis, -1, signature).astype(np.int32)

    return _edit(content, change)


def drop_op(content: bytes, op_index: int) -> bytes:
    """Takes an op away; nothing writes its output then."""

    def change(model: schema.ModelT) -> None:
        del model.subgraphs[0].operators[op_index]

    return _edit(content, change)


def drop_names(content: bytes) -> bytes:
    """Drops the signatures and the names of the inputs."""

    def change(model: schema.ModelT) -> None:
        model.signatureDefs = None
        for tensor in model.subgraphs[0].inputs:
            model.subgraphs[0].tensors[tensor].name = None

    return _edit(content, change)


def _code(model: schema.ModelT, name: str) -> int:
    code = schema.OperatorCodeT()
    code.version = 1
    code.builtinCode = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
    code.deprecatedBuiltinCode = min(code.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    if code.builtinCode == schema.BuiltinOperator.CUSTOM:
        code.customCode = name.encode()
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
