"""Logs that apps wrote, as profiles of their devices."""

import pathlib

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models.tflite import EdgeModel
from edge_exray.monitor import EdgeMonitor, monitor, runners
from edge_exray.monitor.log import read_log
from edge_exray.profiling.device_profile import read_profile, read_profiles
from edge_exray.profiling.hook import OpHook
from edge_exray.profiling.profile import Profile, profile
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.reporting.profile_writer import render_files

PLAIN, TIMED = 40, 12


@pytest.fixture(scope="module")
def app(int8_net, tmp_path_factory) -> pathlib.Path:
    """A folder with two logs of an app: frames whose ops were timed, and frames without that."""
    folder = tmp_path_factory.mktemp("app")
    write(folder / "ops.exray", int8_net, TIMED, hook=OpHook())
    write(folder / "plain.exray", int8_net, PLAIN)
    return folder


def write(path, net, frames, hook=None, **options):
    model = EdgeModel(net, preserve_tensors=True, delegates=[hook] if hook else ())
    spec = model.inputs["image"]
    options = {
        "level": "layers" if hook else "outputs",
        "model": net,
        "strict": True,
        "policy": "block",
        "op_hook": hook,
        "kernels": "xnnpack",
        "threads": 1,
        "app": ("camera", "1.2"),
    } | options
    with EdgeMonitor(path, **options) as monitor:
        for seed in range(frames):
            image = np.random.default_rng(seed).uniform(-1, 1, (1, *spec.shape[1:])).astype(np.float32)
            with monitor.frame(raw=image, id=str(seed)) as frame:
                stored = frame.stage("preprocess", spec.quantization.quantize, image, spec.dtype)
                frame.run(model.interpreter, {"image": stored})


def spans(path, name="inference"):
    return [span.duration_ns / 1e6 for frame in read_log(path) for span in frame.spans[name]]


def test_the_times_are_those_of_the_log(app, int8_net):
    [found] = read_profile(app, int8_net, "pixel6")
    inferences = spans(app / "plain.exray")
    assert (found.role, found.profiler, found.kernels, found.num_threads) == ("edge", "device_log", "xnnpack", 1)
    assert found.latency_ms.runs == PLAIN
    assert found.latency_ms.p50 == pytest.approx(np.median(inferences))
    assert found.latency_ms.p90 == pytest.approx(np.percentile(inferences, 90))
    low, high = found.latency_ms.intervals["p50"]
    assert low < found.latency_ms.p50 < high
    assert found.latency_ms.intervals["p99"] is None
    preprocess = spans(app, "preprocess")
    assert found.device["stages"]["preprocess"]["p50_ms"] == pytest.approx(np.median(preprocess))
    assert found.device["stages"]["preprocess"]["runs"] == PLAIN + TIMED
    assert (found.device["name"], found.device["app"], found.device["frames"]) == ("pixel6", "camera", PLAIN + TIMED)


def test_the_ops_are_those_of_the_model_and_add_up_to_the_whole(app, int8_net):
    [found] = read_profile(app, int8_net)
    graph = EdgeModel(int8_net).graph
    assert [(op.index, op.op) for op in found.ops] == [(op.index, op.name) for op in graph.ops]
    assert sum(op.ms for op in found.ops) == pytest.approx(found.latency_ms.p50)
    first = [op.duration_ns / 1e6 for frame in read_log(app / "ops.exray") for op in frame.ops if op.index == 0]
    assert found.ops[0].raw_ms == pytest.approx(np.median(first))
    assert f"{TIMED} other inferences" in found.profiler_note


def test_a_log_without_timed_ops_has_none(app, int8_net):
    [found] = read_profile(app / "plain.exray", int8_net)
    assert found.ops == []
    assert "no times of ops" in found.profiler_note


def test_a_log_gates_and_stands_beside_this_machine(app, int8_net, tmp_path):
    spec = ProfileSpec(
        max_latency_ms=1e-4,
        max_p99_latency_ms=1e6,
        max_op_type_ms={"CONV_2D": 1e6},
        runs=5,
        warmup_runs=1,
        precision=None,
        max_memory_bytes=10**12,
    )
    found = profile({"edge": int8_net}, spec, device_profiles={"pixel6": app})
    verdicts = {check.name: str(check.verdict) for check in found.checks}
    assert verdicts["latency_p50@pixel6"] == "failed"
    # 40 runs say nothing of the slowest hundredth, and the app's memory is not the model's.
    assert verdicts["latency_p99@pixel6"] == verdicts["memory@pixel6"] == "inconclusive"
    assert verdicts["op_type_ms/CONV_2D@pixel6"] == "passed"
    assert [column["device"] for column in found.comparison["columns"]] == [None, "pixel6"]
    assert {row["index"] for row in found.comparison["ops"]} == {op.index for op in found.models[0].ops}
    assert Profile.from_json(found.to_json()) == found
    page = render_files(found)["profile.html"].decode()
    assert "preprocess" in page


def test_logs_of_other_models_devices_or_conditions_are_refused(app, int8_net, float_net, tmp_path, monkeypatch):
    with pytest.raises(errors.ArtifactError, match="the log is of another model"):
        read_profiles({"pixel6": app}, {"edge": float_net})
    folder = tmp_path / "logs"
    write(folder / "one.exray", int8_net, 2)
    write(folder / "two.exray", int8_net, 2, threads=4)
    with pytest.raises(errors.ArtifactError, match="the files differ in runtime/threads, 1, 4"):
        read_profile(folder, int8_net)
    (folder / "two.exray").unlink()
    monkeypatch.setattr("platform.node", lambda: "board")
    write(folder / "three.exray", int8_net, 3)
    with pytest.raises(errors.ArtifactError, match=r"logs of several devices, .*board"):
        read_profile(folder, int8_net, "pixel6")
    [found] = read_profile(folder, int8_net, "board")
    assert found.latency_ms.runs == 3


def test_a_clock_that_is_too_coarse_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "_now", lambda: 0)
    monkeypatch.setattr(runners, "_now", lambda: 0)
    with EdgeMonitor(tmp_path / "run.exray", strict=True) as log:
        for _ in range(10):
            with log.frame() as frame:
                frame.run(lambda x: x, np.zeros(3))
    with pytest.raises(errors.ArtifactError, match="clock of the device is too coarse"):
        read_profile(tmp_path / "run.exray")


def test_a_log_whose_first_file_is_gone_is_read_on(app, int8_net, tmp_path):
    (tmp_path / "run-00001.exray").write_bytes((app / "plain.exray").read_bytes())
    [found] = read_profiles({"pixel6": tmp_path / "run.exray"}, {"edge": int8_net})
    assert found.latency_ms.runs == PLAIN


def test_a_log_that_tells_no_inference_is_refused(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", strict=True) as monitor, monitor.frame(raw=np.zeros(3)) as frame:
        frame.outputs(np.zeros(1))
    with pytest.raises(errors.ArtifactError, match="no frame tells how long an inference took"):
        read_profile(tmp_path / "run.exray")
