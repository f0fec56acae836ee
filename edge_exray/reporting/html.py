"""The report for people: one HTML file that opens without a network.

The plots are drawn here, in SVG: without scripts the page shows all of them, and a link to a layer opens its details.
"""

import functools
import importlib.util
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.diagnosis.report import Report
from edge_exray.models.tensors import Quantization
from edge_exray.reporting import formats, gist, plot

# In the order in which an error can enter on its way from the photograph to the label.
_LEGS = ("preprocessing", "conversion", "quantization", "kernel")

_SERIES = {"own": "nrmse", "inherited": "inherited_nrmse"}
_LABELLED_LAYERS = 8
# 32-bit integers are accumulators, which no value gets near the limits of.
_NARROW = ("int8", "uint8", "int16")

_FILTERS = (
    formats.certainty,
    formats.class_name,
    formats.correlation,
    formats.figure,
    formats.headline,
    formats.measured_on,
    formats.model_name,
    formats.number,
    formats.percent,
    formats.pretty_json,
    formats.ratio,
    formats.sentence,
    formats.size,
    formats.span,
    formats.words,
)


def render_html(report: Report) -> str:
    """Returns the report as one self-contained HTML document.

    Raises:
        ExrayError: The packages of the `[report]` extra are missing.
    """
    page = template("report.html.j2")
    document = report.to_dict()
    findings = (report.lint or {"findings": []})["findings"]
    in_order = sorted(document["layers"], key=lambda layer: layer["index"])
    layers = [_layer(position, layer, findings) for position, layer in enumerate(in_order)]
    legs = [leg for leg in _LEGS if any(leg in layer["legs"] for layer in layers)]
    worst = _worst_layers(layers, legs)
    differing = gist.differing_inputs(document)
    return page.render(
        report=document,
        decisive=gist.decisive_check(document),
        layers=layers,
        legs=legs,
        has_own_errors=any(layer["own_error"] for layer in layers),
        worst=worst,
        highest_nrmse=max((layer["legs"][leg]["nrmse"] for leg, layer in worst.items()), default=0),
        findings=findings,
        suspects={s["layer"] for s in document["suspects"]} | _blamed(document),
        differing_inputs=differing,
        hypotheses={name: gist.hypotheses(found) for name, found in differing.items()},
        plots=_plots(layers, legs),
        labelled_layers=layers[:: max(1, -(-len(layers) // _LABELLED_LAYERS))],
        chart={"layers": [layer["index"] for layer in layers], "texts": [_text(layer) for layer in layers]},
    )


def template(name: str) -> Any:
    """Returns the Jinja template of a page.

    Raises:
        ExrayError: The packages of the `[report]` extra are missing.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise errors.ExrayError("The HTML report needs the package jinja2: run `pip install edge-exray[report]`.")
    return _environment().get_template(name)


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja sorts keys by default; the order of legs means something.
    environment.policies["json.dumps_kwargs"] = {}
    environment.filters |= {f.__name__: f for f in _FILTERS}
    return environment


def _blamed(document: dict[str, Any]) -> set[int]:
    suspect = (document["attribution"] or {}).get("suspect")
    return {suspect["layer"]} if suspect else set()


def _layer(position: int, layer: dict[str, Any], findings: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a layer of the report with what its details show beside it."""
    return {
        "own_error": None,
        **layer,
        "position": position,
        "saturated": _highest(layer, "saturated_share"),
        "clipped": _highest(layer, "clipped_share"),
        "findings": [f for f in findings if f["subgraph"] == 0 and f["op"] == layer["index"]],
        "ranges": _ranges(layer),
    }


def _highest(layer: dict[str, Any], key: str) -> float | None:
    return max((drift[key] for drift in layer["legs"].values() if drift[key] is not None), default=None)


def _ranges(layer: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns whose values of the layer lie where, and what the edge tensor can hold, on one scale from 0 to 1."""
    conversion, quantization = (layer["legs"].get(leg) for leg in ("conversion", "quantization"))
    rows = []
    if conversion:
        rows.append(("Cloud", conversion["reference_range"], conversion.get("reference_rms")))
    if quantization:
        rows.append(("Float edge", quantization["reference_range"], quantization.get("reference_rms")))
        rows.append(("Edge", quantization["edge_range"], quantization.get("edge_rms")))
    elif conversion:
        rows.append(("Edge", conversion["edge_range"], conversion.get("edge_rms")))
    held = layer["quantization"]
    if held and held["scale"] and layer["dtype"] in _NARROW:
        limits = Quantization(tuple(held["scale"]), tuple(held["zero_point"])).range(np.dtype(layer["dtype"]))
        rows.append(("Edge can hold", list(limits), None))
    known = [row for row in rows if None not in row[1]]
    low, high = (choose((bound for row in known for bound in row[1]), default=0.0) for choose in (min, max))
    width = high - low or 1.0
    return [
        {"name": name, "bounds": bounds, "rms": rms, "from": (bounds[0] - low) / width, "to": (bounds[1] - low) / width}
        for name, bounds, rms in known
    ]


def _worst_layers(layers: list[dict[str, Any]], legs: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the layer with the highest nRMSE of each leg that has any figure."""
    worst = {}
    for leg in legs:
        known = [layer for layer in layers if leg in layer["legs"] and layer["legs"][leg]["nrmse"] is not None]
        if known:
            worst[leg] = max(known, key=lambda layer: layer["legs"][leg]["nrmse"])
    return worst


def _plots(layers: list[dict[str, Any]], legs: list[str]) -> list[dict[str, Any]]:
    """Returns title and panels of each plot over the layers in graph order."""
    drift = {leg: [layer["legs"].get(leg, {}).get("nrmse") for layer in layers] for leg in legs}
    own = {name: [(layer["own_error"] or {}).get(key) for layer in layers] for name, key in _SERIES.items()}
    plots = [
        ("Drift of each layer, by leg", drift),
        ("Quantization: what each op adds itself, and what it inherits", own),
    ]
    return [
        {"title": title, "names": list(figures), "panels": plot.panels(figures)}
        for title, figures in plots
        if any(value is not None for values in figures.values() for value in values)
    ]


def _text(layer: dict[str, Any]) -> str:
    """Returns a layer in a few lines, for who points at it or hears of it."""
    lines = [f"Layer {layer['index']}, {layer['op']}", max(layer["name"].split(";"), key=len)]
    lines += [f"{leg}: nRMSE {formats.number(drift['nrmse'])}" for leg, drift in layer["legs"].items()]
    own = layer["own_error"]
    if own:
        lines.append(f"own: {formats.number(own['nrmse'])}, inherited: {formats.number(own['inherited_nrmse'])}")
    return "\n".join(lines)
