"""Compares the profile of an edge model with its budgets."""

from collections.abc import Iterator, Sequence

from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.profiling.model_profile import ModelProfile
from edge_exray.profiling.spec import ProfileSpec

EDGE = "edge"
FLOAT_EDGE = "float_edge"

_NAMED_OPS = 3


def check_budgets(profiles: Sequence[ModelProfile], spec: ProfileSpec) -> list[CheckResult]:
    """Checks the model with the role `edge` against every budget that is set.

    Args:
        profiles: Profiles of the models, one a role.
        spec: The budgets.

    Returns:
        One result for each budget: `latency_p50`, `latency_p90`, `latency_p99`, `latency_ratio_to_float`, `size`,
        `memory`, in this order.
    """
    by_role = {profile.role: profile for profile in profiles}
    edge = by_role[EDGE]
    return [
        *_latency(edge, spec),
        *_ratio(edge, by_role.get(FLOAT_EDGE), spec),
        *_bytes("size", "the file has", edge.bytes, spec.max_size_bytes, "quantize or prune the model"),
        *_bytes(
            "memory",
            "loading and running the model takes",
            edge.memory_bytes,
            spec.max_memory_bytes,
            "shrink its largest activations or its weights",
        ),
    ]


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
        evidence = {"measured_ms": measured, "budget_ms": budget, "runs": latency.runs}
        needed = 100 // (100 - percentile)
        said = f"p{percentile} latency is {measured:.4g} ms ({edge.conditions})"
        if latency.runs < needed:
            message = f"p{percentile} latency needs at least {needed} runs, {latency.runs} were made: raise runs"
            yield CheckResult(name, Verdict.INCONCLUSIVE, message, evidence)
        elif measured <= budget:
            yield CheckResult(name, Verdict.PASSED, f"{said}, within the budget of {budget:.4g} ms", evidence)
        else:
            message = f"{said}, over the budget of {budget:.4g} ms: {_slowest(edge)}; make these cheaper or raise {key}"
            yield CheckResult(name, Verdict.FAILED, message, evidence | _slowest_evidence(edge))


def _ratio(edge: ModelProfile, float_edge: ModelProfile | None, spec: ProfileSpec) -> Iterator[CheckResult]:
    budget = spec.max_latency_ratio_to_float
    if budget is None:
        return
    name = "latency_ratio_to_float"
    if float_edge is None:
        message = (
            "there is no float edge model to compare the latency with: give one or drop max_latency_ratio_to_float"
        )
        yield CheckResult(name, Verdict.INCONCLUSIVE, message, {"budget": budget})
        return
    measured = edge.latency_ms.p50 / float_edge.latency_ms.p50
    evidence = {
        "measured": measured,
        "budget": budget,
        "edge_ms": edge.latency_ms.p50,
        "float_edge_ms": float_edge.latency_ms.p50,
    }
    said = (
        f"p50 latency is {measured:.3g} times that of the float edge model "
        f"({edge.latency_ms.p50:.4g} ms against {float_edge.latency_ms.p50:.4g} ms, {edge.conditions})"
    )
    if measured <= budget:
        yield CheckResult(name, Verdict.PASSED, f"{said}, within the budget of {budget:.4g} times", evidence)
    else:
        message = (
            f"{said}, over the budget of {budget:.4g} times: {_slowest(edge)}; keep these ops in float, use another "
            "quantization, or raise max_latency_ratio_to_float"
        )
        yield CheckResult(name, Verdict.FAILED, message, evidence | _slowest_evidence(edge))


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
        "slowest_ops": [{"index": op.index, "op": op.op, "name": op.name, "ms": op.ms} for op in profile.slowest(3)]
    }
