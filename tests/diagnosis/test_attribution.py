"""Each leg is blamed when its fault is injected, and no leg when there is none."""

import functools
import pathlib

import models_zoo
import numpy as np
import pytest
import tampering

from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.report import Report
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay import replayer
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.sampling import sample
from edge_exray.replay.tally import TallyOptions

IMAGES = models_zoo.make_frames(100, seed=2)[0]


@pytest.fixture
def judge(conv_net, edge_models, tmp_path):
    """Judges the int8 model, or another one, on 100 frames."""

    def run(edge=None, twin=None, app=None, kernel_frames=0) -> Report:
        paths = [conv_net]
        for name, content, healthy in (("twin", twin, "none"), ("edge", edge, "int8")):
            path = tmp_path / f"{name}.tflite"
            path.write_bytes(pathlib.Path(edge_models[healthy]).read_bytes() if content is None else content)
            paths.append(str(path))
        functions = UserFunctions(edge_inputs_fn=app and (lambda e: {"image": app(e["image"])}))
        frames = [{"image": image} for image in IMAGES]
        options = TallyOptions(sampling=sample(lambda: frames, functions, 0, kernel_frames))
        stored = replay(
            ModelPaths(*paths, "serving_dense"), frames, tmp_path / "out", functions=functions, options=options
        )
        return diagnose(gather(stored, ValidationSpec()))

    return run


@pytest.fixture
def contents(edge_models):
    return {mode: pathlib.Path(path).read_bytes() for mode, path in edge_models.items()}


def shares(report: Report) -> dict[str, float]:
    return {leg["leg"]: leg["share"] for leg in report.attribution["legs"]}


def test_nobody_is_blamed_when_all_is_well(judge):
    report = judge()
    assert report
    found = report.attribution
    assert (found["blame"], found["suspect"], found["output"]) == (None, None, "probabilities")
    assert list(shares(report)) == ["quantization", "conversion", "preprocessing"]
    assert shares(report)["quantization"] > 0.999
    assert found["sentence"].endswith("100.0% quantization, 0.0% conversion, 0.0% preprocessing: no leg is to blame.")


def test_a_model_that_is_its_own_twin_has_no_error(judge, contents):
    found = judge(edge=contents["none"]).attribution
    assert found["blame"] is None
    assert [leg["leg"] for leg in found["legs"]] == ["conversion", "preprocessing"]


def test_the_app_is_blamed_for_its_inputs(judge):
    report = judge(app=lambda image: np.ascontiguousarray(image[..., ::-1]))
    assert report.attribution["blame"] == "preprocessing"
    assert report.attribution["suspect"] is None
    assert shares(report)["preprocessing"] > 0.99
    assert sum(shares(report).values()) == pytest.approx(1)
    assert "the preprocessing leg is to blame" in report.attribution["sentence"]


def test_the_conversion_is_blamed_for_other_constants(judge, contents):
    changed = tampering.scale_weights(contents["none"], 1, 3.0)
    report = judge(edge=changed, twin=changed)
    assert report.attribution["blame"] == "conversion"
    assert shares(report)["conversion"] > 0.99
    assert (report.attribution["suspect"]["layer"], report.attribution["suspect"]["own_ratio"]) == (1, None)


def test_the_quantization_is_blamed_with_the_op_and_what_the_file_shows(judge, contents):
    report = judge(edge=tampering.set_constant(contents["int8"], 1, 2, 2**31 - 1, share=0.25))
    found = report.attribution
    layer = report.layers[1]
    assert found["blame"] == "quantization"
    assert shares(report)["quantization"] > 0.99
    suspect = found["suspect"]
    assert (suspect["layer"], suspect["op"], suspect["name"]) == (1, "DEPTHWISE_CONV_2D", layer["name"])
    assert suspect["cloud_tensor"] == layer["cloud_tensor"]
    assert suspect["quantization"] == layer["quantization"]
    assert suspect["own_nrmse"] == layer["own_error"]["nrmse"] > 10 * suspect["inherited_nrmse"]
    assert suspect["own_ratio"] > 6
    assert [finding["rule"] for finding in suspect["lint"]] == ["saturated_bias"]


def test_the_kernels_are_blamed_when_others_compute_something_else(judge, contents, monkeypatch):
    other = tampering.scale_weights(contents["int8"], 1, 3.0)
    with monkeypatch.context() as patch:
        patch.setattr(replayer, "KernelLeg", functools.partial(replayer.KernelLeg, other=other))
        report = judge(kernel_frames=2)
    assert (report.attribution["blame"], report.attribution["suspect"]["layer"]) == ("kernel", 1)
    assert shares(report)["kernel"] > 0.5
    assert sum(shares(report).values()) == pytest.approx(1)


def test_the_leg_that_makes_nan_has_all_of_the_error(judge, contents):
    report = judge(edge=tampering.scale_weights(contents["none"], 1, np.nan))
    assert report.attribution["blame"] == "quantization"
    assert shares(report) == {"quantization": 1, "conversion": 0, "preprocessing": 0}
    assert "NaN or infinite values" in report.attribution["sentence"]
    assert report.attribution["suspect"]["layer"] == 1


def test_what_weighs_most_is_blamed_where_the_answers_are_wrong(judge, contents):
    """An app that is a little off does not take the blame for a model that is wrong."""
    report = judge(
        edge=tampering.scale_weights(contents["int8"], 4, -1.0), app=lambda image: (image * 0.97).astype(np.float32)
    )
    failed = {check.name for check in report.failed_checks}
    assert {"preprocessing", "label_flip_rate", "own_error"} <= failed
    assert report.attribution["blame"] == "quantization"


def test_shares_are_those_of_the_squared_errors(judge):
    """Against the definition, from the stored drifts of the output."""
    report = judge(app=lambda image: (image * 0.9).astype(np.float32))
    squares = {
        leg: found["outputs"]["probabilities"]["rmse"] ** 2 for leg, found in report.legs.items() if found["ran"]
    }
    whole = sum(squares.values())
    assert shares(report) == pytest.approx({leg: square / whole for leg, square in squares.items()})
    assert 0.01 < shares(report)["quantization"] < 0.99
