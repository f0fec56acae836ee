"""A model that is worse than the last blessed one fails, and one that is only different does not."""

import dataclasses
import functools
import pathlib
from typing import Any

import models_zoo
import pytest
import tampering

import edge_exray
from edge_exray import errors
from edge_exray.diagnosis.baseline import FIRST, Baseline
from edge_exray.diagnosis.checks.regression import regression
from edge_exray.diagnosis.evidence import Evidence, gather
from edge_exray.diagnosis.report import Report
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths


@pytest.fixture(scope="module")
def evidence(conv_net, edge_models, tmp_path_factory) -> Evidence:
    """Of a healthy int8 model, on 100 labelled frames."""
    paths = ModelPaths(conv_net, edge_models["none"], edge_models["int8"], "serving_dense")
    images, labels = models_zoo.make_frames(100, seed=2)
    frames = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    return gather(replay(paths, frames, tmp_path_factory.mktemp("replay") / "out"), ValidationSpec(max_accuracy_drop=1))


@pytest.fixture(scope="module")
def healthy(evidence) -> Report:
    return diagnose(evidence)


def compared(evidence: Evidence, before: Report, *, agreement=None, **limits) -> Report:
    """Judges the evidence with a baseline, and with other answers when they are given."""
    spec = dataclasses.replace(evidence.spec, **limits)
    made = dataclasses.replace(evidence, spec=spec, baseline=Baseline("last/report.json", before))
    if agreement:
        made.__dict__["agreement"] = agreement  # where the cached property keeps it
    return diagnose(made)


def figure(report: Report, name: str):
    return next(f for f in report.baseline["figures"] if f["name"] == name)


def check(report: Report):
    return next(c for c in report.checks if c.name == "regression")


def test_a_model_is_no_worse_than_itself(evidence, healthy):
    report = compared(evidence, healthy)
    assert report
    assert report.baseline["report"] == "last/report.json"
    assert [f["name"] for f in report.baseline["figures"]] == [
        "output_nrmse",
        "label_flip_rate",
        "accuracy",
        "worst_own_error",
    ]
    assert all(f["now"] == pytest.approx(f["baseline"]) and not f["regressed"] for f in report.baseline["figures"])
    assert Report.from_dict(report.to_dict()).baseline == report.baseline


def test_without_a_blessed_model_it_passes_and_says_so(evidence):
    first = diagnose(dataclasses.replace(evidence, baseline=FIRST))
    assert first
    assert check(first).message == "No model was blessed before this one: there is nothing to compare with."
    assert first.baseline is None
    assert regression(evidence) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("output_nrmse", lambda r: {"attribution": {**r.attribution, "nrmse": 1e-4}}),
        (
            "worst_own_error",
            lambda r: {
                "layers": [
                    {**la, "own_error": la["own_error"] and {**la["own_error"], "ratio": 0.1}} for la in r.layers
                ]
            },
        ),
    ],
)
def test_growth_of_what_is_as_good_as_it_gets_does_not_count(evidence, healthy, name, change):
    before = dataclasses.replace(healthy, **change(healthy))
    small = compared(evidence, before)
    assert figure(small, name)["now"] > 2 * figure(small, name)["baseline"]
    assert not figure(small, name)["regressed"]


@pytest.mark.parametrize(
    ("flips", "frames", "regressed"),
    [(0, 1000, True), (0, 3, False), (250, 1000, False), (290, 1000, False), (400, 1000, False)],
)
def test_shares_count_when_they_grew_by_more_than_chance(evidence, healthy, flips, frames, regressed):
    """30 of 100 frames flip now; Fisher's exact test of 30 of 100 against 250 of 1000 gives 0.17, one-sided."""
    accuracy = {**healthy.accuracy, "label_flip_rate": flips / frames}
    before = dataclasses.replace(healthy, accuracy=accuracy, frames={**healthy.frames, "count": frames})
    report = compared(evidence, before, agreement=dataclasses.replace(evidence.agreement, flips=30))
    found = figure(report, "label_flip_rate")
    assert found["now"] == 0.3
    assert found["regressed"] is regressed


def test_accuracy_that_fell_is_named(evidence, healthy):
    before = dataclasses.replace(healthy, accuracy={**healthy.accuracy, "edge": 1.0})
    fell = dataclasses.replace(evidence.agreement, cloud_right=80, edge_right=80, both_right=80)
    report = compared(evidence, before, agreement=fell)
    assert [c.name for c in report.failed_checks] == ["regression"]
    assert report.summary == (
        "The edge model must not ship. The model is worse than the last blessed one: accuracy was 1 and is 0.8. Look "
        "at what changed since last/report.json."
    )
    assert compared(evidence, before, agreement=fell, max_share_growth=0.25)


def _kernels(p50: float) -> dict[str, Any]:
    """What the check reads of a kernel profile."""
    model = {"role": "edge", "kernels": "xnnpack", "num_threads": 1, "latency_ms": {"p50": p50}}
    return {"models": [{**model, "role": "float_edge", "latency_ms": {"p50": 9.0}}, model], "environment": {"cpus": 2}}


def test_times_are_compared_on_the_same_machine_only(evidence, healthy):
    kernels = _kernels(1.25)
    slower = _kernels(1.6)
    before = dataclasses.replace(healthy, kernels=kernels)
    now = dataclasses.replace(evidence, kernels=slower)
    assert figure(compared(now, before), "latency_ms") == {
        "name": "latency_ms",
        "baseline": 1.25,
        "now": 1.6,
        "regressed": True,
    }
    assert not compared(now, before)
    assert compared(now, before, max_latency_growth=1.3)
    elsewhere = dataclasses.replace(evidence, kernels={**slower, "environment": {"cpus": 4}})
    assert "latency_ms" not in [f["name"] for f in compared(elsewhere, before).baseline["figures"]]


def test_validate_compares_with_a_report_and_names_the_regression(conv_net, edge_models, tmp_path):
    """The limits let the damage pass; the last blessed model was better."""
    images, labels = models_zoo.make_frames(30, seed=2)
    frames = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    limit = ValidationSpec(max_own_error=50, max_label_flip_rate=1, max_accuracy_drop=1)
    run = functools.partial(
        edge_exray.validate,
        conv_net,
        examples=frames,
        float_edge=edge_models["none"],
        signature="serving_dense",
        spec=limit,
    )
    run(edge_models["int8"], out=tmp_path / "last")
    worse = tmp_path / "worse.tflite"
    worse.write_bytes(tampering.scale_output_step(pathlib.Path(edge_models["int8"]).read_bytes(), 4, 0.5))
    alone = run(worse)
    report = run(worse, baseline=tmp_path / "last" / "report.json")
    assert [c.name for c in report.failed_checks] == [*(c.name for c in alone.failed_checks), "regression"]
    assert {f["name"] for f in report.baseline["figures"] if f["regressed"]} >= {"worst_own_error"}
    with pytest.raises(errors.ArtifactError, match=r"nowhere\.json is not a readable report"):
        run(worse, baseline=tmp_path / "nowhere.json")
