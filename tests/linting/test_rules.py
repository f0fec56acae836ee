"""Each rule fires on the defect it is for, and on nothing else of the model."""

import pathlib
import re
from collections.abc import Callable

import numpy as np
import pytest
import tampering

from edge_exray import errors
from edge_exray.conversion.converter import convert
from edge_exray.linting.findings import LintResult, Severity
from edge_exray.linting.linter import lint_graph, read_model
from edge_exray.models.graph import read_graph

CONV, DEPTHWISE, POINTWISE, MEAN, DENSE, SOFTMAX = range(6)
FILTER, BIAS = 1, 2

DEFECTS: dict[str, tuple[str, str, Callable[[bytes], bytes], str, int | None, str]] = {
    # what: mode, rule, injection, severity, op, what the value says
    "output of one value": (
        "int8",
        "zero_range",
        lambda c: tampering.scale_output_step(c, POINTWISE, 1e-9),
        "error",
        POINTWISE,
        r"scale 1\.89e-11",
    ),
    "filter too small to count": (
        "int8",
        "near_zero_scale",
        lambda c: tampering.scale_filter_step(c, CONV, 1e-6),
        "warning",
        CONV,
        "8 of 8 channels move their output by at most",
    ),
    "scale of zero": (
        "int8",
        "near_zero_scale",
        lambda c: tampering.scale_filter_step(c, CONV, 0.0),
        "error",
        CONV,
        "8 of 8 scales are zero",
    ),
    "bias at the upper limit": (
        "int8",
        "saturated_bias",
        lambda c: tampering.set_constant(c, DEPTHWISE, BIAS, 2**31 - 1, share=0.25),
        "error",
        DEPTHWISE,
        "2 of 8 values at the limit of int32",
    ),
    "bias at the lower limit": (
        "int8",
        "saturated_bias",
        lambda c: tampering.set_constant(c, CONV, BIAS, -(2**31)),
        "error",
        CONV,
        "8 of 8 values",
    ),
    "one scale for unequal channels": (
        "int8",
        "per_tensor_weights",
        lambda c: tampering.quantize_per_tensor(c, POINTWISE, spread=40),
        "warning",
        POINTWISE,
        r"strongest of 16 channels is 42\.3 times the weakest",
    ),
    "filters of zeros": (
        "int8",
        "dead_channels",
        lambda c: tampering.set_constant(c, POINTWISE, FILTER, 0, share=0.25),
        "warning",
        POINTWISE,
        "4 of 16 channels are zero",
    ),
    "float filters of zeros": (
        "none",
        "dead_channels",
        lambda c: tampering.set_constant(c, CONV, FILTER, 0, share=0.5),
        "warning",
        CONV,
        "4 of 8 channels are zero",
    ),
    "equal weights": (
        "none",
        "dead_channels",
        lambda c: tampering.set_constant(c, DENSE, FILTER, 0.5),
        "error",
        DENSE,
        "all 64 weights are the same",
    ),
    "infinite float16": (
        "float16",
        "float16_overflow",
        lambda c: tampering.set_constant(c, 5, 0, np.inf, share=0.5),
        "error",
        5,
        # The bias or the weights, by the version of the converter.
        "(2 of 4|32 of 64) values are infinite",
    ),
    "NaN": (
        "none",
        "nan_constants",
        lambda c: tampering.set_constant(c, DENSE, BIAS, np.nan),
        "error",
        DENSE,
        "4 of 4",
    ),
    "product behind a convolution": (
        "none",
        "unfused_batch_norm",
        lambda c: tampering.insert_behind(tampering.unfuse_activations(c), CONV, "MUL"),
        "warning",
        1,
        "MUL by 8 constants behind op 0 CONV_2D",
    ),
    "float op in an int8 model": (
        "int8",
        "float_island",
        lambda c: tampering.insert_behind(c, POINTWISE, "DEQUANTIZE", "NEG", "ABS", "QUANTIZE"),
        "warning",
        4,
        "2 float ops on up to 1024 values: ABS, NEG",
    ),
    "float op on few values": (
        "int8",
        "float_island",
        lambda c: tampering.insert_behind(c, MEAN, "DEQUANTIZE", "NEG", "QUANTIZE"),
        "note",
        5,
        "1 float ops on up to 16 values: NEG",
    ),
    "op without a production kernel": (
        "int8",
        "unaccelerated_op",
        lambda c: tampering.insert_behind(c, POINTWISE, "HARD_SWISH"),
        "note",
        3,
        "1 times HARD_SWISH in INT8",
    ),
    "op of TensorFlow": (
        "none",
        "flex_op",
        lambda c: tampering.replace_op(c, SOFTMAX, "FlexSoftmax"),
        "error",
        SOFTMAX,
        "1 times FlexSoftmax",
    ),
    "op of somebody": (
        "none",
        "custom_op",
        lambda c: tampering.replace_op(c, SOFTMAX, "Softermax"),
        "error",
        SOFTMAX,
        "1 times Softermax",
    ),
    "input of any height": (
        "none",
        "dynamic_shape",
        lambda c: tampering.unfix_shape(c, 0, axis=1),
        "warning",
        CONV,
        r"input shape \[-1, -1, 16, 3\]",
    ),
    "layer of any height": (
        "none",
        "dynamic_shape",
        lambda c: tampering.unfix_shape(c, 11, axis=1),
        "warning",
        DEPTHWISE,
        r"shape \[-1, -1, 8, 8\], 1 tensors",
    ),
    "op taken away": (
        "int8",
        "unwritten_tensor",
        lambda c: tampering.drop_op(c, DEPTHWISE),
        "error",
        POINTWISE - 1,
        "input 0 is no constant",
    ),
    "no signature": ("none", "missing_signature", tampering.rename_tensors, "warning", None, "1 inputs and 1 outputs"),
}


def _lint(content: bytes, **options) -> LintResult:
    return lint_graph(read_graph(content), **options)


@pytest.mark.parametrize("defect", DEFECTS)
def test_rule_fires_on_its_defect_alone(defect, edge_models):
    mode, rule, inject, severity, op, value = DEFECTS[defect]
    result = _lint(inject(pathlib.Path(edge_models[mode]).read_bytes()))
    [finding] = [f for f in result.findings if f.rule == rule]
    assert (finding.severity, finding.op) == (Severity(severity), op)
    assert re.search(value, finding.value), finding.value
    assert finding.why
    assert finding.fix
    assert bool(result) == all(f.severity is not Severity.ERROR for f in result.findings)
    # A scale of next to nothing also leaves its marks on the layers around it.
    assert {f.rule for f in result.findings} <= {rule} | ({"near_zero_scale"} if rule == "zero_range" else set())


def test_healthy_models_are_silent_in_every_mode(edge_models):
    for path in edge_models.values():
        assert not [f for f in lint_graph(read_model(path)).findings if f.severity is not Severity.NOTE], path


def test_layer_that_was_constant_in_calibration_shows_activation_scale_and_bias(edge_models):
    """The signature of a broken squeeze-and-excite: zero-range activation, near-zero scale, saturated bias."""
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    content = tampering.scale_output_step(content, MEAN, 1e-9)
    content = tampering.set_constant(content, DENSE, BIAS, 2**31 - 1)
    found = {(f.rule, f.op, f.op_name) for f in _lint(content).findings}
    assert {
        ("zero_range", MEAN, "MEAN"),
        ("near_zero_scale", DENSE, "FULLY_CONNECTED"),
        ("saturated_bias", DENSE, "FULLY_CONNECTED"),
    } <= found


def test_calibration_on_black_frames_is_seen_in_the_file(conv_net, tmp_path):
    black = [{"image": np.zeros((1, 16, 16, 3), np.float32)}]
    convert(conv_net, tmp_path / "black.tflite", signature="serving_dense", calibration=black)
    found = {(f.rule, f.op) for f in lint_graph(read_model(tmp_path / "black.tflite")).findings}
    assert {rule for rule, op in found if op == CONV} >= {"zero_range", "near_zero_scale", "saturated_bias"}


def test_names_are_missed_only_where_nothing_else_tells_inputs_apart(edge_models):
    content = pathlib.Path(edge_models["none"]).read_bytes()
    assert {f.rule for f in _lint(tampering.drop_names(content)).findings} == {"missing_signature", "missing_name"}


def test_expected_ops_are_no_finding(edge_models):
    content = tampering.replace_op(pathlib.Path(edge_models["none"]).read_bytes(), SOFTMAX, "FlexSoftmax")
    assert not _lint(content, expected_ops=["Flex*"]).findings
    assert _lint(content, expected_ops=["Softmax"]).counts["error"] == 1


def test_file_with_unknown_ops_is_read_and_a_damaged_one_refused(edge_models, tmp_path):
    path = tmp_path / "model.tflite"
    content = pathlib.Path(edge_models["none"]).read_bytes()
    path.write_bytes(tampering.replace_op(content, SOFTMAX, "Softermax"))
    assert read_model(path).ops[SOFTMAX].is_custom
    for damaged, message in ((b"no model at all", "not a .tflite file"), (content[:2000], "does not load")):
        path.write_bytes(damaged)
        with pytest.raises(errors.ModelError, match=message):
            read_model(path)
    with pytest.raises(errors.ModelError, match="cannot read the edge model"):
        read_model(tmp_path / "absent.tflite")


def test_result_survives_its_document_and_begins_with_the_gravest(edge_models):
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    content = tampering.set_constant(content, DENSE, BIAS, 2**31 - 1)
    content = tampering.set_constant(content, CONV, FILTER, 0, share=0.25)
    result = _lint(content)
    assert [f.severity.value for f in result.findings] == ["error", "warning"]
    assert LintResult.from_dict(result.to_dict()) == result
