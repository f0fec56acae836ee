"""Every check: it fires on the fault that it names, and is silent on a healthy twin."""

import dataclasses
import functools
import json
import pathlib
import re

import models_zoo
import numpy as np
import pytest
import tampering

import edge_exray
from edge_exray import errors
from edge_exray.contract import InputContract
from edge_exray.diagnosis.report import Report, Verdict
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.metadata import attach
from edge_exray.replay import replayer


@pytest.fixture(scope="module")
def frames():
    images, labels = models_zoo.make_frames(60, seed=2)
    return [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]


# The default, 0.02, takes 133 frames at least.
SPEC = edge_exray.ValidationSpec(max_accuracy_drop=0.05)


@pytest.fixture
def validate(conv_net, edge_models, frames):
    """`edge_exray.validate` of `conv_net`; the edge model is the int8 one unless another is given."""

    def run(edge=None, examples=frames, **options):
        options = {"float_edge": edge_models["none"], "signature": "serving_dense", "spec": SPEC} | options
        return edge_exray.validate(conv_net, edge or edge_models["int8"], examples, **options)

    return run


def failed(report: Report) -> list[str]:
    return [check.name for check in report.failed_checks]


def check(report: Report, name: str):
    return next(c for c in report.checks if c.name == name)


def depthwise(report: Report) -> int:
    return next(layer["index"] for layer in report.layers if layer["op"] == "DEPTHWISE_CONV_2D")


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8"])
def test_a_healthy_model_passes(validate, edge_models, mode):
    report = validate(edge_models[mode])
    assert report, report.summary
    assert report.verdict is Verdict.PASSED
    assert report.suspects == []
    assert report.alignment["coverage"] == 1.0
    assert report.accuracy["cloud"] > 0.9


def test_what_the_file_shows_stands_in_the_report(validate, edge_models, tmp_path):
    layer = depthwise(validate())
    edge = tmp_path / "edge.tflite"
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    edge.write_bytes(tampering.set_constant(content, layer, 2, 2**31 - 1, share=0.25))
    report = validate(edge, out=tmp_path / "out")
    assert layer in {suspect.layer for suspect in report.suspects}
    [finding] = report.lint["findings"]
    assert (finding["rule"], finding["severity"], finding["op"]) == ("saturated_bias", "error", layer)
    assert Report.load(tmp_path / "out" / "report.json").lint == report.lint
    assert validate().lint == {"counts": {"error": 0, "warning": 0, "note": 0}, "findings": []}


def test_the_float_twin_is_made_when_it_is_missing(validate):
    assert validate(float_edge=None)


@pytest.mark.parametrize(
    ("app", "named"),
    [
        (lambda x: x[..., ::-1], "reversed channels (BGR instead of RGB)"),
        (lambda x: (x + 1) / 2, "wrong scale: [0, 1] instead of [-1, 1]"),
        (lambda x: x + 0.5, "wrong offset"),
        (lambda x: np.rot90(x).copy(), "rotated by 90 degrees counter-clockwise"),
        (lambda x: np.sort(x, 0), "unknown difference"),
    ],
)
def test_wrong_preprocessing_is_named_first(validate, app, named):
    functions = UserFunctions(edge_inputs_fn=lambda e: {"image": app(e["image"]).astype(np.float32)})
    report = validate(module=functions)
    assert not report
    assert failed(report)[0] == "preprocessing"
    assert named in report.summary
    found = report.to_dict()["preprocessing"]["image"]
    assert ("unknown" in named) or found["hypotheses"][0]["code"] == found["code"]
    assert all(picture["edge"] != picture["reference"] for picture in found["pictures"])
    assert len(found["pictures"]) == 4
    # The legs on the reference inputs are not to blame.
    assert {"conversion_drift", "calibration_range", "quantization_drift"}.isdisjoint(failed(report))


@pytest.mark.parametrize(
    ("wrong", "loss"), [(lambda x: (x + 1) / 2, "clipped"), (lambda x: x * 127.5 + 127.5, "of the range is used")]
)
def test_calibration_on_a_wrong_scale_is_named_first(validate, conv_net, tmp_path, wrong, loss):
    images, _ = models_zoo.make_frames(40, seed=3)
    edge = tmp_path / "edge.tflite"
    calibration = [{"image": wrong(image[None])} for image in images]
    edge_exray.convert(conv_net, edge, quantization="int8", signature="serving_dense", calibration=calibration)
    report = validate(edge)
    assert failed(report)[0] == "calibration_range"
    assert "Input image was calibrated for" in report.summary
    assert loss in report.summary


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_scaled_weights_are_found_at_their_layer(validate, edge_models, tmp_path, mode):
    layer = depthwise(validate(edge_models[mode]))
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(tampering.scale_weights(pathlib.Path(edge_models[mode]).read_bytes(), layer, 3.0))
    report = validate(edge)
    assert failed(report)[:2] == ["constants_parity", "own_error"]
    assert {suspect.layer for suspect in report.suspects} == {layer}
    assert f"the weights of layer {layer} DEPTHWISE_CONV_2D" in report.summary


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8"])
def test_a_healthy_model_of_another_converter_passes(validate, edge_models, tmp_path, mode):
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(tampering.rename_tensors(pathlib.Path(edge_models[mode]).read_bytes()))
    report = validate(edge)
    assert report, report.summary
    assert report.alignment["coverage"] == 1.0
    assert report.alignment["evidence"]["name"] < report.alignment["ops"]
    assert {layer["evidence"] for layer in report.layers} >= {"constants"}
    assert report.models["edge"]["interface"]["evidence"] == "shape"
    assert set(report.models["edge"]["interface"]["inputs"]) == {"image"}


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_a_damaged_layer_of_another_converters_model_is_accused(validate, edge_models, tmp_path, mode):
    layer = depthwise(validate(edge_models[mode]))
    edge = tmp_path / "edge.tflite"
    damaged = tampering.scale_weights(pathlib.Path(edge_models[mode]).read_bytes(), layer, -0.5)
    edge.write_bytes(tampering.rename_tensors(damaged))
    report = validate(edge)
    assert failed(report)[0] == "constants_parity"
    assert "own_error" in failed(report)
    assert report.suspects[0].layer == layer
    assert check(report, "constants_parity").evidence["worst"][0]["factor"] == pytest.approx(-0.5, rel=0.02)
    assert "times what they were" in report.summary
    accused = next(la for la in report.layers if la["index"] == layer)
    assert accused["evidence"] == "structure"
    assert accused["confidence"] < 0.97


def test_a_conversion_that_changes_the_model_is_found_at_its_layer(validate, edge_models, tmp_path):
    layer = depthwise(validate(edge_models["none"]))
    twin = tmp_path / "twin.tflite"
    twin.write_bytes(tampering.scale_weights(pathlib.Path(edge_models["none"]).read_bytes(), layer, 3.0))
    report = validate(twin, float_edge=twin)
    assert "conversion_drift" in failed(report)
    assert next(s for s in report.suspects if s.leg == "conversion").layer == layer


def test_nan_is_located_at_the_op(validate, edge_models, tmp_path):
    layer = depthwise(validate(edge_models["none"]))
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(tampering.scale_weights(pathlib.Path(edge_models["none"]).read_bytes(), layer, np.nan))
    report = validate(edge)
    assert failed(report)[0] == "non_finite"
    assert report.suspects[0].layer == layer


def test_nan_in_the_input_is_named(validate, frames):
    broken = [{**frames[0], "image": frames[0]["image"] * np.nan}, *frames[1:]]
    report = validate(examples=broken)
    assert "non_finite" in failed(report)
    assert "NaN" in check(report, "non_finite").message


def test_an_edge_model_of_another_graph_is_not_covered(validate, conv_net, tmp_path):
    other = models_zoo.save_wide_net(tmp_path / "other")
    edge = tmp_path / "edge.tflite"
    edge_exray.convert(other, edge, quantization="none")
    report = validate(edge)
    assert "alignment_coverage" in failed(report)
    assert report.alignment["unmatched"] > 0


def test_too_few_frames_are_inconclusive_and_block(validate, frames):
    report = validate(examples=frames[:20], spec=None)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert not report
    # No answer changes: 1 - 0.05 ** (1 / 59) is below 5 %, and 1.645 ** 2 / (n + 1.645 ** 2) below 2 % from 133 on.
    assert check(report, "label_flip_rate").evidence["needed_frames"] == 59
    assert check(report, "accuracy_drop").evidence["needed_frames"] == 133
    assert "20 frames are too few to tell" in report.summary
    assert "give at least 133" in report.summary


def test_failed_and_repeated_frames_are_told_and_the_worst_ones_shown(validate, frames):
    def app(example):
        if example["image"] is frames[3]["image"]:
            raise KeyError("image/encoded")
        return {"image": example["image"][..., ::-1] if example["image"] is frames[7]["image"] else example["image"]}

    functions = UserFunctions(edge_inputs_fn=app, source="app.py")
    report = validate(examples=[*frames, frames[0]], module=functions, max_failed_frames=1, worst_frames=2)
    assert report.frames == {"count": 60, "labelled": 60, "layer_frames": 60, "failed": 1, "repeated_ids": 1}
    assert report.summary.endswith("1 more frames could not be replayed.")
    message = check(report, "frames").message
    assert "1 of 61 frames failed" in message
    assert re.search(r"edge_inputs_fn of app\.py failed: KeyError: 'image/encoded' \(line \d+; the example", message)
    assert "1 frames have the id of an earlier one" in message
    worst, second = report.worst_frames
    assert worst["place"] == "#7"
    assert worst["drift"] > 10 * second["drift"]
    answer = worst["answers"]["probabilities"]
    assert worst["label"] == answer["cloud"][0]["index"] != answer["edge"][0]["index"]
    image = worst["pictures"]["image"]
    assert image["reference"] != image["app"]
    assert second["pictures"]["image"]["reference"] == second["pictures"]["image"]["app"]
    assert Report.from_dict(json.loads(report.to_json())).worst_frames == report.worst_frames


def test_more_failed_frames_than_allowed_are_an_error(validate, frames):
    examples = [{"label": frame["label"]} if i % 20 == 5 else frame for i, frame in enumerate(frames)]
    with pytest.raises(
        errors.DataError, match=r"more than 2 frames failed.*no feature named like .*image.*first at #5"
    ):
        validate(examples=examples, max_failed_frames=2)
    assert validate(examples=examples, max_failed_frames=3).frames["failed"] == 3


def test_without_labels_accuracy_is_left_out(validate, frames):
    report = validate(examples=[{"image": frame["image"]} for frame in frames])
    assert report
    assert report.frames["labelled"] == 0
    assert report.accuracy["cloud"] is None
    assert "accuracy_drop" not in [c.name for c in report.checks]


def test_limits_come_from_the_spec(validate):
    strict = dataclasses.replace(SPEC, max_layer_nrmse=1e-6)
    assert failed(validate(spec=strict.to_json())) == ["quantization_drift"]


def test_an_unknown_limit_is_named():
    with pytest.raises(errors.SpecError, match="max_layer_nrsme"):
        edge_exray.ValidationSpec.from_json('{"max_layer_nrsme": 0.1}')
    with pytest.raises(errors.SpecError, match=r"max_label_flip_rate.*1.5"):
        edge_exray.ValidationSpec.from_json('{"max_label_flip_rate": 1.5}')


def test_the_report_is_written_and_read_back(validate, tmp_path):
    report = validate(out=tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.html", "summary.md", "junit.xml", "model_explorer", "replay"}
    read = Report.load(tmp_path / "out" / "report.json")
    assert read.to_dict() == report.to_dict()
    assert json.loads(report.to_json())["verdict"] == "passed"


def test_model_explorer_finds_every_layer_of_the_report(validate, edge_models, tmp_path):
    validate(edge_models["none"], out=tmp_path)
    # What ai-edge-model-explorer-adapter 0.2.1 makes of the file: id of a node and its label. The ids of constants,
    # inputs and outputs come behind those of the ops.
    nodes = {
        "0": "conv_2d",
        "1": "depthwise_conv_2d",
        "2": "conv_2d",
        "3": "mean",
        "4": "fully_connected",
        "5": "softmax",
    }
    report = json.loads((tmp_path / "report.json").read_text())
    assert {str(layer["index"]): layer["op"].lower() for layer in report["layers"]} == nodes
    data = json.loads((tmp_path / "model_explorer" / "conversion_nrmse.json").read_text())
    assert data["results"].keys() == nodes.keys()


def test_how_the_edge_model_was_made_and_its_classes_stand_in_the_report(validate, conversions, tmp_path):
    edge = tmp_path / "edge.tflite"
    contract = InputContract.from_dict({"task": "classification", "labels": list(models_zoo.CLASSES)})
    edge.write_bytes(attach(pathlib.Path(conversions["int8"].path).read_bytes(), contract))
    record = tmp_path / "conversion.json"
    record.write_text(conversions["int8"].to_json())
    report = validate(edge, out=tmp_path / "out")
    assert "conversion" not in report.models["edge"]  # the record is of the file before it was given a contract
    assert report.classes == list(models_zoo.CLASSES)
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"fingerprint": report.models["edge"]["fingerprint"]})
    )
    made = validate(edge, out=tmp_path / "out").models["edge"]["conversion"]
    assert (made["quantization"], made["quantizer"], made["calibration_frames"]) == ("int8", "tensorflow", 40)
    page = " ".join((tmp_path / "out" / "report.html").read_text().split())
    assert "int8, by tensorflow" in page
    assert re.search(r"label <b>(bright|dark) (red|blue) \(\d\)</b>", page)


def test_regression_outputs_are_judged_by_their_drift(tmp_path):
    cloud = models_zoo.save_two_input_net(tmp_path / "net")
    rng = np.random.default_rng(1)
    features = {"zebra": (5,), "apple": (4,)}
    examples = [
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in features.items()}
        | {"ids": np.array([i % 4], np.int32)}
        for i in range(40)
    ]
    edge = tmp_path / "edge.tflite"
    edge_exray.convert(cloud, edge, quantization="none")
    assert edge_exray.validate(cloud, edge, examples, spec=edge_exray.ValidationSpec(max_label_flip_rate=0.1))
    swapped = UserFunctions(edge_inputs_fn=lambda e: {"zebra": e["zebra"][::-1], "apple": e["apple"], "ids": e["ids"]})
    report = edge_exray.validate(cloud, edge, examples, module=swapped, float_edge=edge)
    assert {"preprocessing", "output_drift"} <= set(failed(report))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"cloud": "nowhere"}, errors.ModelError, "no SavedModel in nowhere"),
        ({"signature": "serving_default"}, errors.ModelError, "takes serialized tf.Examples.*use 'serving_dense'"),
        ({"signature": "predict"}, errors.ModelError, r"no signature 'predict', only \['serving_default', "),
        ({"edge": "nowhere.tflite"}, errors.ModelError, "cannot read the edge model nowhere.tflite"),
        ({"examples": []}, errors.DataError, "no examples"),
        ({"examples": "nowhere.npz"}, errors.DataError, "nowhere.npz"),
        ({"examples": [{"picture": np.zeros((16, 16, 3))}]}, errors.DataError, "no feature named.*image"),
        ({"module": "nowhere.py"}, errors.ModuleError, "no module file nowhere.py"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(conv_net, edge_models, frames, tmp_path, change, error, match):
    arguments = {"cloud": conv_net, "edge": edge_models["int8"], "examples": frames} | change
    with pytest.raises(error, match=match):
        edge_exray.validate(**arguments, float_edge=edge_models["none"], out=tmp_path / "out")
    assert not any((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_corrupt_edge_model_is_named(validate, edge_models, tmp_path):
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.ModelError, match=r"edge\.tflite does not load"):
        validate(edge)
    edge.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(errors.ModelError, match=r"not a .tflite file"):
        validate(edge)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content, layer: tampering.scale_weights(content, layer, 1 / 3),
        lambda content, layer: tampering.shift_bias(content, layer, 0.25),
        lambda content, layer: tampering.scale_filter_step(content, layer, 2.0),
        lambda content, layer: tampering.scale_output_step(content, layer, 0.25),
        lambda content, layer: tampering.shift_zero_point(content, layer, 100),
    ],
)
@pytest.mark.parametrize("layer", [0, 2])
def test_the_first_op_that_is_wrong_by_itself_is_the_suspect(validate, edge_models, tmp_path, damage, layer):
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(damage(pathlib.Path(edge_models["int8"]).read_bytes(), layer))
    report = validate(edge)
    assert check(report, "own_error").verdict is Verdict.FAILED
    assert check(report, "own_error").evidence["layer"] == layer
    found = next(la for la in report.layers if la["index"] == layer)["own_error"]
    assert found["ratio"] > 6
    assert found["inherited_nrmse"] < found["nrmse"]


def test_a_range_that_was_moved_is_no_narrow_calibration(validate, edge_models, tmp_path):
    """It cuts off under 1 % of the values, as calibration frames that lack the extremes would, but is half empty."""
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(tampering.shift_zero_point(pathlib.Path(edge_models["int8"]).read_bytes(), 2, 70))
    report = validate(edge, spec=dataclasses.replace(SPEC, max_own_error=2))
    assert check(report, "own_error").evidence["layer"] == 2
    assert validate(spec=dataclasses.replace(SPEC, max_own_error=2))


def test_inherited_error_is_told_from_own_error(validate, edge_models, tmp_path):
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(tampering.scale_weights(pathlib.Path(edge_models["int8"]).read_bytes(), 1, 3.0))
    layers = {layer["index"]: layer["own_error"] for layer in validate(edge).layers}
    assert layers[1]["nrmse"] > 10 * layers[1]["inherited_nrmse"]
    assert layers[2]["inherited_nrmse"] > 10 * layers[2]["nrmse"]


def test_a_reference_kernel_that_aborts_is_a_finding_and_no_failure(validate, edge_models, tmp_path):
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(tampering.set_softmax_beta(pathlib.Path(edge_models["int8"]).read_bytes(), 5, 1e-9))
    report = validate(edge, kernel_frames=2)
    found = check(report, "kernel_drift")
    assert found.verdict is Verdict.PASSED
    assert "eference kernels died at op 5 SOFTMAX" in found.message
    # All other legs are whole, and name what this does to the answers.
    assert check(report, "own_error").evidence["layer"] == 5
    assert report.legs["quantization"]["ran"]
    healthy = validate(kernel_frames=2)
    assert healthy
    assert check(healthy, "kernel_drift").evidence["died"] == []


def test_a_production_kernel_that_computes_something_else_is_named(validate, edge_models, monkeypatch):
    """No kernel of the runtime is wrong: the ones to compare with run op 1 with other weights instead."""
    other = tampering.scale_weights(pathlib.Path(edge_models["int8"]).read_bytes(), 1, 3.0)
    with monkeypatch.context() as patch:
        patch.setattr(replayer, "KernelLeg", functools.partial(replayer.KernelLeg, other=other))
        report = validate(kernel_frames=2)
    assert failed(report) == ["kernel_drift"]
    found = check(report, "kernel_drift")
    assert found.message.startswith("The production kernel of layer 1 DEPTHWISE_CONV_2D ")
    assert found.evidence["layer"] == 1
    assert found.evidence["nrmse"] > 10 * found.evidence["limit"]
    assert [(suspect.layer, suspect.leg) for suspect in report.suspects] == [(1, "kernel")]
    healthy = validate(kernel_frames=2)
    assert healthy
    assert check(healthy, "kernel_drift").evidence["compared"] == 2 * len(healthy.layers)


def test_layers_are_compared_on_some_frames_and_outputs_on_all(validate, tmp_path):
    report = validate(layer_frames=10, kernel_frames=2, out=tmp_path / "out")
    assert report
    assert report.frames["count"] == 60
    assert report.frames["layer_frames"] == 10
    summary = json.loads((tmp_path / "out" / "replay" / "replay.json").read_text())
    seen = {"conversion": 60, "quantization": 60, "preprocessing": 60, "inputs": 60, "layers": 10, "own_error": 10}
    assert summary["leg_frames"] == seen | {"instrumentation": 10, "kernel": 2}


def test_sampling_needs_examples_that_can_be_read_twice(validate, frames):
    with pytest.raises(errors.DataError, match="read twice"):
        validate(examples=iter(frames), layer_frames=10)


def test_layers_that_change_when_they_are_kept_readable_are_told(validate, monkeypatch):
    from edge_exray.models.tflite import EdgeModel

    assert check(validate(), "instrumentation").verdict is Verdict.PASSED
    infer = EdgeModel.infer

    def differs(model, feed):
        outputs = infer(model, feed)
        return {name: value[..., ::-1] for name, value in outputs.items()} if model._preserves else outputs

    monkeypatch.setattr(EdgeModel, "infer", differs)
    found = check(validate(), "instrumentation")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "does not hold for the model as it ships" in found.message
