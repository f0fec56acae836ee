"""The report for people: one HTML file that opens without a network.

plotly.js is embedded gzipped (1.5 MB of 4.8 MB), so that the file stays below 3 MB, and inflated by the browser's
own DecompressionStream. Where that is missing, or scripts are off, the tables carry everything the plot shows.
"""

import base64
import functools
import gzip
import html
import textwrap
from typing import Any

from edge_exray import errors
from edge_exray.diagnosis.report import Report
from edge_exray.reporting import formats

# In the order in which an error can enter on its way from the photograph to the label.
_LEGS = ("preprocessing", "conversion", "quantization", "kernel")

_FILTERS = (
    formats.correlation,
    formats.figure,
    formats.model_name,
    formats.number,
    formats.percent,
    formats.pretty_json,
    formats.ratio,
    formats.size,
    formats.span,
    formats.words,
)


def render_html(report: Report) -> str:
    """Returns the report as one self-contained HTML document.

    Raises:
        ExrayError: The packages of the `[report]` extra are missing.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as e:
        raise errors.ExrayError(
            f"The HTML report needs the package {e.name}: run `pip install edge-exray[report]`."
        ) from e

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
    document = report.to_dict()
    layers = [
        {**layer, "saturated": _highest(layer, "saturated_share"), "clipped": _highest(layer, "clipped_share")}
        for layer in sorted(document["layers"], key=lambda layer: layer["index"])
    ]
    legs = [leg for leg in _LEGS if any(leg in layer["legs"] for layer in layers)]
    has_own_errors = any(layer.get("own_error") for layer in layers)
    worst = _worst_layers(layers, legs)
    return environment.get_template("report.html.j2").render(
        report=document,
        decisive=_decisive_check(document),
        layers=layers,
        legs=legs,
        has_own_errors=has_own_errors,
        worst=worst,
        highest_nrmse=max((layer["legs"][leg]["nrmse"] for leg, layer in worst.items()), default=0),
        findings=(report.lint or {"findings": []})["findings"],
        suspects={s["layer"] for s in document["suspects"]},
        differing_inputs={k: v for k, v in document["preprocessing"].items() if not v["identical"]},
        chart=_chart(layers, legs, document["suspects"]),
        plotly=_compressed(get_plotlyjs),
    )


def _decisive_check(document: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the check that explains the verdict: checks run in causal order, so it is the first of its kind."""
    if document["verdict"] == "passed":
        return None
    return next((c for c in document["checks"] if c["verdict"] == document["verdict"]), None)


def _highest(layer: dict[str, Any], key: str) -> float | None:
    return max((drift[key] for drift in layer["legs"].values() if drift[key] is not None), default=None)


def _worst_layers(layers: list[dict[str, Any]], legs: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the layer with the highest nRMSE of each leg that has any figure."""
    worst = {}
    for leg in legs:
        known = [layer for layer in layers if leg in layer["legs"] and layer["legs"][leg]["nrmse"] is not None]
        if known:
            worst[leg] = max(known, key=lambda layer: layer["legs"][leg]["nrmse"])
    return worst


def _chart(layers: list[dict[str, Any]], legs: list[str], suspects: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what `report.js` plots: nRMSE of every leg over the layers in graph order."""
    return {
        "layers": [layer["index"] for layer in layers],
        "hover": [_hover_text(layer) for layer in layers],
        "legs": {leg: [layer["legs"].get(leg, {}).get("nrmse") for layer in layers] for leg in legs},
        "suspects": [{"layer": s["layer"], "leg": s["leg"]} for s in suspects],
    }


def _hover_text(layer: dict[str, Any]) -> str:
    def wrapped(name: str) -> str:
        # plotly reads hover texts as HTML of its own kind.
        return "<br>  ".join(html.escape(line) for line in textwrap.wrap(name, 44, max_lines=5, placeholder=" …"))

    lines = [f"<b>{layer['index']} · {html.escape(layer['op'])}</b>", wrapped(layer["name"])]
    lines.append(f"cloud: {wrapped(layer['cloud_tensor'] or layer['status'])}")
    lines += [f"{leg}: nRMSE {formats.number(drift['nrmse'])}" for leg, drift in layer["legs"].items()]
    return "<br>".join(lines)


@functools.cache
def _compressed(read_script: Any) -> str:
    return base64.b64encode(gzip.compress(read_script().encode(), mtime=0)).decode()
