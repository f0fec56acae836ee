"""Edge models to profile."""

import pathlib

import numpy as np
import pytest


def _convert(functions, module, path: pathlib.Path) -> str:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
    path.write_bytes(converter.convert())
    return str(path)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("profiling")


@pytest.fixture(scope="session")
def float_net(edge_models) -> str:
    """`conv_net` in float, with an unknown batch size."""
    return edge_models["none"]


@pytest.fixture(scope="session")
def int8_net(edge_models) -> str:
    """`conv_net` with int8 inputs, outputs and kernels."""
    return edge_models["int8"]


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
