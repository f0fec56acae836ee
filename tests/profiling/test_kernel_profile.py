import json

import pytest

from edge_exray import errors, schemas
from edge_exray.diagnosis.report import Verdict
from edge_exray.profiling.profile import KernelProfile, profile
from edge_exray.profiling.spec import ProfileSpec

FEW = {"runs": 10, "warmup_runs": 1, "precision": None}


@pytest.fixture(scope="module")
def kept(float_net, int8_net):
    spec = ProfileSpec(max_latency_ms=1e6, max_latency_ratio_to_float=1e6, max_size_bytes=10**9, **FEW)
    return profile({"float_edge": float_net, "edge": int8_net}, spec)


def test_generous_budgets_are_kept(kept):
    assert kept
    assert kept.verdict is Verdict.PASSED
    assert [check.name for check in kept.checks] == ["latency_p50", "latency_ratio_to_float", "size"]
    assert [model.role for model in kept.models] == ["edge", "float_edge"]


def test_an_exceeded_budget_fails_and_is_the_summary(int8_net):
    spec = ProfileSpec(max_size_bytes=1, max_latency_ratio_to_float=1, max_memory_bytes=10**12, **FEW)
    failed = profile({"edge": int8_net}, spec)
    assert not failed
    assert failed.verdict is Verdict.FAILED
    assert [check.name for check in failed.failed_checks] == ["size"]
    assert failed.summary == failed.failed_checks[0].message


def test_an_undecided_budget_does_not_pass(int8_net):
    undecided = profile({"edge": int8_net}, ProfileSpec(max_p99_latency_ms=1e6, **FEW))
    assert not undecided
    assert undecided.verdict is Verdict.INCONCLUSIVE
    assert "runs" in undecided.summary


def test_without_a_budget_every_model_passes(int8_net):
    free = profile({"edge": int8_net}, ProfileSpec(**FEW))
    assert free
    assert free.checks == []
    assert "no budget" in free.summary


def test_models_need_an_edge_model(float_net):
    with pytest.raises(errors.ProfilingError, match="float_edge"):
        profile({"float_edge": float_net})


def test_the_document_fits_its_schema_and_reads_back(kept, tmp_path):
    path = tmp_path / "new" / "profile.json"
    kept.save(path)
    schemas.check(json.loads(path.read_text()), "kernel_profile", errors.ArtifactError)
    assert KernelProfile.load(path) == kept
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format_version": 2}'])
def test_a_damaged_document_is_refused(text, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(errors.ArtifactError, match="kernel profile"):
        KernelProfile.load(path)


def test_a_missing_document_is_refused(tmp_path):
    with pytest.raises(errors.ArtifactError, match=r"nowhere\.json"):
        KernelProfile.load(tmp_path / "nowhere.json")
