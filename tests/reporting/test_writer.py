import json
from xml.etree import ElementTree

import pytest
import report_factory as factory

from edge_exray import errors, schemas
from edge_exray.diagnosis.report import Report
from edge_exray.reporting import writer

NAMES = ["junit.xml", "model_explorer", "report.html", "report.json", "summary.md"]
OVERLAYS = ["conversion_nrmse.json", "inherited_error.json", "own_error.json", "quantization_nrmse.json"]


def test_writes_all_files(tmp_path):
    report = factory.report(kernels=factory.kernels())
    page = writer.write_report(report, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == NAMES
    assert sorted(p.name for p in page.with_name("model_explorer").iterdir()) == OVERLAYS
    schemas.check(json.loads((page.parent / "report.json").read_text("utf-8")), "report", errors.ArtifactError)
    assert Report.load(page.parent / "report.json") == report
    assert ElementTree.parse(page.parent / "junit.xml").getroot().get("tests") == "4"
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_replaces_an_older_report(tmp_path):
    writer.write_report(factory.report(summary="Old."), tmp_path)
    float_layers = [{**factory.layer(0), "own_error": None}]
    writer.write_report(factory.report(summary="New.", layers=float_layers), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == NAMES
    left = sorted(p.name for p in (tmp_path / "model_explorer").iterdir())
    assert left == ["conversion_nrmse.json", "quantization_nrmse.json"]
    assert "New." in (tmp_path / "summary.md").read_text("utf-8")
    assert Report.load(tmp_path / "report.json").summary == "New."
    assert "Old." not in (tmp_path / "report.html").read_text("utf-8")


def test_a_lone_surrogate_in_a_name_is_written(tmp_path):
    page = writer.write_report(factory.report(layers=[factory.layer(0, name="a\ud800b")]), tmp_path)
    assert "a\\ud800b" in page.read_text("utf-8")


def test_a_report_that_breaks_the_schema_writes_nothing(tmp_path):
    with pytest.raises(errors.ArtifactError, match="summary"):
        writer.write_report(factory.report(summary=""), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_no_temporary_file(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(errors.ArtifactError, match=r"cannot write .*report\.html: Is a directory"):
        writer.write_report(factory.report(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == NAMES
