"""Networks that the benchmarks measure: random weights, settled batch norm, one dense signature each.

Random weights make a network as fast and as large as a trained one. They do not make its activations alike: with the
moving statistics of a fresh batch norm the values of deep layers vanish or explode, and quantisation has nothing to
hold on to. Therefore offsets and scales are random too, and batch norm is run until its statistics have settled.

    python -m benchmarks.zoo [--root DIR] [NAME ...]
"""

import argparse
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

ROOT = pathlib.Path("build/zoo")
"""Where benchmarks keep the networks unless they are told otherwise."""

SIGNATURE = "serving_default"
OUTPUT = "outputs"
CALIBRATION_FRAMES = 32

_WORDS = 1000
_LENGTH = 40
_CLASSES = 5


@dataclasses.dataclass(frozen=True)
class Network:
    """How to make one network.

    Attributes:
        build: Returns the Keras model, not yet randomised.
        input: Name of its input in the signature, `"image"` or `"tokens"`.
        shape: Shape of the input without the batch axis.
        limits: Smallest and largest value of an image; of tokens, the smallest and the one after the largest.
        batch: Batch size in the signature: recurrent and attention layers only convert with a fixed one.
        quantization: Mode of its quantised edge model; TensorFlow's calibrator crashes on loops, int8 needs it.
    """

    build: Callable[[], Any]
    input: str
    shape: tuple[int, ...]
    limits: tuple[float, float]
    batch: int | None = None
    quantization: str = "int8"


def frames(name: str, count: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Returns the input of a network, [count, ...]: smooth random float32 images, or random int32 tokens."""
    network = NETWORKS[name]
    rng = np.random.default_rng(seed)
    low, high = network.limits
    if network.input == "tokens":
        return {"tokens": rng.integers(int(low), int(high), (count, *network.shape), dtype=np.int32)}
    height, width, channels = network.shape
    coarse = rng.uniform(0, 1, (count, height // 8 + 1, width // 8 + 1, channels)).astype(np.float32)
    # Bilinear interpolation of a coarse grid, by hand so that frames need no TensorFlow.
    for axis, size in ((1, height), (2, width)):
        left, weight = np.divmod(np.arange(size, dtype=np.float32) / 8, 1)
        index = left.astype(int)
        weight = np.expand_dims(weight, tuple(i for i in range(4) if i != axis))
        coarse = coarse.take(index, axis) * (1 - weight) + coarse.take(index + 1, axis) * weight
    image = np.clip(coarse + rng.normal(0, 0.05, coarse.shape).astype(np.float32), 0, 1)
    return {"image": (low + (high - low) * image).astype(np.float32)}


def saved_model(name: str, root: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the SavedModel of a network below `root`; it is made when it is not there yet."""
    path = pathlib.Path(root) / name
    if not path.exists():
        _appear(path, lambda made: _export(name, made))
    return path


def tflite(name: str, root: str | os.PathLike[str], quantization: str) -> pathlib.Path:
    """Returns the .tflite of a network in a mode of `edge_exray.conversion`; made and kept as by `saved_model`."""
    from edge_exray.conversion.converter import convert

    path = pathlib.Path(root) / f"{name}.{quantization}.tflite"
    if not path.exists():
        source = saved_model(name, root)
        [(key, values)] = frames(name, CALIBRATION_FRAMES, seed=2).items()
        calibration = [{key: value[None]} for value in values]
        _appear(path, lambda made: convert(source, made, quantization=quantization, calibration=calibration))
    return path


def _appear(path: pathlib.Path, make: Callable[[pathlib.Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = pathlib.Path(folder) / path.name
        make(made)
        os.replace(made, path)


def _export(name: str, path: pathlib.Path) -> None:
    import keras
    import tensorflow as tf

    network = NETWORKS[name]
    keras.utils.set_random_seed(0)
    model = network.build()
    _randomise(model)
    _settle(model, name)
    dtype = tf.int32 if network.input == "tokens" else tf.float32
    spec = tf.TensorSpec((network.batch, *network.shape), dtype, name=network.input)

    @tf.function(input_signature=[spec])
    def serve(x: Any) -> dict[str, Any]:
        return {OUTPUT: model(x, training=False)}

    # A plain module, not model.export(): the one way to name inputs that is the same in all versions of Keras 3.
    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, os.fspath(path), signatures={SIGNATURE: serve})


def _randomise(model: Any) -> None:
    rng = np.random.default_rng(7)
    for variable in model.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ("bias", "beta"):
            variable.assign(variable + rng.normal(0, 0.2, variable.shape).astype(np.float32))
        elif kind == "gamma":
            variable.assign(rng.uniform(0.6, 1.4, variable.shape).astype(np.float32))


def _settle(model: Any, name: str) -> None:
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.5
    for step in range(6):
        model(frames(name, 4, seed=100 + step)["image"], training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _mobilenet_v2(size: int) -> Any:
    import keras

    return keras.applications.MobileNetV2((size, size, 3), weights=None)


def _mobilenet_v3_small() -> Any:
    import keras

    return keras.applications.MobileNetV3Small((224, 224, 3), weights=None, include_preprocessing=False)


def _efficientnet_b0() -> Any:
    import keras

    return keras.applications.EfficientNetB0(weights=None)


def _resnet50() -> Any:
    import keras

    return keras.applications.ResNet50(weights=None)


def _bigru() -> Any:
    import keras
    from keras import layers

    tokens = keras.Input((_LENGTH,), dtype="int32", name="tokens")
    x = layers.Embedding(_WORDS, 64)(tokens)
    x = layers.Bidirectional(layers.GRU(48, return_sequences=True))(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(tokens, layers.Dense(_CLASSES, activation="softmax")(x))


def _transformer() -> Any:
    import keras
    from keras import layers

    class Position(layers.Layer):
        """Adds a learned vector to each position."""

        def build(self, shape: tuple[int | None, ...]) -> None:
            self.position = self.add_weight(name="position", shape=shape[1:], initializer="random_normal")

        def call(self, x: Any) -> Any:
            return x + self.position

    width = 64
    tokens = keras.Input((_LENGTH,), dtype="int32", name="tokens")
    x = Position()(layers.Embedding(_WORDS, width)(tokens))
    for _ in range(2):
        x = layers.LayerNormalization(epsilon=1e-5)(x + layers.MultiHeadAttention(4, width // 4)(x, x))
        y = layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(x))
        x = layers.LayerNormalization(epsilon=1e-5)(x + y)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(_CLASSES, activation="softmax")(x))


NETWORKS = {
    "mobilenet_v2_224": Network(lambda: _mobilenet_v2(224), "image", (224, 224, 3), (-1, 1)),
    "mobilenet_v2_96": Network(lambda: _mobilenet_v2(96), "image", (96, 96, 3), (-1, 1)),
    "mobilenet_v3_small": Network(_mobilenet_v3_small, "image", (224, 224, 3), (-1, 1)),
    "efficientnet_b0": Network(_efficientnet_b0, "image", (224, 224, 3), (0, 255)),
    "resnet50": Network(_resnet50, "image", (224, 224, 3), (-120, 120)),
    "bigru": Network(_bigru, "tokens", (_LENGTH,), (0, _WORDS), 1, "dynamic_range"),
    "transformer": Network(_transformer, "tokens", (_LENGTH,), (0, _WORDS), 1),
}


def main() -> None:
    """Makes networks from the command line: of each the SavedModel, the float and the quantised .tflite."""
    parser = argparse.ArgumentParser(description="Make the networks that the benchmarks measure.")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="folder that keeps the models")
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME", help=", ".join(NETWORKS))
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NETWORKS)
    if unknown:
        parser.error(f"unknown networks {sorted(unknown)}: choose from {', '.join(NETWORKS)}")
    for name in arguments.names:
        made = [saved_model(name, arguments.root)]
        made += [tflite(name, arguments.root, quantization) for quantization in ("none", NETWORKS[name].quantization)]
        print(*made, flush=True)


if __name__ == "__main__":
    main()
