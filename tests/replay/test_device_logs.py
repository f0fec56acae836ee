"""Replaying what devices logged: the edge side is the log's, and each leg says what it lacks."""

import pathlib
from collections.abc import Callable

import models_zoo
import numpy as np
import pytest
import tampering

import edge_exray
from edge_exray import errors
from edge_exray.diagnosis.report import Report, Verdict
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.tflite import EdgeModel
from edge_exray.monitor import EdgeMonitor
from edge_exray.replay.result import ReplayResult

FRAMES = 24
SPEC = edge_exray.ValidationSpec(max_accuracy_drop=0.2, max_label_flip_rate=0.2, min_frames=10)

# What the sensor gives: bytes. Training scaled them to [-1, 1].
MODULE = UserFunctions(reference_inputs_fn=lambda e: {"image": e["input"].astype(np.float32) / 127.5 - 1})


def scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 127.5 - 1


def reversed_channels(pixels: np.ndarray) -> np.ndarray:
    return scaled(pixels)[..., ::-1]


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    frames, labels = models_zoo.make_frames(FRAMES, seed=2)
    return np.round((frames + 1) * 127.5).astype(np.uint8), labels


@pytest.fixture
def record(edge_models, images, tmp_path) -> Callable[..., pathlib.Path]:
    """Writes the log of an app and returns its name."""

    def write(
        name: str = "run.exray",
        prepare: Callable[[np.ndarray], np.ndarray] = scaled,
        *,
        runs: str | bytes = edge_models["int8"],
        device: str = "phone",
        frames: range = range(FRAMES),
        **options,
    ) -> pathlib.Path:
        about = {"level": "layers", "model": edge_models["int8"], "device": device}
        model = EdgeModel(runs, preserve_tensors=True, signature="serving_dense")
        spec = model.inputs["image"]
        with EdgeMonitor(tmp_path / name, strict=True, policy="block", **about | options) as monitor:
            for index in frames:
                pixels, label = images[0][index], int(images[1][index])
                with monitor.frame(raw=pixels, id=f"f{index}") as frame:
                    x = frame.stage("preprocess", prepare, pixels)[np.newaxis]
                    frame.log(label=label)
                    stored = spec.quantization.quantize(x, spec.dtype) if spec.quantization else x
                    frame.run(model.interpreter, {"image": stored})
        return tmp_path / name

    return write


@pytest.fixture
def validate(conv_net, edge_models) -> Callable[..., Report]:
    def run(*logs: pathlib.Path, **options) -> Report:
        options = {"float_edge": edge_models["none"], "signature": "serving_dense", "spec": SPEC} | options
        return edge_exray.validate(conv_net, edge_models["int8"], logs=logs, **{"module": MODULE} | options)

    return run


def check(report: Report, name: str):
    return next((c for c in report.checks if c.name == name), None)


def test_a_device_that_does_what_it_should_passes(record, validate, edge_models, images, tmp_path):
    report = validate(record(), out=tmp_path / "out", worst_frames=1)
    assert report, report.summary
    assert report.frames["count"] == report.frames["labelled"] == FRAMES
    assert report.accuracy["cloud"] > 0.9
    # The same runtime on the same inputs.
    assert report.legs["kernel"]["outputs"]["probabilities"]["rmse"] == 0
    # The reference is rounded to the same steps.
    assert report.legs["preprocessing"]["outputs"]["probabilities"]["rmse"] == 0
    kernel_drift = check(report, "kernel_drift")
    assert kernel_drift.verdict is Verdict.PASSED
    assert kernel_drift.evidence["compared"] == len(report.layers)
    assert check(report, "device_logs").evidence["without"] == {"inputs": 0, "layers": 0}
    [device] = Report.load(tmp_path / "out" / "report.json").device_logs
    assert device["device"] == "phone"
    assert device["stages"]["inference"]["frames"] == FRAMES
    stored = ReplayResult.open(tmp_path / "out" / "replay")
    here = EdgeModel(edge_models["int8"])
    for prediction, pixels, number in zip(stored.predictions(), images[0], range(FRAMES), strict=True):
        assert prediction["frame_id"][0] == f"f{number}".encode()
        answer = here.infer({"image": scaled(pixels)[np.newaxis]})["probabilities"]
        np.testing.assert_array_equal(prediction["edge/probabilities"], answer[0])
    # The quantised layers of the device against the float twin, on the inputs that the device was fed.
    drift = stored.statistic("kernel", "device_float", "0")
    assert drift.frames == FRAMES
    assert 0 < drift.nrmse < 0.05


def test_what_an_app_prepares_wrongly_is_named_from_its_log(record, validate):
    report = validate(record(prepare=reversed_channels, level="inputs"))
    assert report.failed_checks[0].name == "preprocessing"
    assert "reversed channels (BGR instead of RGB)" in report.summary
    assert report.attribution["blame"] == "preprocessing"
    assert "24 have no layers" in check(report, "device_logs").message
    # Its kernels are not to blame, which the outputs tell without layers.
    assert check(report, "kernel_drift").verdict is Verdict.PASSED
    assert len(report.preprocessing["image"]["pictures"]) == 4


def test_what_a_device_computes_otherwise_is_found_at_its_op(record, validate, edge_models):
    report = validate(record())
    depthwise = next(layer["index"] for layer in report.layers if layer["op"] == "DEPTHWISE_CONV_2D")
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    report = validate(record("other.exray", runs=tampering.shift_bias(content, depthwise, 0.3)))
    [failed, *_] = report.failed_checks
    assert failed.name == "kernel_drift"
    assert failed.evidence["layer"] == depthwise
    assert failed.evidence["kernels"] == "device"
    assert report.attribution["blame"] == "kernel"
    assert report.attribution["suspect"]["layer"] == depthwise
    assert report.suspects[0].leg == "kernel"
    drifts = [layer["legs"]["kernel"]["nrmse"] for layer in report.layers]
    assert max(drifts[:depthwise]) == 0
    assert drifts[depthwise] == failed.evidence["nrmse"] > 0.01


def test_legs_without_data_are_told_and_not_guessed(record, validate):
    report = validate(record(prepare=reversed_channels, level="outputs", raw="value"), environments=["xnnpack:2"])
    assert check(report, "preprocessing") is None
    assert check(report, "kernel_drift") is None
    assert check(report, "device_logs").evidence["without"] == {"inputs": FRAMES, "layers": FRAMES}
    assert "device's kernels are in here too" in report.legs["preprocessing"]["note"]
    assert "label_flip_rate" in {found.name for found in report.failed_checks}
    assert report.attribution["blame"] == "preprocessing"
    assert all(not frame["pictures"] for frame in report.worst_frames)


def test_runs_of_several_levels_are_one_log(record, validate):
    record(frames=range(10))
    log = record(frames=range(10, FRAMES), level="outputs", raw="value")
    report = validate(log)
    assert report, report.summary
    assert check(report, "device_logs").evidence["without"] == {"inputs": FRAMES - 10, "layers": FRAMES - 10}
    assert report.legs["kernel"]["outputs"]["probabilities"]["frames"] == 10
    # Those whose layers nobody asked for do not lack them.
    sampled = check(validate(log, layer_frames=6), "device_logs").evidence["without"]
    assert sampled["inputs"] == FRAMES - 10
    assert sampled["layers"] <= 6


def test_a_log_of_another_model_is_refused_with_both_hashes(record, validate, edge_models):
    fingerprints = [EdgeModel(edge_models[mode]).fingerprint for mode in ("dynamic_range", "int8")]
    log = record(model=edge_models["dynamic_range"], frames=range(2))
    with pytest.raises(errors.DataError) as raised:
        validate(log)
    assert all(fingerprint in str(raised.value) for fingerprint in fingerprints)


def test_the_answers_of_several_devices_are_joined_by_id(record, validate, tmp_path):
    record("logs/a.exray", frames=range(4, FRAMES))
    record("logs/b.exray", reversed_channels, device="tablet/7", frames=range(FRAMES - 2))
    report = validate(tmp_path / "logs")
    assert check(report, "preprocessing").verdict is Verdict.PASSED
    assert {place["name"] for place in report.instability["environments"]} == {"edge", "tablet_7"}
    assert report.instability["frames"] == FRAMES - 4
    assert report.instability["instability"] > 0.5
    assert [log["role"] for log in report.device_logs] == ["judged", "environment"]
    assert report.device_logs[1]["alone"] == 4
    assert "tablet_7 is an environment: it logged 22 frames, 4 of which no other device has" in (
        check(report, "device_logs").message
    )


def test_frames_that_cannot_be_replayed_are_counted(record, validate, tmp_path):
    record("logs/a.exray", frames=range(FRAMES - 3))
    log = record("logs/b.exray", frames=range(FRAMES - 3, FRAMES), raw="hash")
    with pytest.raises(errors.DataError, match="raw input 'input' as its hash"):
        validate(log)
    report = validate(tmp_path / "logs", max_failed_frames=3)
    assert report.frames["failed"] == 3
    assert report.frames["count"] == FRAMES - 3
    with pytest.raises(errors.DataError, match="more than 2 frames failed"):
        validate(tmp_path / "logs", max_failed_frames=2)


def test_damage_and_names_of_functions(record, validate, images, edge_models, tmp_path):
    """A function of the app gives its arrays no names; a log that is cut off says so."""
    model = EdgeModel(edge_models["int8"])

    def answer(image: np.ndarray) -> np.ndarray:
        return model.infer({"image": image})["probabilities"]

    path = tmp_path / "run.exray"
    with EdgeMonitor(path, level="inputs", strict=True, policy="block") as monitor:
        for pixels in images[0][:12]:
            with monitor.frame(raw=pixels) as frame:
                frame.run(answer, scaled(pixels)[np.newaxis])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 10 // 12])
    report = validate(path)
    assert 0 < report.frames["count"] < 12
    message = check(report, "device_logs").message
    assert "does not name its model, is damaged at 1 places" in message
    assert "was not closed" in message
