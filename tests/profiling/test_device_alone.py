"""Models that this machine does not run, judged by what another machine measured."""

import pathlib

import pytest
import tampering

from edge_exray import errors
from edge_exray.diagnosis.report import Verdict
from edge_exray.profiling.profile import Profile, profile
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.reporting.profile_writer import render_files

PHONE = "count=50 first=9000 curr=9500 min=9000 max=12000 avg=10000 std=200\n"


@pytest.fixture
def flex(int8_net, tmp_path) -> str:
    path = tmp_path / "flex.tflite"
    path.write_bytes(tampering.replace_op(pathlib.Path(int8_net).read_bytes(), 5, "FlexSoftmax"))
    return str(path)


@pytest.fixture
def phone(tmp_path) -> str:
    path = tmp_path / "phone.txt"
    path.write_text(PHONE)
    return str(path)


@pytest.mark.parametrize(("budget", "verdict"), [(13.0, Verdict.PASSED), (8.0, Verdict.FAILED)])
def test_the_other_machine_decides_alone_and_the_failed_leg_is_told(flex, phone, budget, verdict):
    found = profile(
        {"edge": flex}, ProfileSpec(max_latency_ms=budget, max_size_bytes=10**6), device_profiles={"phone": phone}
    )
    assert found.verdict is verdict
    assert [check.name for check in found.checks] == ["size", "latency_p50@phone"]
    assert [model.role for model in found.models] == ["edge@phone"]
    assert "not measured here, only on phone" in found.summary
    assert "FlexSoftmax" in found.summary
    [left_out] = found.unmeasured
    assert (left_out.role, left_out.path) == ("edge", flex)
    assert "FlexSoftmax" in left_out.reason
    assert Profile.from_json(found.to_json()) == found
    page = render_files(found)["profile.html"].decode()
    assert "FlexSoftmax" in page
    assert "not measured here" in page


def test_without_a_budget_for_it_or_without_it_that_is_an_error(flex, phone):
    with pytest.raises(errors.UnrunnableError, match=r"FlexSoftmax.*[Nn]or is there a budget.*max_latency_ms"):
        profile({"edge": flex}, ProfileSpec(max_size_bytes=10**6), device_profiles={"phone": phone})
    with pytest.raises(errors.UnrunnableError, match=r"FlexSoftmax.*device profile"):
        profile({"edge": flex}, ProfileSpec(max_latency_ms=10))


def test_another_model_that_does_not_run_here_is_still_an_error(int8_net, flex, phone):
    spec = ProfileSpec(max_latency_ms=1e6)
    with pytest.raises(errors.UnrunnableError, match="FlexSoftmax"):
        profile({"edge": int8_net, "float_edge": flex}, spec, device_profiles={"phone": phone})
