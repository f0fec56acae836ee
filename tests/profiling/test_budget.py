import dataclasses

import pytest

from edge_exray import errors
from edge_exray.diagnosis.report import Verdict
from edge_exray.profiling.budget import Baseline, check_budgets
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime
from edge_exray.profiling.spec import ProfileSpec


def make_profile(role="edge", p50=2.0, runs=100, width=0.0, **changed):
    """A profile whose percentiles are p50, 2 p50 and 3 p50, each with an interval of that relative half width."""
    ops = [
        OpTime(0, "CONV_2D", "stem/Relu6;stem/conv", "xnnpack", 0.2 * p50, 0.4, 0.2, around(0.2 * p50, width)),
        OpTime(1, "DEPTHWISE_CONV_2D", "middle", "xnnpack", 0.7 * p50, 1.4, 0.7, around(0.7 * p50, width)),
        OpTime(2, "SOFTMAX", "probabilities", "builtin", 0.1 * p50, 0.2, 0.1, around(0.1 * p50, width)),
    ]
    bounds = {"p50": around(p50, width), "p90": around(2 * p50, width), "p99": around(3 * p50, width)}
    latency = Latency(p50, 2 * p50, 3 * p50, p50, runs, bounds, 0.95, 0)
    profile = ModelProfile(role, f"{role}.tflite", 1000, "xnnpack", 1, "hook", latency, 1.0, 5000, ops, noise=noise())
    return dataclasses.replace(profile, **changed)


def around(value, width):
    return [value * (1 - width), value * (1 + width)]


def noise(stolen_share=0.0, drift=0.0):
    return {
        "spread": 0.01,
        "drift": drift,
        "stolen_share": stolen_share,
        "others_share": 0.0,
        "settled": True,
        "noisy": False,
    }


def in_turn(ratio, interval, role="float_edge"):
    """A model that was timed in turn with the edge model, which takes that many times as long."""
    return make_profile(role, p50=1.0, edge_ratio={"p50": ratio, "interval": interval, "blocks": 20})


def judge(spec, *profiles, **given):
    (check,) = check_budgets(profiles, ProfileSpec(**spec), **given)
    return check


PROFILES = [make_profile(), in_turn(2.0, [2.0, 2.0])]


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


@pytest.mark.parametrize(
    ("budget", "verdict"), [(2.21, Verdict.PASSED), (2.1, Verdict.INCONCLUSIVE), (1.79, Verdict.FAILED)]
)
@pytest.mark.parametrize("key", ["max_latency_ms", "max_p90_latency_ms", "max_p99_latency_ms"])
def test_the_interval_decides(key, budget, verdict):
    times = {"max_latency_ms": 1, "max_p90_latency_ms": 2, "max_p99_latency_ms": 3}[key]
    assert judge({key: times * budget}, make_profile(width=0.1)).verdict is verdict


def test_an_undecided_budget_says_how_many_runs_would_decide_it():
    # The half width 0.2 of 100 runs must fall to the distance 0.1 of the budget: four times the runs.
    check = judge({"max_latency_ms": 2.1}, make_profile(width=0.1))
    assert "about 300 more runs" in check.message
    assert "max_runs" in check.message
    assert "too near" in judge({"max_latency_ms": 2.0}, make_profile(width=0.1)).message


def test_a_percentile_of_too_few_runs_cannot_be_decided():
    edge = make_profile()
    edge.latency_ms.intervals["p99"] = None
    check = judge({"max_p99_latency_ms": 100}, edge)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert "368" in check.message


@pytest.mark.parametrize(
    ("budget", "verdict"), [(2.5, Verdict.PASSED), (1.5, Verdict.INCONCLUSIVE), (0.9, Verdict.FAILED)]
)
@pytest.mark.parametrize("key", ["max_latency_ms", "max_op_type_ms"])
def test_a_busy_machine_shows_that_a_budget_is_kept_and_not_that_it_is_barely_exceeded(key, budget, verdict):
    # Half of the processor was taken away: what took 2 ms may take 1 ms.
    spec = {key: budget} if key == "max_latency_ms" else {key: {"DEPTHWISE_CONV_2D": 0.7 * budget}}
    check = judge(spec, make_profile(noise=noise(stolen_share=0.5)))
    assert check.verdict is verdict
    assert ("other processes took 50%" in check.message) == (verdict is Verdict.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([0.9, 1.04], Verdict.PASSED), ([0.99, 1.2], Verdict.INCONCLUSIVE), ([1.06, 1.2], Verdict.FAILED)],
)
@pytest.mark.parametrize(
    ("key", "role", "name"),
    [
        ("max_latency_ratio_to_float", "float_edge", "latency_ratio_to_float"),
        ("max_latency_growth", "baseline", "regression"),
    ],
)
def test_models_that_were_timed_in_turn_are_compared_block_by_block_on_a_busy_machine_too(
    key, role, name, interval, verdict
):
    edge = make_profile(noise=noise(stolen_share=0.7))
    check = judge({key: 1.05}, edge, in_turn(1.01, interval, role))
    assert (check.name, check.verdict) == (name, verdict)


def test_the_same_file_is_called_so():
    edge, other = make_profile(fingerprint="f"), in_turn(1.0, [0.9, 1.1], "baseline")
    said = [
        judge({"max_latency_growth": 2}, edge, dataclasses.replace(other, fingerprint=fingerprint)).message
        for fingerprint in ("f", "g", None)
    ]
    assert ["the baseline, which is the same file, the median of 20 pairs of blocks" in text for text in said] == [
        True,
        False,
        False,
    ]


def test_too_few_blocks_do_not_decide_a_ratio():
    check = judge({"max_latency_growth": 100}, make_profile(), in_turn(1.0, None, "baseline"))
    assert check.verdict is Verdict.INCONCLUSIVE


HERE = {"cpu": "one", "architecture": "x86_64", "logical_cores": 2, "affinity": 2}


def in_yardsticks(p50, width=0.01, ms=0.05):
    """What the yardstick tells of a model that takes that many times as long as the op, which takes some ms."""
    return {"ms": ms, "p50": p50, "interval": around(p50, width) if width is not None else None, "blocks": 20}


def stored(machine=HERE, **changed):
    return Baseline(make_profile(**{"p50": 1.0, "yardstick": in_yardsticks(20.0), **changed}), machine)


@pytest.mark.parametrize(
    ("times", "slower", "verdict"),
    [
        (1.0, 1.0, Verdict.PASSED),
        (1.2, 1.0, Verdict.FAILED),
        (1.07, 1.0, Verdict.INCONCLUSIVE),
        # From process to process alone it may be that much.
        (1.1, 1.0, Verdict.INCONCLUSIVE),
        # Other processes drew every run out, the op of the yardstick too, but for the fastest runs.
        (1.0, 1.02, Verdict.PASSED),
        # The clock may have stepped, which a model that waits for the memory does not follow.
        (1.0, 1.2, Verdict.INCONCLUSIVE),
        (1.2, 0.8, Verdict.INCONCLUSIVE),
        (1.5, 0.9, Verdict.FAILED),
    ],
)
def test_a_stored_baseline_is_compared_by_the_yardstick_and_with_what_that_does_not_tell(times, slower, verdict):
    # The median of all runs tells nothing of another time.
    edge = make_profile(p50=7.0, yardstick=in_yardsticks(20.0 * times, ms=0.05 * slower))
    check = judge({"max_latency_growth": 1.08}, edge, baseline=stored(), here=HERE)
    assert (check.name, check.verdict) == ("regression", verdict)


def test_what_no_number_of_runs_decides_is_not_blamed_on_them():
    def advice(width):
        edge = make_profile(yardstick=in_yardsticks(21.0, width))
        return judge({"max_latency_growth": 1.1}, edge, baseline=stored(), here=HERE).message

    assert "more runs would" in advice(0.08)
    edge = make_profile(yardstick=in_yardsticks(21.8))
    assert "keep the file" in judge({"max_latency_growth": 1.1}, edge, baseline=stored(), here=HERE).message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"machine": {**HERE, "cpu": "other"}}, "cpu one against other"),
        ({"machine": None}, "machine is not known"),
        ({"kernels": "reference"}, "kernels xnnpack against reference"),
        ({"num_threads": 4}, "num threads 1 against 4"),
        ({"yardstick": None}, "no fixed op beside it"),
    ],
)
def test_a_baseline_of_other_conditions_is_not_compared(changed, said):
    check = judge({"max_latency_growth": 100}, make_profile(), baseline=stored(**changed), here=HERE)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert said in check.message


def test_the_first_model_has_nothing_to_regress_from():
    assert judge({"max_latency_growth": 1.1}, make_profile()).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("key", "measured"), [("max_op_type_ms", 1.4), ("max_op_type_ratio_to_float", 2.0)], ids=["ms", "ratio"]
)
def test_a_type_of_op_has_a_budget_of_its_own(key, measured):
    profiles = [make_profile(width=0.01), make_profile("float_edge", p50=1.0, width=0.01)]
    verdicts = {
        times: judge({key: {"DEPTHWISE_CONV_2D": times * measured}}, *profiles).verdict for times in (1.1, 1.0, 0.9)
    }
    assert verdicts == {1.1: Verdict.PASSED, 1.0: Verdict.INCONCLUSIVE, 0.9: Verdict.FAILED}


def test_a_type_of_op_that_there_is_not_takes_no_time_and_a_misspelt_one_is_an_error():
    assert judge({"max_op_type_ms": {"LSTM": 0.1}}, make_profile()).verdict is Verdict.PASSED
    with pytest.raises(errors.SpecError, match=r"max_op_type_ms has a budget for CONV2D.*did you mean CONV_2D"):
        judge({"max_op_type_ms": {"CONV2D": 1}}, make_profile())


def test_a_type_of_op_that_the_float_model_lacks_cannot_be_compared():
    check = judge({"max_op_type_ratio_to_float": {"QUANTIZE": 1}}, *PROFILES)
    assert check.verdict is Verdict.INCONCLUSIVE


def test_other_models_have_no_budget():
    profiles = [*PROFILES, dataclasses.replace(make_profile("other", p50=1000.0), bytes=10**9)]
    assert all(check_budgets(profiles, ProfileSpec(max_latency_ms=2, max_size_bytes=1000)))
