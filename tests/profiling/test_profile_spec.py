import dataclasses
import json

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.profiling.spec import ProfileSpec


def test_the_empty_document_sets_no_budget():
    assert ProfileSpec.from_json(None) == ProfileSpec.from_json("{}") == ProfileSpec()
    bounds_of_the_runs = {"max_runs", "max_seconds"}
    assert all(
        value is None
        for key, value in vars(ProfileSpec()).items()
        if key.startswith("max_") and key not in bounds_of_the_runs
    )


def test_the_canonical_document_reads_back():
    spec = ProfileSpec(max_latency_ms=1.5, max_size_bytes=10, kernels="builtin", num_threads=2)
    assert ProfileSpec.from_json(spec.to_json()) == spec
    shuffled = dict(reversed(json.loads(spec.to_json()).items()))
    assert ProfileSpec.from_dict(shuffled).to_json() == spec.to_json()


@pytest.mark.parametrize(
    "document",
    [
        {"max_latency": 3},
        {"max_latency_ms": 0},
        {"max_latency_ms": "fast"},
        {"max_size_bytes": 1.5},
        {"kernels": "gpu"},
        {"num_threads": 0},
        {"runs": 0},
        {"precision": 0},
        {"confidence": 1},
        {"profiler": "gdb"},
        {"on_noise": "shrug"},
        {"max_op_type_ms": {"CONV_2D": 0}},
    ],
)
def test_an_unknown_key_or_impossible_value_is_named(document):
    (key,) = document
    with pytest.raises(errors.SpecError, match=f"profile spec.*{key}"):
        ProfileSpec.from_dict(document)


@pytest.mark.parametrize("values", [{"max_latency_ms": "5"}, {"max_latency_ms": -5}, {"kernels": "gpu"}])
def test_the_class_refuses_what_the_document_may_not_say(values):
    (key,) = values
    with pytest.raises(errors.SpecError, match=f"profile spec: {key}: "):
        ProfileSpec(**values)
    with pytest.raises(errors.SpecError, match=f"profile spec: {key}: "):
        dataclasses.replace(ProfileSpec(), **values)


def test_a_value_of_no_json_type_is_refused():
    with pytest.raises(errors.SpecError, match="float32 is not JSON serializable"):
        ProfileSpec(max_latency_ms=np.float32(5))


def test_a_spec_is_taken_in_every_form(tmp_path):
    spec, path = ProfileSpec(max_latency_ms=5), tmp_path / "budget.json"
    path.write_text(spec.to_json())
    for form in (spec, {"max_latency_ms": 5}, ' {"max_latency_ms": 5}', path, str(path)):
        assert ProfileSpec.from_any(form) == spec
    assert ProfileSpec.from_any(None) == ProfileSpec()
    with pytest.raises(errors.SpecError, match=r"cannot read the profile spec .*nowhere\.json: No such file"):
        ProfileSpec.from_any(tmp_path / "nowhere.json")
    with pytest.raises(errors.SpecError, match=r"profile spec is a int: give a ProfileSpec, a dict"):
        ProfileSpec.from_any(5)


def test_a_misspelt_key_is_told_with_the_right_one_and_its_file():
    with pytest.raises(
        errors.SpecError, match=r"profile spec budget\.json has the unknown key max_latency; did you mean"
    ):
        ProfileSpec.from_json('{"max_latency": 3}', "budget.json")
    with pytest.raises(
        errors.SpecError, match=r"profile spec has the unknown key zebra\. Its keys are max_latency_ms, "
    ):
        ProfileSpec.from_json('{"zebra": 3}')
    with pytest.raises(errors.SpecError, match=r"profile spec budget\.json: runs: 0 is less than the minimum"):
        ProfileSpec.from_json('{"runs": 0}', "budget.json")
    with pytest.raises(errors.SpecError, match=r"profile spec budget\.json: .*\[\] is not of type 'object'"):
        ProfileSpec.from_json("[]", "budget.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n", r"profile spec .*budget\.json is empty"),
        ('{"max_latency_ms": NaN}', "NaN is no number"),
        ('{"max_latency_ms": Infinity}', "Infinity is no number"),
        ('{"max_latency_ms": 1, "max_latency_ms": 50}', "the key max_latency_ms twice"),
    ],
)
def test_a_file_that_would_turn_the_gate_off_by_mistake_is_refused(text, reason, tmp_path):
    (tmp_path / "budget.json").write_text(text)
    with pytest.raises(errors.SpecError, match=reason):
        ProfileSpec.from_any(tmp_path / "budget.json")


def test_a_budget_that_is_no_number_is_refused():
    with pytest.raises(errors.SpecError, match="not JSON compliant"):
        ProfileSpec(max_latency_ms=float("nan"))
