"""What a report says of a model with many inputs, as models of tables have."""

import pathlib
import re

import models_zoo
import numpy as np
import pytest

import edge_exray
from edge_exray.diagnosis.report import Verdict
from edge_exray.frames.functions import UserFunctions

ROWS = models_zoo.make_rows(60, seed=1)


@pytest.fixture(scope="module")
def table_net(tmp_path_factory) -> dict[str, str]:
    """`models_zoo.save_table_net`: "cloud", "none" and "int8" to path; no signature is named anywhere."""
    folder = tmp_path_factory.mktemp("table_net")
    cloud = models_zoo.save_table_net(folder / "cloud")
    paths = {mode: str(folder / f"{mode}.tflite") for mode in ("none", "int8")}
    calibration = [{name: value[None] for name, value in row.items()} for row in models_zoo.make_rows(60, seed=2)]
    for mode, path in paths.items():
        made = edge_exray.convert(cloud, path, quantization=mode, calibration=calibration)
        assert made.signature == "serving_default"
    return {"cloud": cloud, **paths}


def validate(net, mode, app=None, **options):
    module = UserFunctions(edge_inputs_fn=app)
    return edge_exray.validate(net["cloud"], net[mode], ROWS, module=module, float_edge=net["none"], **options)


def message(report, name: str) -> str:
    return next(c.message for c in report.checks if c.name == name)


def test_one_function_under_two_signatures_needs_no_name(table_net):
    report = validate(table_net, "none")
    assert report
    assert report.models["cloud"]["signature"] == "serving_default"


def test_inputs_that_share_a_scale_are_told_with_the_op_and_the_input_that_cause_it(table_net, tmp_path):
    report = validate(table_net, "int8", out=tmp_path)
    assert report.failed_checks[0].name == "calibration_range"
    found = message(report, "calibration_range")
    assert re.match("Layer 0 CONCATENATION .* gives the 4 inputs that it joins one scale", found)
    assert re.search(r"input grams with .* dominates it", found)
    assert re.search(
        r"is left to share \(0\.\d+%\), ratio \(0\.\d+%\), score \(0\.\d+%\)\. Normalise every input", found
    )
    assert report.failed_checks[0].evidence["layer"] == 0
    assert (report.suspects[0].layer, report.suspects[0].check) == (0, "calibration_range")
    page = (tmp_path / "report.html").read_text()
    start = page[page.index('id="start"') : page.index("</ol>")]
    assert re.findall(r"#layer-(\d+)", start) == ["0"]


def test_all_inputs_that_differ_are_named(table_net):
    def app(row):
        return {**row, "grams": row["grams"] / 1000, "ratio": row["ratio"] + 1, "score": row["score"] * 2}

    found = message(validate(table_net, "none", app), "preprocessing")
    assert re.match("The app prepares input ratio differently: wrong offset", found)
    assert "2 more inputs differ: grams (wrong scale: 0.001 * x), score (wrong scale: 2 * x)." in found
    assert "swap" not in found


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_swapped_inputs_are_named(table_net, scale):
    report = validate(
        table_net, "none", lambda row: {**row, "share": row["ratio"] * scale + 1, "ratio": row["share"] / scale}
    )
    found = message(report, "preprocessing")
    assert re.match("The app swaps the inputs (share and ratio|ratio and share): it feeds each what belongs", found)
    assert "more input" not in found
    assert report.preprocessing["share"]["hypothesis"] == "it holds what belongs to input ratio, the two are swapped"


def test_a_swap_beside_another_difference_is_told_too(table_net):
    def app(row):
        return {**row, "grams": row["grams"] + 9999, "share": row["ratio"], "ratio": row["share"]}

    found = message(validate(table_net, "none", app), "preprocessing")
    assert re.match("The app prepares input grams differently: wrong offset", found)
    assert "2 more inputs differ: share, ratio; ratio and share are swapped." in found


def test_an_unknown_difference_of_two_inputs_is_no_swap(table_net):
    rng = np.random.default_rng(0)

    def app(row):
        return {**row, "share": row["share"] * rng.uniform(), "ratio": row["ratio"] * rng.uniform()}

    found = message(validate(table_net, "none", app), "preprocessing")
    assert "unknown difference" in found
    assert "1 more input differs" in found
    assert "swap" not in found


def test_a_calibration_on_another_scale_is_no_shared_scale(table_net, tmp_path):
    edge = pathlib.Path(tmp_path / "edge.tflite")
    calibration = [{name: value[None] * 100 for name, value in row.items()} for row in models_zoo.make_rows(20)]
    edge_exray.convert(table_net["cloud"], edge, quantization="int8", calibration=calibration)
    report = validate({**table_net, "int8": str(edge)}, "int8")
    failed = report.failed_checks[0]
    assert (failed.name, failed.verdict) == ("calibration_range", Verdict.FAILED)
    assert re.match(r"Input share was calibrated for .*The same holds for ratio, score, grams\. Calib", failed.message)
    assert "calibration_range" not in {suspect.check for suspect in report.suspects}
