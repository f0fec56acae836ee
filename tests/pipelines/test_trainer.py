import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from edge_exray.pipelines import tiles, trainer


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Patterns of the splits as Trainer gives them: gzipped TFRecords."""
    root = tmp_path_factory.mktemp("examples")
    tiles.write_tfrecords(root / "plain", tiles_per_class=8)
    for split in tiles.SPLITS:
        (root / split).mkdir()
        with tf.io.TFRecordWriter(str(root / split / "part-0.gz"), "GZIP") as writer:
            for record in tf.data.TFRecordDataset(str(root / "plain" / split / "tiles.tfrecord")):
                writer.write(record.numpy())
    return {split: str(root / split / "*") for split in tiles.SPLITS}


def train(examples, directory):
    trainer.run_fn(
        FnArgs(
            train_files=[examples["train"]],
            eval_files=[examples["eval"]],
            train_steps=80,
            eval_steps=None,
            serving_model_dir=str(directory),
        )
    )
    return tf.saved_model.load(str(directory))


@pytest.fixture(scope="module")
def exported(examples, tmp_path_factory):
    return train(examples, tmp_path_factory.mktemp("exported"))


def test_signatures(exported):
    dense = exported.signatures["serving_dense"]
    assert {k: (v.shape.as_list(), v.dtype) for k, v in dense.structured_input_signature[1].items()} == {
        "image": ([None, 32, 32, 3], tf.float32)
    }
    assert {k: v.shape.as_list() for k, v in dense.structured_outputs.items()} == {"probabilities": [None, 9]}
    serialized = exported.signatures["serving_default"]
    assert {k: v.dtype for k, v in serialized.structured_input_signature[1].items()} == {"examples": tf.string}
    assert set(serialized.structured_outputs) == {"probabilities"}


def test_both_signatures_agree_on_the_same_tiles(exported, examples):
    records = list(tf.data.TFRecordDataset(tf.io.gfile.glob(examples["eval"]), "GZIP").as_numpy_iterator())
    images = np.stack([t.pixels for t in tiles.make_tiles("eval", tiles_per_class=8)]).astype(np.float32) / 127.5 - 1
    from_examples = exported.signatures["serving_default"](examples=tf.constant(records))["probabilities"]
    from_images = exported.signatures["serving_dense"](image=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(from_examples, from_images, atol=1e-5)
    np.testing.assert_allclose(np.sum(from_images, axis=1), 1, atol=1e-5)
    assert np.ptp(from_images, axis=0).max() > 1e-3


def test_training_learns_and_repeats(exported, examples, tmp_path):
    taken = tiles.make_tiles("train", tiles_per_class=8)
    images = tf.constant(np.stack([t.pixels for t in taken]).astype(np.float32) / 127.5 - 1)
    probabilities = exported.signatures["serving_dense"](image=images)["probabilities"]
    assert np.mean(np.argmax(probabilities, axis=1) == [t.label for t in taken]) > 0.5
    again = train(examples, tmp_path).signatures["serving_dense"](image=images)["probabilities"]
    np.testing.assert_allclose(again, probabilities, atol=1e-5)


def test_the_model_looks_like_a_mobilenet():
    model = trainer.build_model()
    kinds = {type(layer).__name__ for layer in model.layers}
    assert {"Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU", "GlobalAveragePooling2D", "Dense"} <= kinds
    assert model.count_params() == pytest.approx(25_000, rel=0.05)
