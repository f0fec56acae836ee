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
        edge: str | bytes = edge_models["int8"],
        device: str = "phone",
        frames: range = range(FRAMES),
        **options,
    ) -> pathlib.Path:
        options = {"level": "layers", "model": edge, "strict": True, "policy": "block"} | options
        model = EdgeModel(edge, preserve_tensors=True, signature="serving_dense")
        spec = model.inputs["image"]
        path = tmp_path / name
        monitor = EdgeMonitor(path, **options)
        monitor._facts["device/name"] = device
        with monitor:
            for index in frames:
                pixels, label = images[0][index], int(images[1][index])
                with monitor.frame(raw=pixels, id=f"f{index}") as frame:
                    x = frame.stage("preprocess", prepare, pixels)[np.newaxis]
                    x = spec.quantization.quantize(x, spec.dtype) if spec.quantization else x
                    frame.log(label=label)
                    frame.run(model.interpreter, {"image": x})
        return path

    return write


@pytest.fixture
def validate(conv_net, edge_models) -> Callable[..., Report]:
    def run(*logs: pathlib.Path, edge: str | pathlib.Path = edge_models["int8"], **options) -> Report:
        options = {"float_edge": edge_models["none"], "signature": "serving_dense", "spec": SPEC} | options
        return edge_exray.validate(conv_net, edge, logs=logs, **{"module": MODULE} | options)

    return run


def check(report: Report, name: str):
    return next((c for c in report.checks if c.name == name), None)


def test_a_device_that_does_what_it_should_passes(record, validate, tmp_path):
    report = validate(record(), out=tmp_path / "out")
    assert report, report.summary
    assert report.frames["count"] == report.frames["labelled"] == FRAMES
    assert report.accuracy["cloud"] > 0.9
    # The same runtime on the same inputs.
    assert report.legs["kernel"]["outputs"]["probabilities"]["rmse"] == 0
    assert report.legs["preprocessing"]["outputs"]["probabilities"]["rmse"] < 1e-3
    kernel_drift = check(report, "kernel_drift")
    assert kernel_drift.verdict is Verdict.PASSED
    assert kernel_drift.evidence["compared"] == len(report.layers)
    assert check(report, "device_logs").evidence["without"] == {"inputs": 0, "layers": 0}
    [device] = Report.load(tmp_path / "out" / "report.json").device_logs
    assert device["device"] == "phone"
    assert device["stages"]["inference"]["frames"] == FRAMES
    assert {line["id"] for line in edge_exray_frames(tmp_path / "out")} == {f"f{i}" for i in range(FRAMES)}


def edge_exray_frames(out: pathlib.Path):
    from edge_exray.replay.result import ReplayResult

    return ReplayResult.open(out / "replay").frames()
