import numpy as np
import pytest

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


def test_only_signatures_of_the_first_subgraph_are_listed(two_signatures_net):
    assert EdgeModel(two_signatures_net["none"], signature="double").graph.signatures == ("double",)
