"""The own error of an op against what the op computes when it is run alone, by hand."""

import pathlib

import numpy as np
import pytest
import tampering

from edge_exray import errors
from edge_exray.models.alignment import align
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.own_error import OwnError


@pytest.fixture
def feeds(eval_examples):
    return [{"image": image[None]} for image in np.load(eval_examples)["image"][:4]]


@pytest.fixture
def made(conv_net, edge_models, feeds):
    def make(mode="int8", change=lambda content: content):
        edge = EdgeModel(change(pathlib.Path(edge_models[mode]).read_bytes()), preserve_tensors=True)
        float_edge = EdgeModel(edge_models["none"], preserve_tensors=True)
        alignment = align(CloudModel(conv_net, "serving_dense"), float_edge, edge, feeds[:1])
        return OwnError(float_edge, edge, alignment), float_edge, edge, alignment

    return make


def test_the_float_models_values_are_untouched(made, feeds):
    own, float_edge, _, alignment = made()
    for feed in feeds:
        outputs, expected = own.model.infer(feed), float_edge.infer(feed)
        np.testing.assert_array_equal(outputs["probabilities"], expected["probabilities"])
        for layer in alignment.layers:
            np.testing.assert_array_equal(own.model.tensor(layer.float_tensor), float_edge.tensor(layer.float_tensor))


def test_an_op_computes_what_it_does_alone_on_float_values(made, feeds):
    """A depthwise convolution from its definition, on the float model's quantised input."""
    own, float_edge, edge, alignment = made()
    layer = next(la for la in alignment.layers if la.op == "DEPTHWISE_CONV_2D")
    before = alignment.layers[layer.index - 1]
    op = edge.graph.ops[layer.index]
    weights, bias = (edge.interpreter.get_tensor(t).astype(np.int64) for t in op.inputs[1:])
    scales = np.array(edge.graph.tensors[op.inputs[1]].spec.quantization.scale)
    for feed in feeds:
        own.model.infer(feed)
        float_edge.infer(feed)
        read = before.spec.quantization
        stored = read.quantize(float_edge.tensor(before.float_tensor).copy(), np.dtype(np.int8)).astype(np.int64)
        padded = np.pad(stored - read.zero_point[0], ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = stored.shape[1:3]
        sums = sum(padded[:, i : i + height, j : j + width] * weights[:, i, j] for i in range(3) for j in range(3))
        real = np.clip((sums + bias) * scales * read.scale[0], 0, 6)
        expected = layer.spec.quantization.quantize(real, np.dtype(np.int8))
        computed = own.model.tensor(own.tensors[layer.index]).copy()
        assert np.abs(computed.astype(int) - expected).max() <= 1


def test_damage_shows_at_its_op_and_at_no_later_one(made, feeds):
    healthy, *_ = made()
    damaged, _, _, alignment = made(change=lambda content: tampering.scale_weights(content, 1, 3.0))
    for feed in feeds:
        healthy.model.infer(feed)
        damaged.model.infer(feed)
        changed = {
            i
            for i, tensor in healthy.tensors.items()
            if not np.array_equal(healthy.model.tensor(tensor), damaged.model.tensor(tensor))
        }
        assert changed == {1}
    assert len(alignment.layers) == len(healthy.tensors)


@pytest.mark.parametrize("mode", ["float16", "dynamic_range", "int8", "int8_float_io"])
def test_every_mode_has_an_own_error_for_every_op(made, feeds, mode):
    own, _, edge, _ = made(mode)
    own.model.infer(feeds[0])
    live = {op.index for op in edge.graph.ops if not edge.graph.is_folded(op)}
    assert set(own.tensors) == live
    assert own.absent == {}


def test_rounding_of_the_inputs_is_near_what_a_healthy_op_errs(made, feeds):
    own, _, _, alignment = made()
    rounding = own.rounding(feeds)
    for layer in alignment.layers:
        values = np.concatenate([_after(own, feed, layer.float_tensor) for feed in feeds])
        computed = np.concatenate([_after(own, feed, own.tensors[layer.index]) for feed in feeds])
        error = np.sqrt(np.mean((layer.spec.real(computed) - values) ** 2))
        noise = np.hypot(layer.spec.quantization.scale[0] / 12**0.5, rounding[layer.index])
        assert 0.3 < error / noise < 3


def _after(own, feed, tensor):
    own.model.infer(feed)
    return own.model.tensor(tensor).copy()


def test_an_op_without_a_twin_counts_in_its_reader(made, conv_net, edge_models, feeds):
    import dataclasses

    _, float_edge, edge, alignment = made(change=lambda content: tampering.scale_weights(content, 1, 3.0))
    layers = [dataclasses.replace(la, float_tensor=None) if la.index == 1 else la for la in alignment.layers]
    own = OwnError(float_edge, edge, dataclasses.replace(alignment, layers=tuple(layers)))
    assert set(own.absent) == {1}
    assert "counts in the ops that read it" in own.absent[1]
    edge.infer(feeds[0])
    own.model.infer(feeds[0])
    layer = layers[2]
    error = layer.spec.real(own.model.tensor(own.tensors[2])) - own.model.tensor(layer.float_tensor)
    assert np.sqrt(np.mean(error**2)) > 10 * layer.spec.quantization.scale[0]


def test_state_in_resources_is_an_obstacle_that_is_named(made, tmp_path):
    import dataclasses

    from edge_exray.models import isolation

    _, _, edge, _ = made()
    op = dataclasses.replace(edge.graph.ops[0], name="VAR_HANDLE")
    graph = dataclasses.replace(edge.graph, ops=(op, *edge.graph.ops[1:]))
    assert isolation.obstacle(edge.content, edge.graph) is None
    assert isolation.obstacle(edge.content, graph) == "the model keeps state in resources"


def test_control_flow_is_one_op(tmp_path):
    """A WHILE whose body is in a subgraph of each model keeps its body."""
    import tensorflow as tf

    class Loop(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(np.eye(4, dtype=np.float32) * 0.9)

        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
        def dense(self, x):
            _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.matmul(y, self.weights)), (0, x))
            return {"y": tf.nn.relu(y)}

    net = Loop()
    tf.saved_model.save(net, str(tmp_path / "cloud"), signatures={"dense": net.dense})
    loaded = tf.saved_model.load(str(tmp_path / "cloud"))
    paths = {}
    for mode in ("none", "dynamic_range"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures["dense"]], loaded)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if mode != "none" else []
        paths[mode] = tmp_path / f"{mode}.tflite"
        paths[mode].write_bytes(converter.convert())
    float_edge, edge = (EdgeModel(path, preserve_tensors=True) for path in paths.values())
    assert "WHILE" in [op.name for op in edge.graph.ops]
    feed = {"x": np.array([[1.0, -2.0, 3.0, 4.0]], np.float32)}
    alignment = align(CloudModel(tmp_path / "cloud", "dense"), float_edge, edge, [feed])
    own = OwnError(float_edge, edge, alignment)
    np.testing.assert_allclose(own.model.infer(feed)["y"], [[0.729, 0, 2.187, 2.916]], rtol=1e-5)
    last = alignment.layers[-1]
    np.testing.assert_allclose(own.model.tensor(own.tensors[last.index]), [[0.729, 0, 2.187, 2.916]], rtol=2e-2)


def test_another_input_is_an_error_that_names_it(made, feeds):
    _, float_edge, edge, alignment = made()
    edge.input_tensors = lambda: {"picture": edge.graph.inputs[0]}
    with pytest.raises(errors.ModelError, match=r"cannot be run one by one: .* has no inputs like its \["):
        OwnError(float_edge, edge, alignment)
