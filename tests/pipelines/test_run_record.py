import json

import pytest
from recorded_runs import Recorder

from edge_exray import errors
from edge_exray.pipelines import run_record


@pytest.fixture
def record(tmp_path):
    return Recorder(tmp_path)


@pytest.fixture
def layout(tmp_path):
    return run_record.Layout(tmp_path)


def write_checks(path, *verdicts):
    path.write_text(
        json.dumps({"checks": [{"verdict": v, "message": f"check {i} {v}"} for i, v in enumerate(verdicts)]})
    )


def test_a_pushed_run(layout, record, tmp_path):
    record.gate("one")
    found = run_record.latest_run(layout)
    assert (found.run_id, found.pushed, found.destination) == ("one", True, str(tmp_path / "serving/one"))
    assert (found.model_blessed, found.infra_blessed, found.reasons()) == (True, True, [])


def test_the_last_run_counts_and_says_why_it_was_blocked(layout, record):
    record.gate("one")
    record.gate("two", model=0)
    found = run_record.latest_run(layout)
    write_checks(found.report_dir / "report.json", "passed", "failed", "inconclusive")
    assert (found.run_id, found.pushed, found.destination) == ("two", False, None)
    assert found.reasons() == ["check 1 failed", "check 2 inconclusive"]


def test_a_blown_budget_is_a_reason(layout, record):
    record.gate("one", infra=0)
    found = run_record.latest_run(layout)
    write_checks(found.profile_dir / "profile.json", "failed")
    assert (found.model_blessed, found.reasons()) == (True, ["check 0 failed"])


def test_no_metadata_and_an_unfinished_run_are_errors(layout, record):
    with pytest.raises(errors.ArtifactError, match="no Pusher ran"):
        run_record.latest_run(layout)
    record.gate("one")
    record.gate("two", push=False)
    with pytest.raises(errors.ArtifactError, match="two, did not get as far as a push"):
        run_record.latest_run(layout)
    with pytest.raises(errors.ArtifactError, match="no such file"):
        run_record.latest_run(run_record.Layout(layout.root / "elsewhere"))
    record.gate("three", infra=None)
    with pytest.raises(errors.ArtifactError, match="no run of the demo's pipeline"):
        run_record.latest_run(layout)
