import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

from edge_exray import errors, schemas
from edge_exray.diagnosis.report import Verdict
from edge_exray.profiling.profile import Profile, profile
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
    assert free.summary.startswith("Measured; no budget is set: p50 latency ")


def test_models_need_an_edge_model(float_net):
    with pytest.raises(errors.ProfilingError, match="float_edge"):
        profile({"float_edge": float_net})


def test_the_document_fits_its_schema_and_reads_back(kept, tmp_path):
    path = tmp_path / "new" / "profile.json"
    kept.save(path)
    schemas.check(json.loads(path.read_text()), "kernel_profile", errors.ArtifactError)
    assert Profile.load(path) == kept
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format_version": 2}'])
def test_a_damaged_document_is_refused(text, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(errors.ArtifactError, match=rf"kernel profile {re.escape(str(path))}"):
        Profile.load(path)


def test_a_folder_stands_for_its_document(kept, tmp_path):
    with pytest.raises(errors.ArtifactError, match=r"cannot read the kernel profile .*profile\.json: No such file"):
        Profile.load(tmp_path)
    kept.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path) == kept


def test_a_signature_that_the_edge_model_lacks_is_an_error_that_names_those_it_has(int8_net):
    with pytest.raises(errors.ModelError, match=r"has no signature 'nope', only \['serving_default'\]"):
        profile({"edge": int8_net}, ProfileSpec(**FEW), signature="nope")


def test_a_missing_document_is_refused(tmp_path):
    with pytest.raises(errors.ArtifactError, match=r"nowhere\.json"):
        Profile.load(tmp_path / "nowhere.json")


def test_a_baseline_is_timed_again_while_its_file_is_the_same(float_net, int8_net, loop_net, tmp_path):
    last = tmp_path / "last.tflite"
    last.write_bytes(pathlib.Path(float_net).read_bytes())
    baseline = profile({"edge": last}, ProfileSpec(**FEW))
    spec = ProfileSpec(max_latency_growth=1e6, **FEW)

    again = profile({"edge": int8_net}, spec, baseline=baseline)
    assert again.verdict is Verdict.PASSED
    assert [model.role for model in again.models] == ["edge", "baseline"]
    assert again.models[1].edge_ratio["interval"] is not None
    assert "pairs of blocks that were timed in turn" in again.checks[0].message
    assert "same file" not in again.checks[0].message

    last.write_bytes(pathlib.Path(int8_net).read_bytes())
    stored = profile({"edge": int8_net}, spec, baseline=baseline)
    assert stored.verdict is Verdict.PASSED
    assert [model.role for model in stored.models] == ["edge"]
    assert "which was not timed again; both are counted in runs of a fixed op" in stored.checks[0].message
    assert stored.checks[0].evidence["baseline_ms"] == baseline.models[0].latency_ms.p50

    # Nor is one that takes other inputs.
    feeds = [{"image": np.zeros((1, 16, 16, 3), np.float32)}]
    of_a_loop = profile({"edge": loop_net}, ProfileSpec(**FEW))
    assert [model.role for model in profile({"edge": int8_net}, spec, feeds, baseline=of_a_loop).models] == ["edge"]

    elsewhere = dataclasses.replace(baseline, machine={**baseline.machine, "cpu": "another"})
    assert profile({"edge": int8_net}, spec, baseline=elsewhere).verdict is Verdict.INCONCLUSIVE

    with pytest.raises(errors.SpecError, match=r"no max_latency_growth.*leave the baseline out"):
        profile({"edge": int8_net}, ProfileSpec(**FEW), baseline=baseline)
