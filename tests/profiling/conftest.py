"""Edge models to profile."""

import pathlib

import models_zoo
import numpy as np
import pytest


def _convert(functions, module, path: pathlib.Path, configure=None) -> str:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
    if configure:
        configure(converter)
    path.write_bytes(converter.convert())
    return str(path)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("profiling")


@pytest.fixture(scope="session")
def float_net(conv_net, folder) -> str:
    """The float .tflite of the `conv_net`, with an unknown batch size."""
    import tensorflow as tf

    loaded = tf.saved_model.load(conv_net)
    return _convert([loaded.signatures["serving_dense"]], loaded, folder / "float.tflite")


@pytest.fixture(scope="session")
def int8_net(conv_net, folder) -> str:
    """The same with int8 inputs, outputs and kernels."""
    import tensorflow as tf

    def configure(converter):
        images, _ = models_zoo.make_frames(8)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8

    loaded = tf.saved_model.load(conv_net)
    return _convert([loaded.signatures["serving_dense"]], loaded, folder / "int8.tflite", configure)


@pytest.fixture(scope="session")
def loop_net(folder) -> str:
    """`x` float32 [4] goes through a loop of five sines, then is doubled."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([4], tf.float32, name="x")])
    def loop(x):
        _, y = tf.while_loop(lambda i, _: i < 5, lambda i, y: (i + 1, tf.sin(y)), (0, x))
        return {"y": y * 2}

    return _convert([loop.get_concrete_function()], tf.Module(), folder / "loop.tflite")


@pytest.fixture(scope="session")
def heavy_net(folder) -> str:
    """`x` float32 [1, 2000] times a constant matrix of 16 MB."""
    import tensorflow as tf

    weights = np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, 2000], tf.float32, name="x")])
    def dense(x):
        return {"y": tf.matmul(x, weights)}

    return _convert([dense.get_concrete_function()], tf.Module(), folder / "heavy.tflite")


@pytest.fixture
def corrupt(float_net, tmp_path) -> pathlib.Path:
    """A .tflite of which the second half is missing."""
    content = pathlib.Path(float_net).read_bytes()
    path = tmp_path / "corrupt.tflite"
    path.write_bytes(content[: len(content) // 2])
    return path
