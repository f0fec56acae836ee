"""Signatures that parse serialized tf.Examples, entered behind the parsing."""

import models_zoo
import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models import saved_model


def test_features_that_are_used_become_the_inputs(tmp_path):
    import tensorflow as tf

    path = models_zoo.save_parsing_net(tmp_path / "net")
    rng = np.random.default_rng(0)
    feed = {name: rng.normal(size=(4, width)).astype(np.float32) for name, width in (("wide", 5), ("narrow", 2))}
    serialized = []
    for i in range(4):
        lists = {name: tf.train.Feature(float_list=tf.train.FloatList(value=v[i])) for name, v in feed.items()}
        serialized.append(tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString())

    cloud = saved_model.CloudModel(path)
    wanted = saved_model.load(path).signatures["serving_default"](examples=tf.constant(serialized))

    assert cloud.signature == "serving_default"
    assert {name: spec.shape for name, spec in cloud.inputs.items()} == {"wide": (-1, 5), "narrow": (-1, 2)}
    got, _ = cloud.infer(feed)
    assert set(got) == {"sum", "product"}
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        (
            "string",
            "computes with the string feature 'text' .StringToHashBucketFast at .*: strings have no TFLite kernels",
        ),
        ("sparse", "cannot be entered behind the parsing: SparseToDense at .* reads .*ParseExampleV2:"),
        ("size", "cannot be entered behind the parsing: Size at .* reads? examples:0"),
        ("table", "does not freeze"),
    ],
)
def test_what_cannot_be_entered_names_why_and_the_signature_to_add(defect, words, tmp_path):
    path = models_zoo.save_parsing_net(tmp_path / "net", defect=defect)

    with pytest.raises(errors.ModelError, match=words) as caught:
        saved_model.CloudModel(path)

    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 5
    for spec in ("'wide': tf.TensorSpec([None, 5], tf.float32", "'narrow': tf.TensorSpec([None, 2], tf.float32"):
        assert spec in lines[0]


def test_a_dense_signature_comes_first(conv_net):
    loaded = saved_model.load(conv_net)
    name, function = saved_model.select_function(loaded, conv_net)
    assert name == "serving_dense"
    assert function is loaded.signatures[name]
    with pytest.raises(errors.ModelError, match="use 'serving_dense'"):
        saved_model.select_function(loaded, conv_net, "serving_default")
