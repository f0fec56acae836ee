"""The kernel profile for people: one HTML file that opens without a network, in the style of the report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_exray.reporting import formats, html, plot

_SHOWN_OPS = 10
_LABELS = 8
_LINES = 4
# Figures of an op that not every profile has, and how they are written.
_OPTIONAL_COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "interval_ms": ("Between, ms", formats.span),
    "gflops_per_s": ("GFLOP/s", formats.number),
    "gb_per_s": ("GB/s", formats.number),
    "roofline_share": ("Of the roofline", formats.percent),
    "layer": ("Layer", str),
}


def render_profile(document: Mapping[str, Any]) -> str:
    """Returns a kernel profile as one self-contained HTML document.

    Args:
        document: A document of `schemas/kernel_profile.schema.json`; what it lacks is left out of the page.

    Raises:
        ExrayError: The packages of the `[report]` extra are missing.
    """
    models = [_model(model) for model in document["models"]]
    edge = models[0]
    return html.template("profile.html.j2").render(
        profile={"machine": None, "stragglers": [], "groups": [], "comparison": None, "unmeasured": [], **document},
        models=models,
        edge=edge,
        slowest=max(model["latency_ms"]["p50"] for model in models),
        plotted=_plot(edge, models),
    )


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model of the profile with everything that the page asks for."""
    optional = ("device", "noise", "profiler_note", "peak_memory_bytes", "arena_bytes", "scale", "profiled_ms")
    slowest_first = sorted(model["ops"], key=lambda op: -op["ms"])
    columns = {
        key: title
        for key, (title, _) in _OPTIONAL_COLUMNS.items()
        if any(op.get(key) is not None for op in model["ops"])
    }
    rows = [{**op, "extra": [_figure(key, op.get(key)) for key in columns]} for op in slowest_first]
    return {
        **dict.fromkeys(optional),
        **model,
        "latency_ms": {"intervals": {}, "confidence": None, "outliers": None, **model["latency_ms"]},
        "columns": list(columns.values()),
        "shown": rows[:_SHOWN_OPS],
        "rest": rows[_SHOWN_OPS:],
        "top_share": slowest_first[0]["share"] if slowest_first else 0,
    }


def _figure(key: str, value: Any) -> str:
    return formats.number(None) if value is None else _OPTIONAL_COLUMNS[key][1](value)


def _plot(edge: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the time of each op in the order of the graph, here, of the last model and on other machines."""
    role = edge["role"].partition("@")[0]
    indices, kinds = ([op[key] for op in edge["ops"]] for key in ("index", "op"))
    if len(indices) < 2:
        return None
    figures: dict[str, list[float | None]] = {}
    names = {}
    for model in models:
        times = {op["index"]: op["ms"] for op in model["ops"] if not op.get("covers")}
        known = (model.get("device") or {}).get("matched", True)
        # The baseline is another model, whose ops may be the same.
        same = model["role"].partition("@")[0] == role or (
            model["role"] == "baseline" and [op["op"] for op in model["ops"]] == kinds
        )
        if same and known and times.keys() & set(indices) and len(figures) < _LINES:
            key = f"line{len(figures)}"
            figures[key], names[key] = [times.get(index) for index in indices], formats.measured_on(model)
    step = max(1, -(-len(indices) // _LABELS))
    places = [((i + 0.5) / len(indices), indices[i]) for i in range(0, len(indices), step)]
    return {"names": names, "panel": plot.panels(figures)[0], "width": len(indices), "places": places}
