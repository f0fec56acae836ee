"""Models and machines side by side."""

from collections.abc import Sequence
from typing import Any

from edge_exray.profiling.model_profile import ModelProfile


def compare(profiles: Sequence[ModelProfile]) -> dict[str, Any] | None:
    """Compares profiles by type of op, and op by op where they are of the same ops.

    Args:
        profiles: The profiles; the others are compared with the first.

    Returns:
        `columns` with `role`, `device` (None: this machine), `kernels` and `total_ms` of each profile, and the
        `ratio` of its total to the first; `groups` with `op` and, for each column, the number of `ops`, their `ms`
        (None where there are none) and `ratio`; `ops` with `index`, `op` and `name` and the same for each op of the
        first profile that another machine's profile of the same model has. The most time of any column comes first.
        None when there is nothing to compare.
    """
    if len(profiles) < 2:
        return None
    columns = [
        {
            "role": profile.role,
            "device": profile.device and profile.device["name"],
            "kernels": profile.kernels,
            "total_ms": profile.latency_ms.p50,
            "ratio": _ratio(profile.latency_ms.p50, profiles[0].latency_ms.p50),
        }
        for profile in profiles
    ]
    kinds = dict.fromkeys(op.op for profile in profiles for op in profile.ops)
    groups = []
    for kind in kinds:
        of_kind = [[op.ms for op in profile.ops if op.op == kind] for profile in profiles]
        groups.append(
            {"op": kind, "ops": [len(times) for times in of_kind], **_row([sum(t) if t else None for t in of_kind])}
        )
    model = profiles[0].role.partition("@")[0]
    same = [profile.role.partition("@")[0] == model for profile in profiles]
    times = [
        {op.index: op.ms for op in profile.ops if op.covers is None} if is_same else {}
        for profile, is_same in zip(profiles, same, strict=True)
    ]
    ops = [
        {"index": op.index, "op": op.op, "name": op.name, **_row([of.get(op.index) for of in times])}
        for op in profiles[0].ops
        if any(op.index in of for of in times[1:])
    ]
    return {"columns": columns, "groups": _slowest_first(groups), "ops": _slowest_first(ops)}


def _row(ms: Sequence[float | None]) -> dict[str, list[float | None]]:
    return {"ms": list(ms), "ratio": [_ratio(time, ms[0]) for time in ms]}


def _ratio(time: float | None, first: float | None) -> float | None:
    return time / first if time is not None and first else None


def _slowest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -max(time for time in row["ms"] if time is not None))
