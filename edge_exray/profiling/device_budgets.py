"""Budgets on other machines: the same keys, on figures that may be known only between bounds."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.profiling.budget import EDGE, FLOAT_EDGE, check_op_name
from edge_exray.profiling.device_ops import DELEGATE
from edge_exray.profiling.model_profile import ModelProfile
from edge_exray.profiling.spec import ProfileSpec


@dataclasses.dataclass(frozen=True)
class _Figure:
    """What a budget is compared with: `low` and `high` bound it, and are equal where it is known."""

    name: str
    unit: str
    low: float
    high: float

    def __str__(self) -> str:
        known = f"is {self.say(self.low)}"
        if self.low != self.high:
            known = f"lies between {self.say(self.low)} and {self.say(self.high)}"
        return f"{self.name} {known} {self.unit}"

    def say(self, value: float) -> str:
        """Returns a figure in the unit of this one as text."""
        return f"{value:,.0f}" if self.unit == "bytes" else f"{value:.4g}"


def check_devices(
    profiles: Sequence[ModelProfile], spec: ProfileSpec, baseline: Sequence[ModelProfile] | None = None
) -> list[CheckResult]:
    """Checks each machine's profile of the edge model against every budget but that of the size.

    The size of the file is the same on every machine.

    Args:
        profiles: Profiles with the roles `edge@NAME` and `float_edge@NAME`.
        spec: The budgets.
        baseline: The profiles of the model that was blessed last, those of other machines among them.

    Returns:
        One result for each budget and machine, named like `latency_p50@NAME`: `inconclusive` where the machine does
        not tell the figure, or its bounds include the budget.

    Raises:
        SpecError: A budget is for a type of op that there is not.
    """
    by_role = {profile.role: profile for profile in profiles}
    before = {profile.role: profile for profile in baseline or ()}
    results: list[CheckResult] = []
    for role, profile in by_role.items():
        kind, _, device = role.partition("@")
        if kind == EDGE:
            float_edge = by_role.get(f"{FLOAT_EDGE}@{device}")
            results += _checks(device, profile, float_edge, spec)
            results += _regression(device, profile, before.get(role), spec)
            results += _op_types(device, profile, float_edge, spec)
    return results


def _regression(
    device: str, edge: ModelProfile, before: ModelProfile | None, spec: ProfileSpec
) -> Iterator[CheckResult]:
    budget, name = spec.max_latency_growth, "regression"
    if budget is None:
        return
    if before is None:
        message = f"no model that was measured on {device} is blessed yet: there is nothing to compare the latency with"
        yield CheckResult(f"{name}@{device}", Verdict.PASSED, message, {"budget": budget})
        return
    changed = [
        f"{what} {getattr(edge, key)} against {getattr(before, key)}"
        for key, what in (("kernels", "kernels"), ("num_threads", "threads"))
        if getattr(edge, key) != getattr(before, key)
    ]
    figure = None if changed else _quotient("p50 latency relative to the baseline's", edge, before)
    missing = f"the baseline was measured under other conditions: {', '.join(changed)}"
    if not changed:
        missing = "a profile does not tell the latency"
    yield from _check(name, device, edge, figure, budget, missing)


def _op_types(
    device: str, edge: ModelProfile, float_edge: ModelProfile | None, spec: ProfileSpec
) -> Iterator[CheckResult]:
    untold = "the profile has no times of ops: run benchmark_model with --enable_op_profiling=true"
    for op, budget in sorted((spec.max_op_type_ms or {}).items()):
        check_op_name(op, edge, "max_op_type_ms")
        yield from _check(f"op_type_ms/{op}", device, edge, _type_time(edge, op), budget, untold)
    for op, budget in sorted((spec.max_op_type_ratio_to_float or {}).items()):
        check_op_name(op, edge, "max_op_type_ratio_to_float")
        ours, theirs = _type_time(edge, op), _type_time(float_edge, op) if float_edge else None
        figure, missing = None, untold
        if float_edge is None:
            missing = f"there is no profile of the float edge model on {device}: add {device}.{FLOAT_EDGE}=FILE"
        elif ours and theirs:
            missing = f"the float edge model has no {op}"
            if theirs.low:
                name = f"time of all {op} relative to the float edge model's"
                figure = _Figure(name, "times", ours.low / theirs.high, ours.high / theirs.low)
        yield from _check(f"op_type_ratio_to_float/{op}", device, edge, figure, budget, missing)


def _type_time(profile: ModelProfile, op: str) -> _Figure | None:
    """Returns what all ops of a type take; a delegate that does not tell its ops may run some of them."""
    if not profile.ops:
        return None
    unknown = {DELEGATE, *((profile.device or {}).get("unmatched") or ())}
    bounds = [time.interval_ms or [time.ms, time.ms] for time in profile.ops if time.op == op]
    hidden = math.fsum(time.ms for time in profile.ops if time.op in unknown)
    low, high = (math.fsum(bound[i] for bound in bounds) for i in (0, 1))
    return _Figure(f"time of all {op}", "ms", low, high + hidden)


def _quotient(name: str, edge: ModelProfile, other: ModelProfile) -> _Figure | None:
    ours, theirs = _latency(edge, "p50"), _latency(other, "p50")
    if not (ours and theirs and theirs.low):
        return None
    return _Figure(name, "times", ours.low / theirs.high, ours.high / theirs.low)


def _checks(
    device: str, edge: ModelProfile, float_edge: ModelProfile | None, spec: ProfileSpec
) -> Iterator[CheckResult]:
    latencies = {"p50": spec.max_latency_ms, "p90": spec.max_p90_latency_ms, "p99": spec.max_p99_latency_ms}
    for percentile, budget in latencies.items():
        figure = _latency(edge, percentile)
        missing = f"the profile does not tell the {percentile} latency, or its runs are too few to be sure of it"
        yield from _check(f"latency_{percentile}", device, edge, figure, budget, missing)
    figure, missing = (
        None,
        f"there is no profile of the float edge model on {device}: add {device}.{FLOAT_EDGE}=FILE",
    )
    if float_edge is not None:
        missing = "a profile does not tell the latency"
        figure = _quotient("p50 latency relative to the float edge model's", edge, float_edge)
    yield from _check("latency_ratio_to_float", device, edge, figure, spec.max_latency_ratio_to_float, missing)
    memory = edge.memory_bytes
    figure = None if memory is None else _Figure("memory", "bytes", memory, memory)
    missing = "the profile does not tell the memory: give what benchmark_model prints"
    yield from _check("memory", device, edge, figure, spec.max_memory_bytes, missing)


def _latency(profile: ModelProfile, percentile: str) -> _Figure | None:
    latency = profile.latency_ms
    point = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99}[percentile]
    # What has no interval though others have one is known too badly to decide.
    bounds = latency.intervals.get(percentile, None if point is None else [point, point])
    return None if bounds is None else _Figure(f"{percentile} latency", "ms", bounds[0], bounds[1])


def _check(
    name: str, device: str, edge: ModelProfile, figure: _Figure | None, budget: float | None, missing: str
) -> Iterator[CheckResult]:
    if budget is None:
        return
    evidence: dict[str, object] = {"budget": budget, "source": edge.device and edge.device["source"]}
    if figure is None:
        yield CheckResult(f"{name}@{device}", Verdict.INCONCLUSIVE, f"on {device}: {missing}", evidence)
        return
    if figure.high <= budget:
        verdict, said = Verdict.PASSED, f"within the budget of {figure.say(budget)} {figure.unit}"
    elif figure.low > budget:
        slow = ", ".join(f"{op.op} {op.ms:.4g} ms ({op.short_name})" for op in edge.slowest(3))
        slowest = f"; the slowest ops there are {slow}" if slow and name != "memory" else ""
        verdict, said = Verdict.FAILED, f"over the budget of {figure.say(budget)} {figure.unit}{slowest}"
    else:
        verdict = Verdict.INCONCLUSIVE
        said = f"which does not decide about the budget of {figure.say(budget)} {figure.unit}: measure more runs there"
    message = f"{figure} ({edge.conditions}), {said}"
    yield CheckResult(f"{name}@{device}", verdict, message, {"lower": figure.low, "upper": figure.high, **evidence})
