"""Models whose layers the tests know."""

import pathlib

import models_zoo
import numpy as np
import pytest


def _convert(saved_model: str, signature: str, path: pathlib.Path, frames=None, **options) -> str:
    """Converts in this process, which takes a moment; with frames to int8, and with options of the converter."""
    import tensorflow as tf

    loaded = tf.saved_model.load(saved_model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures[signature]], loaded)
    if frames is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: iter(frames)
        converter.inference_input_type = converter.inference_output_type = tf.int8
    for name, value in options.items():
        setattr(converter, name, value)
    path.write_bytes(converter.convert())
    return str(path)


@pytest.fixture(scope="session")
def lowercase_net(tmp_path_factory) -> dict[str, str]:
    """`models_zoo.save_lowercase_net`: "cloud" to path, and its op as a "custom" and as a "flex" op of a .tflite."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("lowercase_net")
    cloud = models_zoo.save_lowercase_net(folder / "cloud")
    flex = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.SELECT_TF_OPS, tf.lite.OpsSet.TFLITE_BUILTINS])
    return {
        "cloud": cloud,
        "custom": _convert(cloud, "dense", folder / "custom.tflite", allow_custom_ops=True),
        "flex": _convert(cloud, "dense", folder / "flex.tflite", target_spec=flex),
    }


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Frames that no model was calibrated on, float32 [4, 16, 16, 3]."""
    return models_zoo.make_frames(4, seed=11)[0]


@pytest.fixture(scope="session")
def two_input_feeds() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    return [
        {
            "zebra": rng.normal(size=(1, 5)).astype(np.float32),
            "apple": rng.normal(size=(1, 4)).astype(np.float32),
            "ids": np.array([[i % 4]], np.int32),
        }
        for i in range(30)
    ]


@pytest.fixture(scope="session")
def two_input_net(two_input_feeds, tmp_path_factory) -> dict[str, str]:
    """`models_zoo.save_two_input_net`: "cloud", "none" and "int8" to path."""
    folder = tmp_path_factory.mktemp("two_input_net")
    cloud = models_zoo.save_two_input_net(folder / "cloud")
    return {
        "cloud": cloud,
        "none": _convert(cloud, "dense", folder / "none.tflite"),
        "int8": _convert(cloud, "dense", folder / "int8.tflite", two_input_feeds),
    }


@pytest.fixture(scope="session")
def keras_net(tmp_path_factory) -> dict[str, str]:
    """A Keras model with the inputs and outputs of `conv_net` but other layers: "cloud", "none", "int8" to path."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            tf.keras.Input(models_zoo.IMAGE_SHAPE, name="image"),
            layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.Conv2D(6, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in layer.get_weights()])

    @tf.function(input_signature=[tf.TensorSpec([None, *models_zoo.IMAGE_SHAPE], tf.float32, name="image")])
    def serving_dense(image):
        return {"probabilities": model(image, training=False)}

    module = tf.Module()
    module.model = model
    folder = tmp_path_factory.mktemp("keras_net")
    cloud = str(folder / "cloud")
    tf.saved_model.save(module, cloud, signatures={"serving_dense": serving_dense})
    frames = [{"image": image[None]} for image in models_zoo.make_frames(20, seed=12)[0]]
    return {
        "cloud": cloud,
        "none": _convert(cloud, "serving_dense", folder / "none.tflite"),
        "int8": _convert(cloud, "serving_dense", folder / "int8.tflite", frames),
    }


@pytest.fixture(scope="session")
def two_signatures_net(tmp_path_factory) -> dict[str, str]:
    """Signatures `double` and `triple`, "x" float32 [None, 2] to "y": "cloud" and "none" to path, both with both."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("two_signatures_net")
    cloud = models_zoo.save_two_signatures_net(folder / "cloud")
    path = folder / "none.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(cloud).convert())
    return {"cloud": cloud, "none": str(path)}
