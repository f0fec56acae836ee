"""The check that tells another checkpoint from quantisation."""

import pathlib
import shutil

import models_zoo
import pytest
import tampering

from edge_exray.conversion.converter import convert_many
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.report import CheckResult, Suspect, Verdict
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.result import ReplayResult


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory) -> dict[str, str]:
    """The network of `conv_net` after another training, by the name of the mode."""
    folder = tmp_path_factory.mktemp("other")
    cloud = models_zoo.save_conv_net(folder / "cloud", seed=5)
    frames = [{"image": image[None]} for image in models_zoo.make_frames(20, seed=5)[0]]
    paths = {mode: str(folder / f"{mode}.tflite") for mode in ("none", "int8")}
    outputs = {path: mode for mode, path in paths.items()}
    convert_many(cloud, outputs, signature="serving_dense", calibration=frames)
    return paths


@pytest.fixture
def found(conv_net, edge_models, tmp_path):
    """Replays an edge model, forgets it, and returns the check's result and its suspects."""

    def run(edge: bytes) -> tuple[CheckResult, list[Suspect]]:
        path = tmp_path / "edge.tflite"
        path.write_bytes(edge)
        float_edge = shutil.copy(edge_models["none"], tmp_path / "float_edge.tflite")
        frames = [{"image": image} for image in models_zoo.make_frames(3, seed=2)[0]]
        replay(ModelPaths(conv_net, str(float_edge), str(path), "serving_dense"), frames, tmp_path / "replay")
        path.unlink()
        pathlib.Path(float_edge).unlink()
        report = diagnose(gather(ReplayResult.open(tmp_path / "replay"), ValidationSpec()))
        names = [check.name for check in report.checks]
        assert names.index("preprocessing") < names.index("constants_parity") < names.index("conversion_drift")
        result = next(check for check in report.checks if check.name == "constants_parity")
        return result, [s for s in report.suspects if "what they were" in s.reason or "of them" in s.reason]

    return run


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8"])
def test_quantisation_is_no_other_checkpoint(mode, renamed, found, edge_models):
    content = pathlib.Path(edge_models[mode]).read_bytes()
    result, suspects = found(tampering.rename_tensors(content) if renamed else content)
    assert result.verdict is Verdict.PASSED, result.message
    assert result.evidence["constants"] == 8
    assert result.evidence["references"] == {"cloud": 2, "float_edge": 6, "none": 0}
    assert "6 times the float edge model's, where the converter folded" in result.message
    assert suspects == []


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("mode", ["none", "int8"])
def test_another_checkpoint_is_named(mode, renamed, found, other_checkpoint):
    content = pathlib.Path(other_checkpoint[mode]).read_bytes()
    result, suspects = found(tampering.rename_tensors(content) if renamed else content)
    assert result.verdict is Verdict.FAILED
    assert "was made from another checkpoint" in result.message
    assert result.evidence["differing"] >= 7
    assert suspects == []


@pytest.mark.parametrize("mode", ["none", "dynamic_range", "int8"])
def test_one_scaled_kernel_is_named(mode, found, edge_models):
    content = pathlib.Path(edge_models[mode]).read_bytes()
    layer = first_op(content, "CONV_2D")
    result, suspects = found(tampering.scale_weights(content, layer, 0.5))
    assert result.verdict is Verdict.FAILED
    assert result.message.startswith("1 of 8 weights and biases are not the cloud model's, by more than rounding: ")
    assert f"the weights of layer {layer} CONV_2D" in result.message
    [worst] = result.evidence["worst"]
    assert (worst["layer"], worst["op"], worst["input"]) == (layer, "CONV_2D", 1)
    assert worst["factor"] == pytest.approx(0.5, rel=0.02)
    assert [s.layer for s in suspects] == [layer]


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_a_changed_bias_is_named(mode, found, edge_models):
    content = pathlib.Path(edge_models[mode]).read_bytes()
    layer = first_op(content, "FULLY_CONNECTED")
    result, suspects = found(tampering.change_bias(content, layer, 1.5))
    assert result.verdict is Verdict.FAILED
    assert f"the bias of layer {layer} FULLY_CONNECTED" in result.message
    assert "1.5 times what they were" in result.message
    assert [s.layer for s in suspects] == [layer]


def first_op(content: bytes, op: str) -> int:
    return next(o.index for o in EdgeModel(content).graph.ops if o.name == op)
