"""The tables that `exray profile` prints."""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edge_exray.reporting import formats

if TYPE_CHECKING:
    import rich.table

    from edge_exray.profiling.model_profile import ModelProfile
    from edge_exray.profiling.profile import Profile

_COMPARED_KINDS = 12


def names(models: "Sequence[ModelProfile]") -> list[str]:
    """Returns what to call each model: its file, its machine when that is another, its role where names are one."""
    plain = [
        pathlib.Path(model.path).name + (f" on {model.device['name']}" if model.device else "") for model in models
    ]
    return [
        f"{name} ({model.role})" if plain.count(name) > 1 else name for name, model in zip(plain, models, strict=True)
    ]


def slowest_ops(model: "ModelProfile", top: int) -> "rich.table.Table":
    """Returns the ops that take the longest."""
    rows = [
        (str(op.index), formats.number(op.ms), formats.percent(op.share), op.op, op.kernel, op.short_name)
        for op in model.slowest(top)
    ]
    columns = (
        ("#", "right"),
        ("ms", "right"),
        ("share", "right"),
        ("op", "left"),
        ("kernel", "left"),
        ("output", "fold"),
    )
    return _table(columns, rows)


def summary(profile: "Profile") -> "rich.table.Table":
    """Returns a column for each model."""
    first = profile.models[0].latency_ms.p50
    figures: dict[str, Callable[[ModelProfile], str]] = {
        "p50 ms": lambda m: formats.number(m.latency_ms.p50),
        "its interval": lambda m: (
            " to ".join(map(formats.number, m.latency_ms.intervals.get("p50") or ())) or "unknown"
        ),
        "p90 ms": lambda m: formats.number(m.latency_ms.p90),
        "p50 under the profiler": lambda m: formats.number((m.profiled_ms or {}).get("p50")),
        "p50, x of the first": lambda m: f"{formats.number(m.latency_ms.p50 / first)} x",
        "init ms": lambda m: formats.number(m.init_ms),
        "memory": lambda m: formats.size(m.memory_bytes),
        "file": lambda m: formats.size(m.bytes),
        "machine": lambda m: "noisy" if (m.noise or {}).get("noisy") else "quiet enough" if m.noise else "unknown",
    }
    heads = [("", "left"), *((name, "right-fold") for name in names(profile.models))]
    return _table(heads, [(title, *map(figure, profile.models)) for title, figure in figures.items()])


def comparison(profile: "Profile") -> "rich.table.Table | None":
    """Returns the time of each type of op in each model, and how many times the first model's; None for one model."""
    compared = profile.comparison
    if not compared or not compared["groups"]:
        return None
    heads = [f"{name}, ms" for name in names(profile.models)]
    rows = [
        (group["op"], *(_with_ratio(ms, ratio if i else None) for i, (ms, ratio) in enumerate(_pairs(group))))
        for group in compared["groups"][:_COMPARED_KINDS]
    ]
    return _table([("op", "left"), *((head, "right-fold") for head in heads)], rows)


def stragglers(profile: "Profile", top: int) -> "rich.table.Table | None":
    """Returns the ops that take longer than they need to, what saves most first; None when there are none."""
    found = profile.stragglers[:top]
    rows = [
        (str(s.index), formats.number(s.ms), formats.number(s.saving_ms), s.op, formats.words(s.kind), s.reason)
        for s in found
    ]
    heads = ("#", "right"), ("ms", "right"), ("saves ms", "right"), ("op", "left"), ("kind", "left"), ("why", "fold")
    return _table(heads, rows) if rows else None


def _pairs(group: dict[str, Any]) -> Iterable[tuple[float | None, float | None]]:
    return zip(group["ms"], group["ratio"], strict=True)


def _with_ratio(ms: float | None, ratio: float | None) -> str:
    return formats.number(ms) + (f" ({formats.number(ratio)} x)" if ratio is not None else "")


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> "rich.table.Table":
    import rich.box
    import rich.markup
    import rich.table

    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for title, form in columns:
        folds = form.endswith("fold")
        table.add_column(
            rich.markup.escape(title),
            justify="right" if form.startswith("right") else "left",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    for row in rows:
        table.add_row(*map(rich.markup.escape, row))
    return table
