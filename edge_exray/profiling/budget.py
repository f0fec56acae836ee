"""Compares the profile of an edge model with its budgets.

A measured figure is one of many that might have been. A budget of a latency is therefore compared with a confidence
interval: it is kept when the upper bound is within it, exceeded when the lower bound is beyond it, and undecided in
between. What other processes do can only make a model slower. A budget in milliseconds is therefore exceeded only when
it would be so without the share of the processor that they took; a ratio of models that were timed in turn needs no
such excuse.

Nor does one of models that were timed at two times, each in turn with the same fixed op, the yardstick: what counts is
how many times as long as that op they take. A model that waits for the memory does not follow the processor's clock as
the op does. The interval therefore reaches from the ratio that follows from the yardstick to the one that follows
without it, and is widened by what the placement of a model in memory may change from process to process.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_exray import errors, specs
from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.profiling import intervals, machine
from edge_exray.profiling.model_profile import Latency, ModelProfile
from edge_exray.profiling.spec import ProfileSpec

EDGE = "edge"
FLOAT_EDGE = "float_edge"
BASELINE = "baseline"
PROCESSES_DIFFER = 0.03
"""By what share two measurements of a model may differ that nothing distinguishes but the process: in ten processes a
model of 5 us took 0.986 to 1.014 times what it takes on average, counted in yardsticks."""


_NAMED_OPS = 3
_SMALLER = "quantize or prune the model"
_MANY_RUNS = 1_000_000

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What was measured of the model that was blessed last.

    Attributes:
        model: Its profile.
        machine: Where that was, see `edge_exray.profiling.machine.describe`.
    """

    model: ModelProfile
    machine: dict[str, Any] | None


def check_budgets(
    profiles: Sequence[ModelProfile],
    spec: ProfileSpec,
    baseline: Baseline | None = None,
    here: dict[str, Any] | None = None,
) -> list[CheckResult]:
    """Checks the model with the role `edge` against every budget that is set.

    Args:
        profiles: Profiles of the models, one a role. One with the role `baseline` was timed in turn with the edge
            model.
        spec: The budgets.
        baseline: What was measured of the baseline at another time; for when it cannot be timed again.
        here: The machine that the profiles are of.

    Returns:
        One result for each budget: `latency_p50`, `latency_p90`, `latency_p99`, `latency_ratio_to_float`,
        `regression`, `op_type_ms/OP`, `op_type_ratio_to_float/OP`, `size`, `memory`, in this order.

    Raises:
        SpecError: A budget is for a type of op that there is not.
    """
    by_role = {profile.role: profile for profile in profiles}
    edge, float_edge = by_role[EDGE], by_role.get(FLOAT_EDGE)
    return [
        *_latency(edge, spec),
        *_ratio_to_float(edge, float_edge, spec),
        *_regression(edge, by_role.get(BASELINE), baseline, here, spec),
        *_op_types(edge, float_edge, spec),
        *(check_size(edge.bytes, spec) if edge.bytes is not None else ()),
        *_bytes(
            "memory",
            "loading and running the model takes",
            edge.memory_bytes,
            spec.max_memory_bytes,
            "shrink its largest activations or its weights",
        ),
    ]


def check_size(size: int, spec: ProfileSpec) -> list[CheckResult]:
    """Checks the size of the file, which is that of every machine, as `check_budgets` does."""
    return list(_bytes("size", "the file has", size, spec.max_size_bytes, _SMALLER))


def judge(interval: Interval, budget: float) -> Verdict:
    """Returns whether a figure with that confidence interval keeps a budget."""
    if interval[1] <= budget:
        return Verdict.PASSED
    return Verdict.FAILED if interval[0] > budget else Verdict.INCONCLUSIVE


def _latency(edge: ModelProfile, spec: ProfileSpec) -> Iterator[CheckResult]:
    latency = edge.latency_ms
    budgets = (
        (50, latency.p50, spec.max_latency_ms, "max_latency_ms"),
        (90, latency.p90, spec.max_p90_latency_ms, "max_p90_latency_ms"),
        (99, latency.p99, spec.max_p99_latency_ms, "max_p99_latency_ms"),
    )
    for percentile, measured, budget, key in budgets:
        if budget is None or measured is None:
            continue
        name = f"latency_p{percentile}"
        interval = _interval(latency, f"p{percentile}", measured)
        evidence = {
            "measured_ms": measured,
            "interval_ms": interval and list(interval),
            "confidence": latency.confidence,
            "budget_ms": budget,
            "runs": latency.runs,
        }
        if interval is None:
            needed = intervals.runs_for_percentile(percentile, spec.confidence)
            message = (
                f"p{percentile} latency needs at least {needed} independent runs, {latency.runs} were made: raise "
                "max_runs and max_seconds, and runs when precision is null"
            )
            yield CheckResult(name, Verdict.INCONCLUSIVE, message, evidence)
            continue
        said = f"p{percentile} latency is {_figure(measured, interval, ' ms')} ({edge.conditions})"
        remedy = f"{_slowest(edge)}; make these cheaper or raise {key}"
        budget_said = f"the budget of {budget:.4g} ms"
        verdict = judge(interval, budget)
        if verdict is Verdict.FAILED and _is_excused(edge, interval, budget):
            yield CheckResult(name, Verdict.INCONCLUSIVE, f"{said}, over {budget_said}, but {_busy(edge)}", evidence)
        elif verdict is Verdict.INCONCLUSIVE:
            more = _more_runs(latency.runs, interval, measured, budget)
            yield CheckResult(name, verdict, f"{said}, which does not decide {budget_said}: {more}", evidence)
        else:
            yield _decided(name, verdict, said, budget_said, remedy, evidence, edge)


def _ratio_to_float(edge: ModelProfile, float_edge: ModelProfile | None, spec: ProfileSpec) -> Iterator[CheckResult]:
    budget = spec.max_latency_ratio_to_float
    if budget is None:
        return
    if float_edge is None:
        message = (
            "there is no float edge model to compare the latency with: give one or drop max_latency_ratio_to_float"
        )
        yield CheckResult("latency_ratio_to_float", Verdict.INCONCLUSIVE, message, {"budget": budget})
        return
    remedy = "keep these ops in float, use another quantization, or raise max_latency_ratio_to_float"
    yield _ratio("latency_ratio_to_float", edge, float_edge, "the float edge model", budget, remedy)


def _regression(
    edge: ModelProfile,
    timed: ModelProfile | None,
    stored: Baseline | None,
    here: dict[str, Any] | None,
    spec: ProfileSpec,
) -> Iterator[CheckResult]:
    budget, name = spec.max_latency_growth, "regression"
    if budget is None:
        return
    remedy = "see what changed in them, or raise max_latency_growth"
    if timed is not None:
        yield _ratio(name, edge, timed, "the baseline", budget, remedy)
        return
    if stored is None:
        message = "no model that was measured here is blessed yet: there is nothing to compare the latency with"
        yield CheckResult(name, Verdict.PASSED, message, {"budget": budget})
        return
    obstacles = [*_other_conditions(edge, stored.model), *machine.differences(here, stored.machine)]
    if stored.model.yardstick is None:
        obstacles.append("no fixed op beside it")
    if obstacles:
        message = (
            f"the latency of the baseline was measured under other conditions ({', '.join(obstacles)}) and its file "
            "is not there to be timed again: profile on one machine, or keep the file"
        )
        yield CheckResult(name, Verdict.INCONCLUSIVE, message, {"budget": budget, "differences": obstacles})
        return
    yield _ratio(name, edge, stored.model, "the baseline", budget, remedy)


def _ratio(
    name: str,
    edge: ModelProfile,
    other: ModelProfile,
    called: str,
    budget: float,
    remedy: str,
) -> CheckResult:
    """Compares two latencies by the blocks that were timed in turn: with each other, or both with the yardstick."""
    doubt = (1.0, 1.0)
    if other.edge_ratio is not None:
        measured = other.edge_ratio["p50"]
        interval = other.edge_ratio["interval"] and tuple(other.edge_ratio["interval"])
        how = f", the median of {other.edge_ratio['blocks']} pairs of blocks that were timed in turn (over all runs "
    else:
        measured, interval, slower = _by_yardstick(edge, other)
        doubt = _unknown(slower)
        how = (
            ", which was not timed again; both are counted in runs of a fixed op beside them, which takes "
            f"{slower:.4g} times as long as it did (over all runs "
        )
    evidence = {
        "measured": measured,
        "interval": interval and list(interval),
        "confidence": edge.latency_ms.confidence,
        "budget": budget,
        "edge_ms": edge.latency_ms.p50,
        f"{BASELINE if name == 'regression' else FLOAT_EDGE}_ms": other.latency_ms.p50,
    }
    if interval is None:
        message = f"the latency relative to {called} needs more runs than {edge.latency_ms.runs}: raise runs"
        return CheckResult(name, Verdict.INCONCLUSIVE, message, evidence)
    same = ", which is the same file" if edge.fingerprint and edge.fingerprint == other.fingerprint else ""
    said = (
        f"p50 latency is {_figure(measured, interval, '')} times that of {called}{same}{how}"
        f"{edge.latency_ms.p50:.4g} ms against {other.latency_ms.p50:.4g} ms, {edge.conditions})"
    )
    budget_said = f"the budget of {budget:.4g} times"
    verdict = judge(interval, budget)
    if verdict is Verdict.INCONCLUSIVE:
        more = _more_runs(edge.latency_ms.runs, interval, measured, budget)
        if measured * doubt[0] <= budget < measured * doubt[1]:
            more = "so little may come of the process or of the clock; keep the file of the baseline to time it again"
        return CheckResult(name, verdict, f"{said}, which does not decide {budget_said}: {more}", evidence)
    return _decided(name, verdict, said, budget_said, f"{_slowest(edge)}; {remedy}", evidence, edge)


def _by_yardstick(edge: ModelProfile, other: ModelProfile) -> tuple[float, Interval | None, float]:
    """Compares two measurements of one machine.

    Returns:
        How many times as long as the other model the edge model takes, its interval, and the same of the yardstick.
    """
    now, then = edge.yardstick, other.yardstick
    assert now is not None
    assert then is not None
    slower = now["ms"] / then["ms"]
    both, (low, high) = _quotient(now["interval"], then["interval"]), _unknown(slower)
    return now["p50"] / then["p50"], both and (both[0] * low, both[1] * high), slower


def _unknown(slower: float) -> Interval:
    """Returns by what factors two measurements may differ though nothing changed but the time of the yardstick."""
    return min(slower, 1.0) / (1 + PROCESSES_DIFFER), max(slower, 1.0) * (1 + PROCESSES_DIFFER)


def _op_types(edge: ModelProfile, float_edge: ModelProfile | None, spec: ProfileSpec) -> Iterator[CheckResult]:
    for op, budget in sorted((spec.max_op_type_ms or {}).items()):
        check_op_name(op, edge, "max_op_type_ms")
        measured, interval = _type_time(edge, op)
        name = f"op_type_ms/{op}"
        said = f"all {op} together take {_figure(measured, interval, ' ms')} ({edge.conditions})"
        evidence = {"op": op, "measured_ms": measured, "interval_ms": interval and list(interval), "budget_ms": budget}
        yield _type_result(name, edge, said, measured, interval, budget, f"the budget of {budget:.4g} ms", evidence)
    for op, budget in sorted((spec.max_op_type_ratio_to_float or {}).items()):
        check_op_name(op, edge, "max_op_type_ratio_to_float")
        name = f"op_type_ratio_to_float/{op}"
        own, own_interval = _type_time(edge, op)
        theirs, their_interval = _type_time(float_edge, op) if float_edge else (0.0, None)
        if not theirs:
            message = f"there is no float edge model with {op} to compare with: give one, or drop the budget of {op}"
            yield CheckResult(name, Verdict.INCONCLUSIVE, message, {"op": op, "budget": budget})
            continue
        interval = _quotient(own_interval, their_interval)
        said = f"all {op} together take {_figure(own / theirs, interval, '')} times as long as in the float edge model"
        evidence = {"op": op, "measured": own / theirs, "interval": interval and list(interval), "budget": budget}
        yield _type_result(
            name, edge, said, own / theirs, interval, budget, f"the budget of {budget:.4g} times", evidence
        )


def _type_result(
    name: str,
    edge: ModelProfile,
    said: str,
    measured: float,
    interval: Interval | None,
    budget: float,
    budget_said: str,
    evidence: dict[str, Any],
) -> CheckResult:
    verdict = Verdict.INCONCLUSIVE if interval is None else judge(interval, budget)
    if interval and verdict is Verdict.FAILED and "ratio" not in name and _is_excused(edge, interval, budget):
        return CheckResult(name, Verdict.INCONCLUSIVE, f"{said}, over {budget_said}, but {_busy(edge)}", evidence)
    if interval is None or verdict is Verdict.INCONCLUSIVE:
        more = _more_runs(edge.latency_ms.runs, interval, measured, budget)
        return CheckResult(name, Verdict.INCONCLUSIVE, f"{said}, which does not decide {budget_said}: {more}", evidence)
    return _decided(name, verdict, said, budget_said, "make them cheaper, or raise the budget", evidence, edge)


def _type_time(profile: ModelProfile, op: str) -> tuple[float, Interval | None]:
    """Returns what all ops of a type take; the bounds are those of each op, added up, which is wider than need be."""
    ops = [entry for entry in profile.ops if entry.op == op and entry.ms > 0]
    bounds = [entry.interval_ms for entry in ops]
    total = math.fsum(entry.ms for entry in ops)
    if profile.latency_ms.confidence is None:
        return total, (total, total)
    if any(bound is None for bound in bounds):
        return total, None
    return total, (math.fsum(b[0] for b in bounds if b), math.fsum(b[1] for b in bounds if b))


def check_op_name(op: str, edge: ModelProfile, key: str) -> None:
    """Makes sure that there is a type of op.

    Raises:
        SpecError: Neither the profile nor TFLite has one of that name.
    """
    from ai_edge_litert import schema_py_generated as schema

    known = {entry.op for entry in edge.ops}
    builtin = {name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    if op not in known | builtin:
        near = specs.did_you_mean(op, known | builtin)
        raise errors.SpecError(f"{key} has a budget for {op}, which is no op of {edge.path} or of TFLite{near}")


def _interval(latency: Latency, name: str, measured: float) -> Interval | None:
    """Returns the interval of a percentile; of a profile that knows none, the figure itself."""
    if latency.confidence is None:
        return measured, measured
    bounds = latency.intervals.get(name)
    return (bounds[0], bounds[1]) if bounds else None


def _quotient(numerator: Interval | None, denominator: Interval | None) -> Interval | None:
    if numerator is None or denominator is None or not denominator[0]:
        return None
    return numerator[0] / denominator[1], numerator[1] / denominator[0]


def _decided(
    name: str,
    verdict: Verdict,
    said: str,
    budget_said: str,
    remedy: str,
    evidence: Mapping[str, Any],
    edge: ModelProfile,
) -> CheckResult:
    if verdict is Verdict.PASSED:
        return CheckResult(name, verdict, f"{said}, within {budget_said}", dict(evidence))
    return CheckResult(name, verdict, f"{said}, over {budget_said}: {remedy}", {**evidence, **_slowest_evidence(edge)})


def _more_runs(runs: int, interval: Interval | None, measured: float, budget: float) -> str:
    """Says how many more runs would decide: the width of an interval falls with the root of their number."""
    distance = abs(measured - budget)
    needed = math.inf
    if interval is not None and distance:
        needed = runs * ((interval[1] - interval[0]) / 2 / distance) ** 2
    if needed > _MANY_RUNS:
        return "it lies too near to the budget for any number of runs; change the budget or the model"
    more = max(math.ceil(needed) - runs, 1)
    runs_would = f"about {more:,} more runs would" if more > 1 else "another run would"
    return f"{runs_would}; raise max_runs and max_seconds, and runs when precision is null"


def _is_excused(edge: ModelProfile, interval: Sequence[float], budget: float) -> bool:
    """Returns whether the budget may have been kept but for the processor that others took."""
    return interval[0] * (1 - _stolen(edge)) <= budget


def _stolen(edge: ModelProfile) -> float:
    return (edge.noise or {}).get("stolen_share") or 0.0


def _busy(edge: ModelProfile) -> str:
    return f"other processes took {_stolen(edge):.0%} of the processor meanwhile: end them and profile again"


def _other_conditions(edge: ModelProfile, other: ModelProfile) -> list[str]:
    return [
        f"{key.replace('_', ' ')} {getattr(edge, key)} against {getattr(other, key)}"
        for key in ("kernels", "num_threads")
        if getattr(edge, key) != getattr(other, key)
    ]


def _figure(measured: float, interval: Interval | None, unit: str) -> str:
    if interval is None or interval[0] == interval[1]:
        return f"{measured:.4g}{unit}"
    return f"{measured:.4g}{unit} [{interval[0]:.4g}, {interval[1]:.4g}]"


def _bytes(name: str, subject: str, measured: int | None, budget: int | None, remedy: str) -> Iterator[CheckResult]:
    if budget is None or measured is None:
        return
    evidence = {"measured_bytes": measured, "budget_bytes": budget}
    said = f"{subject} {measured:,} bytes"
    if measured <= budget:
        yield CheckResult(name, Verdict.PASSED, f"{said}, within the budget of {budget:,}", evidence)
    else:
        message = f"{said}, over the budget of {budget:,}: {remedy}, or raise max_{name}_bytes"
        yield CheckResult(name, Verdict.FAILED, message, evidence)


def _slowest(profile: ModelProfile) -> str:
    ops = profile.slowest(_NAMED_OPS)
    named = ", ".join(f"#{op.index} {op.op} {op.ms:.4g} ms ({op.share:.0%}, {op.short_name})" for op in ops)
    return f"the slowest {'op is' if len(ops) == 1 else 'ops are'} {named}"


def _slowest_evidence(profile: ModelProfile) -> dict[str, list[dict[str, object]]]:
    return {
        "slowest_ops": [{"index": op.index, "op": op.op, "ms": op.ms, "name": op.name} for op in profile.slowest(3)]
    }
