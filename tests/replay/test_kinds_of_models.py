"""Replays of models that are no plain image classifier: each op paired, each leg right, nobody accused."""

import models_zoo
import numpy as np
import pytest

from edge_exray import errors
from edge_exray.conversion.converter import convert
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.report import Report
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.sampling import EVERY, Sampling
from edge_exray.replay.tally import TallyOptions

RNG = np.random.default_rng(3)
TWO_INPUTS = [
    {
        "zebra": RNG.normal(size=5).astype(np.float32),
        "apple": RNG.normal(size=4).astype(np.float32),
        "ids": np.array([i % 4], np.int32),
    }
    for i in range(20)
]
VECTORS = [{"x": RNG.normal(size=4).astype(np.float32)} for _ in range(12)]
SIZES = [{"x": RNG.uniform(-1, 1, (6 + i % 3, 9 - i % 4, 3)).astype(np.float32)} for i in range(12)]
IMAGES = [{"image": image} for image in models_zoo.make_frames(20, seed=5)[0]]
TEXTS = [{"text": np.array("ab"[i % 2]), "x": RNG.normal(size=3).astype(np.float32)} for i in range(2)]

# What these are about is layers; no limit on the answers could be shown to be kept on so few frames.
FEW_FRAMES = ValidationSpec(min_frames=1, max_label_flip_rate=1, max_accuracy_drop=1)


@pytest.fixture
def validated(tmp_path):
    """Saves, converts and replays a model; returns its report and the names of its ops."""
    import tensorflow as tf

    def convert(loaded, signature: str, name: str, **options) -> str:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures[signature]], loaded)
        for option, value in options.items():
            setattr(converter, option, value)
        path = tmp_path / name
        path.write_bytes(converter.convert())
        return str(path)

    def run(save, frames, mode: str, signature: str = "dense") -> tuple[Report, list[str]]:
        cloud = save(tmp_path / "cloud")
        loaded = tf.saved_model.load(cloud)
        quantized = {"optimizations": [tf.lite.Optimize.DEFAULT]}
        if mode != "dynamic_range":
            ops = {
                "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            }
            quantized["target_spec"] = tf.lite.TargetSpec(supported_ops=[ops[mode], tf.lite.OpsSet.TFLITE_BUILTINS])
            quantized["representative_dataset"] = lambda: iter([{n: v[None] for n, v in f.items()} for f in frames])
        paths = ModelPaths(
            cloud,
            convert(loaded, signature, "none.tflite"),
            convert(loaded, signature, "edge.tflite", **quantized),
            signature,
        )
        options = TallyOptions(sampling=Sampling(EVERY, kernels=EVERY))
        report = diagnose(gather(replay(paths, frames, tmp_path / "out", options=options), FEW_FRAMES))
        return report, [layer["op"] for layer in report.layers]

    return run


def save_branching_net(path) -> str:
    """Signature `dense`, "x" float32 [1, 4] to "y": one of two products, by the sum of x."""
    import tensorflow as tf

    class BranchingNet(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(0)
            self.positive = tf.Variable(rng.normal(size=(4, 4)).astype(np.float32))
            self.negative = tf.Variable(rng.normal(size=(4, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
        def dense(self, x):
            product = tf.cond(
                tf.reduce_sum(x) > 0, lambda: tf.matmul(x, self.positive), lambda: tf.matmul(x, self.negative)
            )
            return {"y": tf.nn.relu(product) + x}

    net = BranchingNet()
    tf.saved_model.save(net, str(path), signatures={"dense": net.dense})
    return str(path)


def save_any_size_net(path) -> str:
    """Signature `dense`, "x" float32 [None, None, None, 3] to "map" of the same size and "y" float32 [None, 4]."""
    import tensorflow as tf

    class AnySizeNet(tf.Module):
        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(0)
            self.kernel = tf.Variable(rng.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32))
            self.head = tf.Variable(rng.normal(0, 0.3, (8, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="x")])
        def dense(self, x):
            found = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "SAME"))
            return {"map": found, "y": tf.matmul(tf.reduce_mean(found, (1, 2)), self.head)}

    net = AnySizeNet()
    tf.saved_model.save(net, str(path), signatures={"dense": net.dense})
    return str(path)


def save_text_net(path) -> str:
    """Signature `dense`, "text" string [None] and "x" float32 [None, 3] to "y": twice x, and 1 more where text is a."""
    import tensorflow as tf

    class TextNet(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, name="text"),
                tf.TensorSpec([None, 3], tf.float32, name="x"),
            ]
        )
        def dense(self, text, x):
            return {"y": 2 * x + tf.cast(tf.equal(text, "a"), tf.float32)[:, tf.newaxis]}

    net = TextNet()
    tf.saved_model.save(net, str(path), signatures={"dense": net.dense})
    return str(path)


@pytest.mark.parametrize(
    ("save", "frames", "mode", "op"),
    [
        (models_zoo.save_two_input_net, TWO_INPUTS, "int8", "GATHER"),
        (models_zoo.save_recurrent_net, VECTORS, "dynamic_range", "WHILE"),
        (save_branching_net, VECTORS, "dynamic_range", "IF"),
        (save_any_size_net, SIZES, "int8", "MEAN"),
    ],
    ids=["two_inputs", "while", "if", "any_size"],
)
def test_every_op_is_compared_and_nobody_accused(validated, save, frames, mode, op):
    report, ops = validated(save, frames, mode)
    assert report, report.summary
    assert ops.count(op) == 1
    assert report.alignment["coverage"] == 1.0
    assert report.frames["count"] == report.frames["layer_frames"] == len(frames)
    compared = {check.name: check for check in report.checks}["kernel_drift"].evidence
    assert compared["compared"] == 2 * len(ops)
    assert compared["died"] == []


def test_activations_of_16_bits_are_compared_and_nobody_accused(validated):
    """Fine activations leave the rounding of the weights as most of what healthy ops err."""
    report, ops = validated(models_zoo.save_conv_net, IMAGES, "int16x8", "serving_dense")
    assert report, report.summary
    assert [op for op in ops if "QUANTIZE" not in op] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"
    ]  # fmt: skip
    assert {layer["dtype"] for layer in report.layers if "QUANTIZE" not in layer["op"]} == {"int16"}
    own = next(check for check in report.checks if check.name == "own_error")
    assert own.evidence["worst_ratio"] < 3


def test_text_that_reaches_the_device_is_refused_by_name(validated):
    with pytest.raises(errors.ModelError, match=r"edge.tflite takes or gives text, \['text'\], which has no drift"):
        validated(save_text_net, TEXTS, "dynamic_range")


def test_weights_of_4_bits_are_compared_and_nobody_accused(tmp_path):
    import tensorflow as tf
    from ai_edge_quantizer import qtyping, quantizer

    cloud = models_zoo.save_wide_net(tmp_path / "cloud")
    loaded = tf.saved_model.load(cloud)
    float_edge, edge = tmp_path / "none.tflite", tmp_path / "edge.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures["wide"]], loaded)
    float_edge.write_bytes(converter.convert())
    recipe = quantizer.Quantizer(str(float_edge))
    recipe.add_dynamic_config(".*", qtyping.TFLOperationName.FULLY_CONNECTED, num_bits=4)
    edge.write_bytes(bytes(recipe.quantize().quantized_model))
    paths = ModelPaths(cloud, str(float_edge), str(edge))
    report = diagnose(gather(replay(paths, IMAGES, tmp_path / "out"), FEW_FRAMES))
    assert report, report.summary
    assert report.alignment["coverage"] == 1.0
    results = {check.name: check.evidence for check in report.checks}
    assert results["constants_parity"]["references"] == {"cloud": 2, "float_edge": 0, "none": 0}
    # 8 bits would make both figures a tenth of that.
    assert results["quantization_drift"]["worst_nrmse"] > 0.03
    assert results["own_error"]["worst_ratio"] < 3


@pytest.mark.parametrize("signature", ["double", "triple"])
def test_each_signature_of_a_file_with_several_is_replayed(signature, tmp_path):
    import tensorflow as tf

    cloud = models_zoo.save_two_signatures_net(tmp_path / "cloud")
    edge = tmp_path / "both.tflite"
    edge.write_bytes(tf.lite.TFLiteConverter.from_saved_model(cloud).convert())
    convert(cloud, tmp_path / "one.tflite", quantization="none", signature=signature)
    paths = ModelPaths(cloud, str(tmp_path / "one.tflite"), str(edge), signature)
    result = replay(paths, [{"x": frame["x"][:2]} for frame in VECTORS], tmp_path / "out")
    report = diagnose(gather(result, FEW_FRAMES))
    assert report, report.summary
    assert result.summary["own_error"]["obstacle"] is None
    assert result.alignment.summary()["coverage"] == 1
