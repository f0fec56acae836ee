"""Budgets on other machines: the same keys, on figures that may be known only between bounds."""

import dataclasses
from collections.abc import Iterator, Sequence

from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.profiling.budget import EDGE, FLOAT_EDGE
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


def check_devices(profiles: Sequence[ModelProfile], spec: ProfileSpec) -> list[CheckResult]:
    """Checks each machine's profile of the edge model against the budgets of latency and memory.

    The size of the file is the same on every machine.

    Args:
        profiles: Profiles with the roles `edge@NAME` and `float_edge@NAME`.
        spec: The budgets.

    Returns:
        One result for each budget and machine, named like `latency_p50@NAME`: `inconclusive` where the machine does
        not tell the figure, or its bounds include the budget.
    """
    by_role = {profile.role: profile for profile in profiles}
    results: list[CheckResult] = []
    for role, profile in by_role.items():
        kind, _, device = role.partition("@")
        if kind == EDGE:
            results += _checks(device, profile, by_role.get(f"{FLOAT_EDGE}@{device}"), spec)
    return results


def _checks(
    device: str, edge: ModelProfile, float_edge: ModelProfile | None, spec: ProfileSpec
) -> Iterator[CheckResult]:
    latencies = {"p50": spec.max_latency_ms, "p90": spec.max_p90_latency_ms, "p99": spec.max_p99_latency_ms}
    for percentile, budget in latencies.items():
        figure = _latency(edge, percentile)
        missing = f"the profile does not tell the {percentile} latency"
        yield from _check(f"latency_{percentile}", device, edge, figure, budget, missing)
    figure, missing = (
        None,
        f"there is no profile of the float edge model on {device}: add {device}.{FLOAT_EDGE}=FILE",
    )
    if float_edge is not None:
        ours, theirs = _latency(edge, "p50"), _latency(float_edge, "p50")
        missing = "a profile does not tell the latency"
        if ours and theirs and theirs.low:
            name = "p50 latency relative to the float edge model's"
            figure = _Figure(name, "times", ours.low / theirs.high, ours.high / theirs.low)
    yield from _check("latency_ratio_to_float", device, edge, figure, spec.max_latency_ratio_to_float, missing)
    memory = edge.memory_bytes
    figure = None if memory is None else _Figure("memory", "bytes", memory, memory)
    missing = "the profile does not tell the memory: give what benchmark_model prints"
    yield from _check("memory", device, edge, figure, spec.max_memory_bytes, missing)


def _latency(profile: ModelProfile, percentile: str) -> _Figure | None:
    latency = profile.latency_ms
    point = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99}[percentile]
    bounds = latency.intervals.get(percentile) or (None if point is None else [point, point])
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
