import dataclasses

import pytest

from edge_exray import errors
from edge_exray.profiling.device_budgets import check_devices
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime
from edge_exray.profiling.spec import ProfileSpec

EDGE = ModelProfile(
    role="edge@phone",
    path="net.tflite",
    bytes=None,
    kernels="gpu",
    num_threads=None,
    profiler="benchmark_model",
    latency_ms=Latency(10.0, None, None, 10.0, 50, {"p50": [9.0, 11.0], "p90": [10.0, 14.0], "p99": None}),
    init_ms=None,
    memory_bytes=None,
    ops=[OpTime(0, "CONV_2D", "net/conv;x", "gpu", 8.0, 8.0, 0.8)],
    device={"name": "phone", "source": "phone.txt"},
)


def checks(spec, *profiles):
    return {check.name: check for check in check_devices(profiles or (EDGE,), ProfileSpec(**spec))}


@pytest.mark.parametrize(
    ("spec", "verdict"),
    [
        ({"max_latency_ms": 11}, "passed"),
        ({"max_latency_ms": 10}, "inconclusive"),
        ({"max_latency_ms": 8.9}, "failed"),
        ({"max_p90_latency_ms": 14}, "passed"),
        ({"max_p90_latency_ms": 12}, "inconclusive"),
        ({"max_p90_latency_ms": 9}, "failed"),
        ({"max_p99_latency_ms": 1e6}, "inconclusive"),
        ({"max_memory_bytes": 10**9}, "inconclusive"),
        ({"max_latency_ratio_to_float": 100}, "inconclusive"),
    ],
)
def test_the_bounds_decide(spec, verdict):
    (check,) = checks(spec).values()
    assert check.verdict.value == verdict
    assert check.name.endswith("@phone")
    assert "phone" in check.message


def test_what_is_over_a_budget_is_named_with_figures_and_the_slowest_op():
    (check,) = checks({"max_latency_ms": 8.9}).values()
    assert check.message == (
        "p50 latency lies between 9 and 11 ms (phone, gpu kernels, 50 runs), over the budget of 8.9 ms; the slowest "
        "ops there are CONV_2D 8 ms (net/conv)"
    )
    assert check.evidence == {"lower": 9.0, "upper": 11.0, "budget": 8.9, "source": "phone.txt"}


def test_the_ratio_is_that_of_the_same_machine():
    on_phone = dataclasses.replace(EDGE, role="float_edge@phone", latency_ms=Latency(20.0, None, None, 20.0, 50))
    elsewhere = dataclasses.replace(on_phone, role="float_edge@board")
    spec = {"max_latency_ratio_to_float": 0.56}
    assert checks(spec, EDGE, on_phone)["latency_ratio_to_float@phone"].verdict.value == "passed"
    assert checks(spec, EDGE, elsewhere)["latency_ratio_to_float@phone"].verdict.value == "inconclusive"
    assert checks({"max_latency_ratio_to_float": 0.4}, EDGE, on_phone)[
        "latency_ratio_to_float@phone"
    ].message.startswith("p50 latency relative to the float edge model's lies between 0.45 and 0.55 times")


def test_memory_and_points_without_bounds():
    told = dataclasses.replace(EDGE, memory_bytes=5_000_000, latency_ms=Latency(10.0, 12.0, 13.0, 10.5, 50))
    found = checks({"max_memory_bytes": 4_000_000, "max_p90_latency_ms": 12, "max_p99_latency_ms": 12.9}, told)
    assert {name: str(check.verdict) for name, check in found.items()} == {
        "latency_p90@phone": "passed",
        "latency_p99@phone": "failed",
        "memory@phone": "failed",
    }
    assert "memory is 5,000,000 bytes" in found["memory@phone"].message


def test_without_a_budget_there_is_nothing_to_check():
    assert not checks({})


def board(p50, ops, role="edge@board", **changed):
    """A profile with exact figures of the latency, and ops as type and milliseconds."""
    times = [OpTime(i, kind, f"t{i}", "cpu", ms, ms, 0.1) for i, (kind, ms) in enumerate(ops)]
    latency = Latency(p50, p50, None, p50, 50)
    device = {"name": "board", "source": "board.txt"}
    return dataclasses.replace(EDGE, role=role, latency_ms=latency, ops=times, device=device, **changed)


@pytest.mark.parametrize(
    ("budget", "verdict"), [(5.0, "passed"), (4.0, "inconclusive"), (2.9, "failed")], ids=["kept", "between", "over"]
)
def test_types_of_ops_are_judged_by_what_a_delegate_may_hide_of_them(budget, verdict):
    edge = board(10.0, [("CONV_2D", 1.0), ("CONV_2D", 2.0), ("DELEGATE", 1.5), ("SOFTMAX", 5.5)])
    (check,) = checks({"max_op_type_ms": {"CONV_2D": budget}}, edge).values()
    assert check.name == "op_type_ms/CONV_2D@board"
    assert check.verdict.value == verdict
    assert (check.evidence["lower"], check.evidence["upper"]) == (3.0, 4.5)


def test_types_of_ops_are_compared_with_the_float_model_of_the_same_machine():
    edge = board(10.0, [("CONV_2D", 6.0), ("SOFTMAX", 4.0)])
    float_edge = board(20.0, [("CONV_2D", 3.0), ("ADD", 4.0)], role="float_edge@board")
    spec = {"max_op_type_ratio_to_float": {"CONV_2D": 1.9, "SOFTMAX": 1.0}}
    found = checks(spec, edge, float_edge)
    assert found["op_type_ratio_to_float/CONV_2D@board"].verdict.value == "failed"
    assert found["op_type_ratio_to_float/CONV_2D@board"].evidence["lower"] == 2.0
    assert "the float edge model has no SOFTMAX" in found["op_type_ratio_to_float/SOFTMAX@board"].message
    for each in checks(spec, edge).values():
        assert "add board.float_edge=FILE" in each.message


def test_types_of_ops_need_a_profile_of_ops_and_must_exist():
    (check,) = checks({"max_op_type_ms": {"CONV_2D": 1e6}}, board(10.0, [])).values()
    assert check.verdict.value == "inconclusive"
    assert "no times of ops" in check.message
    with pytest.raises(errors.SpecError, match=r"CONV2D.*did you mean CONV_2D"):
        checks({"max_op_type_ms": {"CONV2D": 1}}, EDGE)


def test_growth_is_that_of_the_same_machine_under_the_same_conditions():
    def regression(now, *before):
        (check,) = check_devices([now], ProfileSpec(max_latency_growth=1.1), before)
        assert check.name == "regression@board"
        return check

    then = board(10.0, [])
    assert regression(board(10.5, []), then).verdict.value == "passed"
    slower = regression(board(12.0, []), then)
    assert (slower.verdict.value, slower.evidence["lower"]) == ("failed", pytest.approx(1.2 / 1.03))
    # From one time to another it may be that much.
    assert regression(board(11.2, []), then).verdict.value == "inconclusive"
    # Not yet measured there, as every model at first.
    assert regression(board(12.0, []), EDGE).verdict.value == "passed"
    assert regression(board(12.0, [])).verdict.value == "passed"
    changed = regression(board(12.0, []), dataclasses.replace(then, kernels="cpu", num_threads=4))
    assert changed.verdict.value == "inconclusive"
    assert "kernels gpu against cpu, threads None against 4" in changed.message
