"""Pairs of layers on models whose layers are known, each checked here with numbers of its own."""

import json
import re

import models_zoo
import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models.alignment import Alignment, Status, align
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel

CONV_NET_LAYERS = ["conv/Relu6", "depthwise/Relu6", "pointwise/Relu6", "Mean", "add", "Identity"]
REPRESENTATION = {"QUANTIZE", "DEQUANTIZE"}


def open_models(cloud: str, float_edge: str, edge: str) -> tuple[CloudModel, EdgeModel, EdgeModel]:
    return CloudModel(cloud), EdgeModel(float_edge, preserve_tensors=True), EdgeModel(edge, preserve_tensors=True)


def require_equal_values(alignment, cloud, float_edge, edge, feeds, nrmse: float) -> None:
    """Runs each frame through all models and compares every claimed pair."""
    assert feeds
    for feed in feeds:
        claimed = sorted({layer.cloud_tensor for layer in alignment.layers if layer.cloud_tensor})
        _, values = cloud.infer(feed, claimed)
        float_edge.infer(feed)
        edge.infer(feed)
        for layer in alignment.layers:
            if layer.float_tensor is None:
                continue
            real = float_edge.tensor(layer.float_tensor).copy()
            stored = layer.spec.real(edge.tensor(layer.tensor).copy())
            difference = np.sqrt(np.mean(np.square(stored.astype(np.float64) - real)))
            assert difference <= nrmse * max(np.ptp(real), np.ptp(stored), 1e-9), layer
            if layer.cloud_tensor:
                expected = values[layer.cloud_tensor]
                np.testing.assert_allclose(
                    real.ravel(), expected.ravel(), atol=1e-4 * np.abs(expected).max(), err_msg=str(layer)
                )


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8", "int8_float_io"])
def test_every_layer_of_a_convolutional_net_is_paired_with_the_right_tensor(mode, conv_net, edge_models, images):
    cloud, float_edge, edge = open_models(conv_net, edge_models["none"], edge_models[mode])
    feeds = [{"image": image[None]} for image in images]
    alignment = align(cloud, float_edge, edge, feeds[:1])

    layers = [layer for layer in alignment.layers if layer.status is Status.VERIFIED]
    assert [re.sub(r"^StatefulPartitionedCall/|:0$", "", layer.cloud_tensor) for layer in layers] == CONV_NET_LAYERS
    assert layers[-1].cloud_tensor == cloud.output_tensors()["probabilities"]
    inner = [layer for layer in alignment.layers if layer not in layers]
    assert {layer.status for layer in inner} <= {Status.INTERNAL}
    assert {layer.op for layer in inner} <= REPRESENTATION
    assert alignment.counts()["coverage"] == 1
    assert alignment.float_only == 0
    require_equal_values(alignment, cloud, float_edge, edge, feeds[1:], nrmse=0.1)


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_fused_layers_of_a_keras_model_are_paired_behind_their_activation(mode, keras_net, images):
    models = open_models(keras_net["cloud"], keras_net["none"], keras_net[mode])
    feeds = [{"image": image[None]} for image in images]
    alignment = align(*models, feeds[:1])
    counts = alignment.counts()
    assert counts["verified"] + counts["internal"] == counts["ops"] == len(models[2].graph.ops)
    convolutions = [layer for layer in alignment.layers if "CONV" in layer.op]
    nodes = {node.name: node.type for node in models[0].nodes()}
    assert [nodes[layer.cloud_tensor.removesuffix(":0")] for layer in convolutions] == ["Relu6"] * 3
    require_equal_values(alignment, *models, feeds[1:], nrmse=0.1)


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_branches_and_several_outputs_are_paired(mode, two_input_net, two_input_feeds):
    models = open_models(two_input_net["cloud"], two_input_net["none"], two_input_net[mode])
    alignment = align(*models, two_input_feeds[:2])
    assert alignment.counts()["verified"] == alignment.counts()["ops"]
    claimed = [layer.cloud_tensor for layer in alignment.layers]
    assert len(set(claimed)) == len(claimed)
    edge = models[2]
    paired = {layer.tensor: layer.cloud_tensor for layer in alignment.layers}
    outputs = models[0].output_tensors()
    assert {name: paired[i] for name, i in edge.output_tensors().items()} == outputs
    for layer in alignment.layers:
        op = edge.graph.ops[layer.index]
        computed = [t for t in op.inputs if t in edge.graph.producers]
        assert set(layer.producers) == {edge.graph.producers[t].index for t in computed}
    if mode == "none":
        require_equal_values(alignment, *models, two_input_feeds[2:], nrmse=0.0)


def test_same_names_with_other_weights_are_not_verified(edge_models, images, tmp_path):
    cloud = models_zoo.save_conv_net(tmp_path / "net", seed=5)
    models = open_models(cloud, edge_models["none"], edge_models["int8"])
    layers = align(*models, [{"image": images[:1]}]).layers
    # All but the probabilities: both networks are sure of the class.
    assert [layer.status for layer in layers[:-1]] == [Status.UNVERIFIED] * 5


def test_agreement_on_one_of_two_frames_is_none(conv_net, edge_models, images):
    cloud, float_edge, edge = open_models(conv_net, edge_models["none"], edge_models["none"])
    broken = float_edge.infer
    frames = [{"image": images[:1]}, {"image": images[1:2]}]
    float_edge.infer = lambda feed: broken({"image": images[:1]})  # answers the first frame whatever it is asked
    assert align(cloud, float_edge, edge, frames[:1]).counts()["verified"] == 6
    assert align(cloud, float_edge, edge, frames).counts()["unverified"] == 6


def test_layers_of_another_network_stay_unmatched(conv_net, edge_models, keras_net, images):
    models = open_models(conv_net, edge_models["none"], keras_net["none"])
    alignment = align(*models, [{"image": images[:1]}])
    # The output is paired by the signature, which is all that the two have in common.
    assert [layer.status for layer in alignment.layers[:-1]] == [Status.UNMATCHED] * (len(alignment.layers) - 1)
    assert alignment.layers[-1].cloud_tensor == models[0].output_tensors()["probabilities"]
    assert alignment.float_only == len(models[1].graph.ops) - 1
    assert alignment.counts()["coverage"] == 1 / len(alignment.layers)


def test_alignment_survives_json(conv_net, edge_models, images):
    models = open_models(conv_net, edge_models["none"], edge_models["int8"])
    alignment = align(*models, [{"image": images[:1]}])
    assert Alignment.from_dict(json.loads(json.dumps(alignment.to_dict()))) == alignment


def test_pairs_are_never_confirmed_on_nothing(conv_net, edge_models):
    with pytest.raises(errors.DataError, match="at least one frame"):
        align(*open_models(conv_net, edge_models["none"], edge_models["none"]), [])
