import gzip
import json

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.frames.examples import read_examples
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.alignment import Status
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.result import ReplayResult
from edge_exray.replay.tally import TallyOptions


@pytest.fixture
def paths(conv_net, edge_models):
    return ModelPaths(conv_net, edge_models["none"], edge_models["int8"])


@pytest.fixture(scope="module")
def stored(conv_net, edge_models, eval_examples, tmp_path_factory) -> ReplayResult:
    functions = UserFunctions(edge_inputs_fn=lambda e: {"image": e["image"][..., ::-1]})
    return replay(
        ModelPaths(conv_net, edge_models["none"], edge_models["int8"]),
        read_examples(eval_examples),
        tmp_path_factory.mktemp("replay") / "result",
        functions=functions,
        options=TallyOptions(slice_keys=("label",)),
    )


def test_predictions_are_those_of_the_models_themselves(stored, conv_net, edge_models, eval_examples):
    import tensorflow as tf

    images = np.load(eval_examples)["image"]
    signature = tf.saved_model.load(conv_net).signatures["serving_dense"]
    cloud = signature(image=tf.constant(images))["probabilities"].numpy()
    interpreter = tf.lite.Interpreter(edge_models["int8"])
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for i, prediction in enumerate(stored.predictions()):
        np.testing.assert_allclose(prediction["cloud/probabilities"], cloud[i], atol=1e-6)
        scale, zero = entry["quantization"]
        bgr = np.clip(np.round(images[i : i + 1, ..., ::-1] / scale + zero), -128, 127).astype(np.int8)
        interpreter.set_tensor(entry["index"], bgr)
        interpreter.invoke()
        scale, zero = exit_["quantization"]
        edge = scale * (interpreter.get_tensor(exit_["index"])[0].astype(np.float32) - zero)
        np.testing.assert_allclose(prediction["edge/probabilities"], edge, atol=1.01 * scale)
        assert prediction["label"].item() == i % 4


def test_every_frame_is_in_every_statistic(stored):
    for layer in stored.alignment.layers:
        assert layer.status is Status.VERIFIED
        for leg in ("conversion", "quantization"):
            assert stored.statistic(leg, "layer", str(layer.index)).frames == 140
    assert stored.statistic("preprocessing", "output", "probabilities").frames == 140


def test_slices_add_up_to_all_frames(stored):
    whole = stored.statistic("quantization", "layer", "0")
    parts = [stored.statistic("quantization", "layer", "0", f"label:{k}") for k in range(4)]
    assert [p.frames for p in parts] == [35] * 4
    assert sum(p.error_square_sum for p in parts) == pytest.approx(whole.error_square_sum, rel=1e-12)


def test_layer_drift_equals_a_direct_computation(stored, edge_models, eval_examples):
    """The drift of one convolution, from the models' tensors by hand."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    layer = next(la for la in stored.alignment.layers if la.op == "DEPTHWISE_CONV_2D")
    values = {"none": [], "int8": []}
    for mode, collected in values.items():
        interpreter = Interpreter(
            edge_models[mode],
            experimental_op_resolver_type=OpResolverType.BUILTIN,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        entry = interpreter.get_input_details()[0]
        index = layer.float_tensor if mode == "none" else layer.tensor
        scale, zero = entry["quantization"]
        for image in np.load(eval_examples)["image"]:
            fed = image if mode == "none" else np.clip(np.round(image / scale + zero), -128, 127).astype(np.int8)
            interpreter.set_tensor(entry["index"], fed[None])
            interpreter.invoke()
            collected.append(interpreter.get_tensor(index).astype(np.float64))
    scale, zero = layer.spec.quantization.scale[0], layer.spec.quantization.zero_point[0]
    r, e = np.stack(values["none"]), scale * (np.stack(values["int8"]) - zero)
    expected = np.sqrt(np.mean((e - r) ** 2)) / max(np.ptp(r), np.ptp(e))
    assert stored.statistic("quantization", "layer", str(layer.index)).nrmse == pytest.approx(expected, rel=1e-5)


def test_a_line_for_every_frame_tells_its_drift(stored):
    files = sorted((stored.directory / "frames").glob("*.gz"))
    rows = [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert len({row["id"] for row in rows}) == 140
    assert all(row["nrmse"]["probabilities"] >= 0 for row in rows)


def test_a_float_edge_model_has_no_quantization_leg(conv_net, edge_models, eval_examples, tmp_path):
    paths = ModelPaths(conv_net, edge_models["none"], edge_models["none"])
    result = replay(paths, read_examples(eval_examples), tmp_path / "out")
    assert result.statistic("quantization", "layer", "0") is None
    assert result.summary["legs"]["quantization"].startswith("not run")
    assert result.statistic("conversion", "layer", "0").nrmse < 1e-6


def test_no_examples_is_an_error_and_leaves_nothing(paths, tmp_path):
    with pytest.raises(errors.DataError, match="no examples to replay"):
        replay(paths, [], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_function_leaves_the_earlier_result(paths, eval_examples, tmp_path):
    replay(paths, read_examples(eval_examples), tmp_path / "out")
    calls = []

    def fails_late(example):
        calls.append(1)
        if len(calls) > 10:
            raise KeyError("image/encoded")
        return {"image": example["image"]}

    with pytest.raises(errors.ModuleError, match=r"edge_inputs_fn .*KeyError.*image/encoded"):
        replay(
            paths, read_examples(eval_examples), tmp_path / "out", functions=UserFunctions(edge_inputs_fn=fails_late)
        )
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert len(list(ReplayResult.open(tmp_path / "out").predictions())) == 140


def test_other_interfaces_are_refused(conv_net, edge_models, tmp_path):
    import models_zoo

    from edge_exray.conversion.converter import convert

    other = tmp_path / "other.tflite"
    convert(models_zoo.save_two_input_net(tmp_path / "net"), other, quantization="none")
    with pytest.raises(errors.ModelError, match=r"inputs are paired by name.*has image .*has apple .*ids .*zebra "):
        replay(ModelPaths(conv_net, edge_models["none"], str(other)), [{}], tmp_path / "out")


def test_an_incomplete_result_does_not_open(stored, tmp_path):
    (tmp_path / "replay.json").write_text('{"format_version": 99}')
    with pytest.raises(errors.ArtifactError, match=r"format 99.*replay again"):
        ReplayResult.open(tmp_path)
    with pytest.raises(errors.ArtifactError, match="no complete replay"):
        ReplayResult.open(tmp_path / "missing")
