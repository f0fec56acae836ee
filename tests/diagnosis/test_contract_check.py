"""The check `input_contract`: it names the declared property that is broken, and is silent on the healthy twin."""

import pathlib
from collections.abc import Callable

import models_zoo
import numpy as np
import pytest

import edge_exray
from edge_exray import InputContract, errors
from edge_exray.diagnosis.report import CheckResult, Report, Verdict
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.metadata import attach

DECLARED = {"channels": "RGB", "height": 16, "width": 16, "mean": 127.5, "std": 127.5, "resize": "bilinear"}


@pytest.fixture(scope="module")
def frames():
    images, labels = models_zoo.make_frames(40, seed=2)
    return [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]


@pytest.fixture
def validate(conv_net, edge_models, frames, tmp_path):
    """Validates `conv_net` as int8 with a contract that declares `DECLARED` and what is given, but not what is None."""

    def run(declared=None, mode="int8", name="image", examples=frames, **functions) -> Report:
        properties = {prop: value for prop, value in {**DECLARED, **(declared or {})}.items() if value is not None}
        contract = InputContract.from_dict({"inputs": {name: properties}})
        edge = tmp_path / "edge.tflite"
        edge.write_bytes(attach(pathlib.Path(edge_models[mode]).read_bytes(), contract))
        options = {"float_edge": edge_models["none"], "signature": "serving_dense"}
        return edge_exray.validate(conv_net, edge, examples, module=UserFunctions(**functions), **options)

    return run


def fed(change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    return lambda example: {"image": change(example["image"]).astype(np.float32)}


def found(report: Report) -> CheckResult | None:
    return next((check for check in report.checks if check.name == "input_contract"), None)


@pytest.mark.parametrize("mode", ["none", "int8", "int8_float_io"])
def test_a_healthy_model_keeps_its_contract(validate, mode):
    report = validate(mode=mode)
    assert report.failed_checks == []
    check = found(report)
    assert check.verdict is Verdict.PASSED
    assert check.evidence["frames"] == [{"input": "image", "frames": 40, "reference": {}, "edge": {}}]
    # A contract is no quantisation: the float model that carries one is still its own twin.
    assert report.legs["quantization"]["ran"] == (mode != "none")


def test_a_model_without_a_contract_is_not_checked(conv_net, edge_models, frames):
    report = edge_exray.validate(
        conv_net, edge_models["int8"], frames, float_edge=edge_models["none"], signature="serving_dense"
    )
    assert found(report) is None


@pytest.mark.parametrize(
    ("app", "broken", "words"),
    [
        (lambda x: (x + 1) * 127.5, "mean, std", "in 40 of 40 frames: they reach [0, 255], mean 127.5 and std 127.5"),
        (lambda x: (x + 1) / 2, "mean, std", "wrong scale: [0, 1] instead of [-1, 1]"),
        (lambda x: x[..., ::-1], "channels", "the contract declares RGB: one of them breaks it"),
    ],
)
def test_an_app_that_breaks_the_contract_is_named(validate, app, broken, words):
    report = validate(edge_inputs_fn=fed(app))
    check = found(report)
    assert check.verdict is Verdict.FAILED
    assert [(b["input"], b["property"], b["side"]) for b in check.evidence["broken"]] == [("image", broken, "app")]
    assert words in check.message
    assert check.evidence["frames"][0]["reference"] == {}
    # How the app differs from the reference is said before what that breaks.
    assert [c.name for c in report.failed_checks][:2] == ["preprocessing", "input_contract"]


def test_an_app_that_feeds_nan_breaks_no_range(validate):
    report = validate(edge_inputs_fn=fed(lambda x: np.where(x > 0.9, np.nan, x)))
    assert [c.name for c in report.failed_checks][:2] == ["input_contract", "non_finite"]
    assert "break the contract of image (finite) in 20 of 40 frames: they hold NaN" in found(report).message


def test_an_app_that_feeds_another_order_and_scale_breaks_both(validate):
    check = found(validate(edge_inputs_fn=fed(lambda x: (x[..., ::-1] + 1) / 2)))
    assert [b["property"] for b in check.evidence["broken"]] == ["channels", "mean, std"]
    assert check.message.endswith("Also broken: mean, std of image.")


@pytest.mark.parametrize(
    ("declared", "broken", "words"),
    [
        ({"mean": 0, "std": 255}, ["mean, std"], "they reach [-1, 1], mean 0 and std 255 allow [0, 1]"),
        ({"height": 24}, ["height"], "the reference inputs break it for image (height) in 40 of 40 frames: 24 is"),
        ({"channels": "GRAY"}, ["channels"], "break it for image (channels)"),
        ({"mean": 0, "std": 1}, ["mean, std"], "allow [0, 255], the reference inputs of all 40 frames keep to [-1, 1]"),
        ({"mean": 127.5, "std": 63.75}, ["mean, std"], "allow [-2, 2], the reference inputs of all 40 frames keep to"),
    ],
)
def test_a_contract_that_is_not_true_is_named(validate, declared, broken, words):
    report = validate(declared)
    check = found(report)
    assert [c.name for c in report.failed_checks] == ["input_contract"]
    assert [b["property"] for b in check.evidence["broken"]] == broken
    assert {b["side"] for b in check.evidence["broken"]} == {"declaration"}
    assert check.message.startswith("The contract of the edge model is not true")
    assert words in check.message


def test_one_odd_reference_frame_does_not_excuse_the_app(validate, frames):
    odd = [{**frames[0], "image": frames[0]["image"] + 3}, *frames[1:]]
    check = found(validate(examples=odd, edge_inputs_fn=fed(lambda x: (x + 1) * 127.5)))
    assert [(b["property"], b["side"]) for b in check.evidence["broken"]] == [
        ("mean, std", "declaration"),
        ("mean, std", "app"),
    ]
    [counts] = check.evidence["frames"]
    assert counts == {"input": "image", "frames": 40, "reference": {"mean, std": 1}, "edge": {"mean, std": 40}}


def test_the_declared_order_is_not_told_by_the_values_of_the_reference(validate):
    check = found(validate({"channels": "BGR"}))
    assert check.verdict is Verdict.PASSED
    assert "does not show in its values" in check.message
    check = found(validate({"channels": "BGR"}, edge_inputs_fn=fed(lambda x: x[..., ::-1])))
    assert check.verdict is Verdict.FAILED
    assert "declares BGR: one of them breaks it. Make both feed BGR" in check.message


def test_few_frames_do_not_make_another_convention(validate, frames):
    check = found(validate({"mean": 127.5, "std": 63.75}, examples=frames[:20]))
    assert check.verdict is Verdict.PASSED


def test_one_bound_declares_no_convention(validate):
    check = found(validate({"mean": None, "std": None, "min": -1}))
    assert check.verdict is Verdict.PASSED, check.message


def test_a_contract_that_cannot_be_read_names_the_file(conv_net, edge_models, frames, tmp_path):
    declared = InputContract.from_dict({"inputs": {"image": {"channels": "RGB"}}})
    content = attach(pathlib.Path(edge_models["int8"]).read_bytes(), declared)
    edge = tmp_path / "edge.tflite"
    edge.write_bytes(content.replace(b'"channels"', b'"chandels"'))
    with pytest.raises(errors.SpecError, match=r"input contract of .*edge\.tflite: inputs\.image: .*'chandels'"):
        edge_exray.validate(conv_net, edge, frames, float_edge=edge_models["none"], signature="serving_dense")


def test_an_input_that_the_model_does_not_have_is_named(validate):
    check = found(validate(name="picture"))
    assert check.verdict is Verdict.FAILED
    assert "break it for picture (inputs) in 40 of 40 frames: the model has no such input" in check.message


def test_a_model_that_declares_another_task_is_no_classifier(conv_net, edge_models, frames, tmp_path):
    edge = tmp_path / "edge.tflite"
    contract = InputContract.from_dict({"task": "embedding"})
    edge.write_bytes(attach(pathlib.Path(edge_models["int8"]).read_bytes(), contract))
    options = {"float_edge": edge_models["none"], "signature": "serving_dense"}
    report = edge_exray.validate(conv_net, edge, frames, **options)
    names = {check.name for check in report.checks}
    assert "output_drift" in names
    assert not names & {"label_flip_rate", "accuracy_drop"}


def test_an_app_that_feeds_another_size_is_named(tmp_path):
    import tensorflow as tf

    class AnySize(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
        def serve(self, image):
            return {"scores": tf.nn.softmax(tf.reduce_mean(image, (1, 2)))}

    module = AnySize()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    contract = InputContract.from_dict({"inputs": {"image": DECLARED}})
    edge = tmp_path / "edge.tflite"
    edge_exray.convert(tmp_path / "model", edge, quantization="none", input_contract=contract)
    frames = [{"image": image} for image in models_zoo.make_frames(30, seed=2)[0]]

    def run(app) -> Report:
        functions = UserFunctions(edge_inputs_fn=fed(app))
        return edge_exray.validate(tmp_path / "model", edge, frames, module=functions, float_edge=edge)

    assert found(run(lambda x: x)).verdict is Verdict.PASSED
    report = run(lambda x: x[::2, 2:])
    check = found(report)
    assert [b["property"] for b in check.evidence["broken"]] == ["height", "width"]
    assert "break the contract of image (height) in 30 of 30 frames: 16 is declared" in check.message
    # No range of the reference is known from frames that could not be compared: the pictures have scales of their own.
    assert len({frame["pictures"]["image"]["reference"] for frame in report.worst_frames}) == 5
