"""Inputs and outputs of models whose names are another converter's."""

import models_zoo
import numpy as np
import pytest
import tampering

from edge_exray import errors
from edge_exray.conversion.converter import convert
from edge_exray.models.interface import pair_interface
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel


@pytest.fixture(scope="module")
def difference_net(tmp_path_factory) -> tuple[str, bytes]:
    folder = tmp_path_factory.mktemp("difference")
    cloud = models_zoo.save_difference_net(folder / "cloud")
    convert(cloud, folder / "edge.tflite", quantization="none")
    return cloud, (folder / "edge.tflite").read_bytes()


def require_same_answers(cloud: CloudModel, edge: EdgeModel, feed) -> None:
    expected, _ = cloud.infer(feed)
    answers = edge.infer(feed)
    assert set(answers) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, atol=1e-5)


def test_equal_names_pair(conv_net, edge_models):
    found = pair_interface(CloudModel(conv_net), EdgeModel(edge_models["int8"]))
    assert found.inputs == {"image": "image"}
    assert found.outputs == {"probabilities": "probabilities"}
    assert found.evidence == "name"


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_one_input_and_output_pair_by_their_shape(conv_net, edge_models, mode):
    with open(edge_models[mode], "rb") as file:
        edge = EdgeModel(tampering.rename_tensors(file.read()))
    found = pair_interface(CloudModel(conv_net), edge)
    assert found.inputs == {"image": next(iter(edge.inputs))}
    assert found.outputs == {"probabilities": next(iter(edge.outputs))}
    assert found.evidence == "shape"


def test_equal_shapes_are_told_apart_by_values(difference_net):
    cloud, edge = CloudModel(difference_net[0]), EdgeModel(tampering.rename_tensors(difference_net[1]))
    found = pair_interface(cloud, edge)
    assert found.evidence == "values"
    edge.rename(found.inputs, found.outputs)
    rng = np.random.default_rng(5)
    require_same_answers(cloud, edge, {n: rng.normal(size=(1, 6)).astype(np.float32) for n in ("plus", "minus")})


def test_two_inputs_of_other_shapes_and_outputs_of_one(two_input_net, two_input_feeds):
    with open(two_input_net["none"], "rb") as file:
        edge = EdgeModel(tampering.rename_tensors(file.read()))
    cloud = CloudModel(two_input_net["cloud"])
    found = pair_interface(cloud, edge)
    edge.rename(found.inputs, found.outputs)
    for feed in two_input_feeds[:3]:
        require_same_answers(cloud, edge, feed)


def test_what_values_do_not_tell_apart_is_refused(tmp_path):
    cloud = models_zoo.save_difference_net(tmp_path / "cloud", symmetric=True)
    convert(cloud, tmp_path / "edge.tflite", quantization="none")
    edge = EdgeModel(tampering.rename_tensors((tmp_path / "edge.tflite").read_bytes()))
    with pytest.raises(errors.ModelError, match=r"do not tell which is which.*minus float32.*Give the .tflite a sign"):
        pair_interface(CloudModel(cloud), edge)


def test_equal_names_of_other_shapes_are_refused(conv_net, two_input_net, tmp_path):
    import tensorflow as tf

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
        def dense(self, image):
            return {"probabilities": tf.reduce_mean(image, (1, 2))}

    other = Other()
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"dense": other.dense})
    convert(tmp_path / "other", tmp_path / "other.tflite", quantization="none")
    with pytest.raises(errors.ModelError, match=r"input image does not fit.*16, 16, 3.*8, 8, 3"):
        pair_interface(CloudModel(conv_net), EdgeModel(str(tmp_path / "other.tflite")))
    with pytest.raises(errors.ModelError, match="these do not pair"):
        pair_interface(CloudModel(conv_net), EdgeModel(two_input_net["none"]))
