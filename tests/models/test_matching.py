"""Pairs of models whose names tell nothing. What is right is known from the names before they were taken away."""

import pathlib

import numpy as np
import pytest
import tampering

from edge_exray.models.alignment import Alignment, Status, align
from edge_exray.models.interface import pair_interface
from edge_exray.models.matching import Evidence
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel


def aligned(cloud: str, float_edge: str, edge: bytes, feeds) -> Alignment:
    models = CloudModel(cloud), EdgeModel(float_edge, preserve_tensors=True), EdgeModel(edge, preserve_tensors=True)
    interface = pair_interface(models[0], models[2])
    models[2].rename(interface.inputs, interface.outputs)
    return align(*models, feeds)


def pairs(alignment: Alignment) -> list[tuple[int, int | None, str | None]]:
    return [(layer.index, layer.float_tensor, layer.cloud_tensor) for layer in alignment.layers]


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8"])
def test_the_pairs_without_names_are_those_with_names(mode, conv_net, edge_models, images):
    content = pathlib.Path(edge_models[mode]).read_bytes()
    feeds = [{"image": image[None]} for image in images[:2]]
    named = aligned(conv_net, edge_models["none"], content, feeds)
    foreign = aligned(conv_net, edge_models["none"], tampering.rename_tensors(content), feeds)
    assert pairs(foreign) == pairs(named)
    assert foreign.counts() == named.counts()
    if mode != "float16":  # whose tensors newer converters name otherwise
        assert {layer.evidence for layer in named.layers if layer.float_tensor is not None} == {Evidence.NAME}
    by_other_means = [la for la in foreign.layers if la.evidence in (Evidence.CONSTANTS, Evidence.STRUCTURE)]
    assert len(by_other_means) >= 4
    assert all(0.9 < layer.confidence < 1 for layer in by_other_means)


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_branches_without_names_pair(mode, two_input_net, two_input_feeds):
    content = pathlib.Path(two_input_net[mode]).read_bytes()
    arguments = two_input_net["cloud"], two_input_net["none"]
    named = aligned(*arguments, content, two_input_feeds[:2])
    assert pairs(aligned(*arguments, tampering.rename_tensors(content), two_input_feeds[:2])) == pairs(named)


def test_activations_that_only_one_side_fuses_pair_behind_the_activation(conv_net, edge_models, images):
    feeds = [{"image": image[None]} for image in images[:2]]
    content = pathlib.Path(edge_models["none"]).read_bytes()
    fused = aligned(conv_net, edge_models["none"], content, feeds)
    foreign = aligned(
        conv_net, edge_models["none"], tampering.rename_tensors(tampering.unfuse_activations(content)), feeds
    )
    assert [layer.op for layer in foreign.layers].count("RELU6") == 3
    for layer in foreign.layers:
        before_activation = layer.index + 1 < len(foreign.layers) and foreign.layers[layer.index + 1].op == "RELU6"
        assert layer.status is (Status.INTERNAL if before_activation else Status.VERIFIED)
    found = [layer.cloud_tensor for layer in foreign.layers if layer.status is Status.VERIFIED]
    assert found == [layer.cloud_tensor for layer in fused.layers]
    assert foreign.float_only == 0
    # The constants are compared all the same.
    assert [c.difference.equal for c in foreign.constants] == [True] * len(fused.constants)


@pytest.mark.parametrize("mode", ["none", "int8"])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_a_damaged_layer_keeps_its_pair_and_loses_confidence(mode, op, conv_net, edge_models, images):
    content = pathlib.Path(edge_models[mode]).read_bytes()
    feeds = [{"image": image[None]} for image in images]
    healthy = aligned(conv_net, edge_models["none"], content, feeds)
    index = next(layer.index for layer in healthy.layers if layer.op == op)
    damaged = tampering.rename_tensors(tampering.scale_weights(content, index, -1.0))
    found = aligned(conv_net, edge_models["none"], damaged, feeds)
    assert pairs(found) == pairs(healthy)
    assert found.layers[index].evidence is Evidence.STRUCTURE
    assert found.layers[index].confidence < 0.8


def test_another_network_is_not_paired(conv_net, edge_models, keras_net, images):
    foreign = tampering.rename_tensors(pathlib.Path(keras_net["none"]).read_bytes())
    found = aligned(conv_net, edge_models["none"], foreign, [{"image": images[:1]}])
    convolutions = [layer for layer in found.layers if "CONV" in layer.op]
    assert [layer.float_tensor for layer in convolutions] == [None] * 3


def test_values_alone_never_pair_two_tensors_that_are_alike():
    from edge_exray.models.matching import _outstanding

    assert _outstanding({(0, 0): 0.99, (0, 1): 0.5, (1, 1): 0.98}) == [(0, 0), (1, 1)]
    assert _outstanding({(0, 0): 0.99, (0, 1): 0.98}) == []
    assert _outstanding({(0, 0): np.nan}) == []
