"""Layers that are dead or saturated are located at the op; those that are quiet for a good reason are not."""

import pathlib

import models_zoo
import pytest
import tampering

import edge_exray

IMAGES, LABELS = models_zoo.make_frames(10, seed=2)


@pytest.fixture
def judge(conv_net, edge_models, tmp_path):
    def run(mode, damage=None):
        edge = tmp_path / "edge.tflite"
        content = pathlib.Path(edge_models[mode]).read_bytes()
        edge.write_bytes(damage(content) if damage else content)
        frames = [{"image": image} for image in IMAGES]
        return edge_exray.validate(conv_net, edge, frames, float_edge=edge_models["none"], signature="serving_dense")

    return run


def located(report, name):
    return [suspect.layer for suspect in report.suspects if suspect.check == name]


@pytest.mark.parametrize("mode", ["none", "dynamic_range", "int8"])
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_a_layer_without_weights_is_dead_and_its_readers_are_not_accused(judge, mode, layer):
    report = judge(mode, lambda content: tampering.set_constant(content, layer, 1, 0))
    assert located(report, "dead_layers") == [layer]
    found = next(check for check in report.checks if check.name == "dead_layers")
    assert "same values for all 10 frames" in found.message
    assert report.attribution["suspect"]["layer"] == layer


@pytest.mark.parametrize("share", [-3.0, 0.8])
def test_a_layer_whose_bias_is_beyond_its_range_is_saturated(judge, share):
    report = judge("int8", lambda content: tampering.shift_bias(content, 2, share))
    assert located(report, "saturated_layers") == [2]


def test_a_range_that_is_far_too_wide_is_named(judge):
    report = judge("int8", lambda content: tampering.scale_output_step(content, 1, 40.0))
    assert located(report, "calibration_range") == [1]
    found = next(check for check in report.checks if check.name == "calibration_range")
    assert found.evidence["range_use"] < 0.05
    assert "of the range that its quantised tensor was calibrated for" in found.message


@pytest.mark.parametrize("mode", ["float16", "dynamic_range", "int8", "int8_float_io", "int16x8"])
def test_healthy_layers_are_neither(judge, mode):
    report = judge(mode)
    found = {check.name: check.verdict.value for check in report.checks}
    assert found["dead_layers"] == "passed"
    assert found.get("saturated_layers", "passed") == "passed"
    assert found.get("calibration_range", "passed") == "passed"
    assert not report.failed_checks
    assert not report.suspects


def test_a_small_error_shows_in_a_float_model(judge):
    """The rounding of 8 bits, which it does not have, would hide it."""
    report = judge("none", lambda content: tampering.scale_weights(content, 4, 1.02))
    assert located(report, "own_error") == [4]
