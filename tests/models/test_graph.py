import pathlib

import models_zoo
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_exray import errors
from edge_exray.conversion import converter
from edge_exray.models import flatbuffer
from edge_exray.models.graph import read_graph
from edge_exray.models.tflite import EdgeModel

MODES = ["none", "float16", "dynamic_range", "int8", "int8_float_io"]


@pytest.mark.parametrize("mode", MODES)
def test_ops_and_tensors_are_those_of_the_interpreter(mode, edge_models):
    model = EdgeModel(edge_models[mode], kernels="builtin")
    ops = [
        (d["index"], d["op_name"], d["inputs"].tolist(), d["outputs"].tolist())
        for d in model.interpreter._get_ops_details()
    ]
    assert [(op.index, op.name, list(op.inputs), list(op.outputs)) for op in model.graph.ops] == ops
    details = {d["index"]: d for d in model.interpreter.get_tensor_details()}
    for tensor in model.graph.tensors:
        told = details[tensor.index]
        shape = told["shape_signature"] if len(told["shape_signature"]) else told["shape"]
        assert (tensor.spec.name, tensor.spec.dtype) == (told["name"], np.dtype(told["dtype"]))
        assert tensor.spec.shape == tuple(shape)
        scales = told["quantization_parameters"]["scales"]
        assert (tensor.spec.quantization is not None) == (len(scales) > 0)
        if tensor.spec.quantization:
            np.testing.assert_array_equal(np.float32(tensor.spec.quantization.scale), scales)
            zero_points = told["quantization_parameters"]["zero_points"]
            assert tensor.spec.quantization.zero_point == tuple(zero_points)
            assert tensor.spec.quantization.axis == told["quantization_parameters"]["quantized_dimension"]


@pytest.mark.parametrize("mode", MODES)
def test_constants_are_what_is_neither_fed_nor_computed(mode, edge_models):
    graph = EdgeModel(edge_models[mode]).graph
    moving = {*graph.inputs, *graph.producers}
    assert {t.index for t in graph.tensors if t.is_constant} == {t.index for t in graph.tensors} - moving
    assert {op.index for op in graph.producers.values()} == set(range(len(graph.ops)))


def test_unpacking_of_float16_weights_is_no_part_of_the_computation(edge_models):
    graph = EdgeModel(edge_models["float16"]).graph
    folded = [op for op in graph.ops if graph.is_folded(op)]
    # Kernel and bias of three convolutions and a dense layer.
    assert [op.name for op in folded] == ["DEQUANTIZE"] * 8
    computing = [op for op in graph.ops if not graph.is_folded(op)]
    assert [op.name for op in computing] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    chain = [*graph.inputs, *(op.outputs[0] for op in computing)]
    assert [graph.activations(op) for op in computing] == [[t] for t in chain[:-1]]
    assert list(graph.outputs) == chain[-1:]


def test_options_and_fused_activations_are_those_of_the_network(edge_models):
    convolution, depthwise, *_, mean, dense, softmax = EdgeModel(edge_models["none"]).graph.ops
    assert convolution.activation == depthwise.activation == "RELU6"
    assert (convolution.options["strideH"], convolution.options["strideW"]) == (2, 2)
    assert depthwise.options["depthMultiplier"] == 1
    assert mean.options["keepDims"] is False
    assert (dense.activation, dense.is_custom, dense.subgraphs) == ("NONE", False, ())
    assert softmax.options["beta"] == 1.0


@pytest.mark.parametrize("mode", MODES)
def test_constants_are_what_the_interpreter_holds(mode, edge_models):
    model = EdgeModel(edge_models[mode], kernels="builtin")
    constants = [t for t in model.graph.tensors if t.is_constant]
    assert len(constants) >= 8
    for tensor in constants:
        held = model.interpreter.get_tensor(tensor.index)
        np.testing.assert_array_equal(model.graph.constant(tensor.index), held)
        assert model.graph.constant(tensor.index).dtype == held.dtype
    computed = model.graph.ops[-1].outputs[0]
    with pytest.raises(errors.ModelError, match=r"no values to read: it is computed"):
        model.graph.constant(computed)


def test_weights_that_ops_unpack_are_found_where_they_are_stored(edge_models):
    graph = EdgeModel(edge_models["float16"]).graph
    convolution = next(op for op in graph.ops if op.name == "CONV_2D")
    unpacked = convolution.inputs[1]
    stored = graph.stored_constant(unpacked)
    assert not graph.tensors[unpacked].is_constant
    assert graph.tensors[stored].spec.dtype == np.float16
    assert graph.stored_constant(convolution.inputs[0]) is None
    assert graph.stored_constant(-1) is None


def test_bodies_of_control_flow_are_graphs_of_their_own(tmp_path):
    cloud = models_zoo.save_recurrent_net(tmp_path / "cloud")
    converter.convert(cloud, tmp_path / "net.tflite", quantization="none")
    graph = EdgeModel(str(tmp_path / "net.tflite")).graph
    [loop] = [op for op in graph.ops if op.name == "WHILE"]
    condition, body = (graph.subgraphs[i] for i in loop.subgraphs)
    assert [op.name for op in condition.ops] == ["LESS"]
    assert "FULLY_CONNECTED" in [op.name for op in body.ops]
    assert len(body.inputs) == len(loop.inputs)


def _stored(content: bytes, change) -> bytes:
    model = flatbuffer.unpack(content)
    change(model)
    return flatbuffer.pack(model, len(content))


def test_four_bit_constants_are_unpacked(edge_models):
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    dense = next(op for op in EdgeModel(content).graph.ops if op.name == "FULLY_CONNECTED")

    def pack(model):
        tensor = model.subgraphs[0].tensors[dense.inputs[1]]
        tensor.type, tensor.shape = schema.TensorType.INT4, [1, 5]
        model.buffers[tensor.buffer].data = np.array([0x21, 0x8F, 0x07], np.uint8)

    graph = read_graph(_stored(content, pack))
    np.testing.assert_array_equal(graph.constant(dense.inputs[1]), [[1, 2, -1, -8, 7]])
    assert graph.tensors[dense.inputs[1]].type == "INT4"


def test_sparse_constants_are_not_misread(edge_models):
    content = pathlib.Path(edge_models["none"]).read_bytes()
    dense = next(op for op in EdgeModel(content).graph.ops if op.name == "FULLY_CONNECTED")

    def thin_out(model):
        model.subgraphs[0].tensors[dense.inputs[1]].sparsity = schema.SparsityParametersT()

    with pytest.raises(errors.ModelError, match="it is sparse"):
        read_graph(_stored(content, thin_out)).constant(dense.inputs[1])


def test_custom_ops_are_told_by_their_own_name(edge_models):
    def rename(model):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "MyMean"
        model.operatorCodes.append(code)
        model.subgraphs[0].operators[3].opcodeIndex = len(model.operatorCodes) - 1

    op = read_graph(_stored(pathlib.Path(edge_models["none"]).read_bytes(), rename)).ops[3]
    assert (op.name, op.is_custom) == ("MyMean", True)


def test_constants_behind_the_flatbuffer_are_read(edge_models):
    content = pathlib.Path(edge_models["none"]).read_bytes()
    dense = next(op for op in EdgeModel(content).graph.ops if op.name == "FULLY_CONNECTED")
    expected = EdgeModel(content).graph.constant(dense.inputs[1])

    def move(model, offset=2):
        buffer = model.buffers[model.subgraphs[0].tensors[dense.inputs[1]].buffer]
        buffer.data, buffer.offset, buffer.size = None, offset, expected.nbytes

    # The offset is part of the file that it points behind: the size does not depend on it.
    size = len(_stored(content, move))
    moved = _stored(content, lambda model: move(model, size)) + expected.tobytes()
    np.testing.assert_array_equal(read_graph(moved).constant(dense.inputs[1]), expected)
