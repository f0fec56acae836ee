"""Colours for the graph of the edge model in Model Explorer (`pip install ai-edge-model-explorer`).

Its "custom node data" is one figure for each node and a file for each kind of figure: `results` by the id of the node,
and a `gradient` whose stops 0 and 1 are the smallest and the largest of the figures. Its adapter for .tflite numbers
the ops of a graph in their order in the file, as reports do. Without the id of a graph the figures belong to the one
that is shown when the file is loaded, the main graph at first.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_exray.diagnosis.report import Report

FIGURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "own_error": lambda layer: (layer.get("own_error") or {}).get("nrmse"),
    "inherited_error": lambda layer: (layer.get("own_error") or {}).get("inherited_nrmse"),
    "quantization_nrmse": lambda layer: layer["legs"].get("quantization", {}).get("nrmse"),
    "conversion_nrmse": lambda layer: layer["legs"].get("conversion", {}).get("nrmse"),
}
"""Name of a file, and the figure of a layer that it holds."""

_GRADIENT = [
    {"stop": 0, "bgColor": "#fff5eb"},
    {"stop": 0.5, "bgColor": "#fd8d3c"},
    {"stop": 1, "bgColor": "#a63603"},
]
# A layer without a figure because its values are NaN or infinite must not look like one that was not compared.
_NOT_FINITE = {"value": "NaN or infinite", "bgColor": "#6a1b9a"}


def render_latency(ops: Sequence[Mapping[str, Any]]) -> str:
    """Returns the JSON of a file with the time of each op in milliseconds.

    Args:
        ops: The `ops` of a model in a kernel profile; what a delegate runs as one has the time of all of it.
    """
    results: dict[str, dict[str, Any]] = {}
    for op in ops:
        results |= {str(index): {"value": op["ms"]} for index in op.get("covers") or [op["index"]]}
    return json.dumps({"results": results, "gradient": _GRADIENT}, indent=1)


def render_overlays(report: Report) -> dict[str, str]:
    """Returns the name of each file and its JSON; a figure that no layer has gets no file."""
    layers = report.to_dict()["layers"]
    broken = {
        str(layer["index"])
        for layer in layers
        if any(drift["edge_nonfinite"] or drift["reference_nonfinite"] for drift in layer["legs"].values())
    }
    overlays = {}
    for name, figure in FIGURES.items():
        figures = {str(layer["index"]): figure(layer) for layer in layers}
        known = {node: {"value": value} for node, value in figures.items() if value is not None}
        if known:
            results = {**dict.fromkeys(sorted(broken - known.keys(), key=int), _NOT_FINITE), **known}
            overlays[f"{name}.json"] = json.dumps({"results": results, "gradient": _GRADIENT}, indent=1)
    return overlays
