import dataclasses

import pytest

from edge_exray.diagnosis.report import Verdict
from edge_exray.profiling.budget import check_budgets
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime
from edge_exray.profiling.spec import ProfileSpec


def make_profile(role="edge", p50=2.0, runs=100):
    ops = [
        OpTime(0, "CONV_2D", "stem/Relu6;stem/conv", "xnnpack", 0.2 * p50, 0.4, 0.2),
        OpTime(1, "DEPTHWISE_CONV_2D", "middle", "xnnpack", 0.7 * p50, 1.4, 0.7),
        OpTime(2, "SOFTMAX", "probabilities", "builtin", 0.1 * p50, 0.2, 0.1),
    ]
    latency = Latency(p50, 2 * p50, 3 * p50, p50, runs)
    return ModelProfile(role, f"{role}.tflite", 1000, "xnnpack", 1, "hook", latency, 1.0, 5000, ops)


PROFILES = [make_profile(), make_profile("float_edge", p50=1.0)]


@pytest.mark.parametrize(
    ("key", "measured", "name", "said"),
    [
        ("max_latency_ms", 2.0, "latency_p50", "2 ms"),
        ("max_p90_latency_ms", 4.0, "latency_p90", "4 ms"),
        ("max_p99_latency_ms", 6.0, "latency_p99", "6 ms"),
        ("max_latency_ratio_to_float", 2.0, "latency_ratio_to_float", "2 times"),
        ("max_size_bytes", 1000, "size", "1,000 bytes"),
        ("max_memory_bytes", 5000, "memory", "5,000 bytes"),
    ],
)
def test_a_budget_fails_just_below_the_figure_and_passes_at_it(key, measured, name, said):
    too_small = measured - 1 if isinstance(measured, int) else 0.999 * measured
    (failed,) = check_budgets(PROFILES, ProfileSpec(**{key: too_small}))
    assert (failed.name, failed.verdict) == (name, Verdict.FAILED)
    assert said in failed.message
    assert key in failed.message

    (passed,) = check_budgets(PROFILES, ProfileSpec(**{key: measured}))
    assert (passed.name, passed.verdict) == (name, Verdict.PASSED)


@pytest.mark.parametrize("key", ["max_latency_ms", "max_latency_ratio_to_float"])
def test_a_latency_budget_names_the_slowest_ops_slowest_first(key):
    (check,) = check_budgets(PROFILES, ProfileSpec(**{key: 0.1}))
    positions = [check.message.index(op) for op in ("#1 DEPTHWISE_CONV_2D", "#0 CONV_2D", "#2 SOFTMAX")]
    assert positions == sorted(positions)
    assert "middle" in check.message
    assert [op["index"] for op in check.evidence["slowest_ops"]] == [1, 0, 2]


def test_no_budget_is_no_check():
    assert check_budgets(PROFILES, ProfileSpec()) == []


def test_a_ratio_without_a_float_edge_model_cannot_be_decided():
    (check,) = check_budgets(PROFILES[:1], ProfileSpec(max_latency_ratio_to_float=100))
    assert check.verdict is Verdict.INCONCLUSIVE
    assert "float edge model" in check.message


@pytest.mark.parametrize(("runs", "verdict"), [(99, Verdict.INCONCLUSIVE), (100, Verdict.PASSED)])
def test_a_percentile_of_too_few_runs_cannot_be_decided(runs, verdict):
    edge = make_profile(runs=runs)
    (check,) = check_budgets([edge], ProfileSpec(max_p99_latency_ms=100))
    assert check.verdict is verdict


def test_other_models_have_no_budget():
    profiles = [*PROFILES, dataclasses.replace(make_profile("other", p50=1000.0), bytes=10**9)]
    assert all(check_budgets(profiles, ProfileSpec(max_latency_ms=2, max_size_bytes=1000)))
