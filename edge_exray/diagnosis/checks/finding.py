"""What a check returns, and how it names layers and figures."""

from collections.abc import Iterator
from typing import Any

from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Suspect, Verdict
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models import names
from edge_exray.models.alignment import Layer

Finding = tuple[CheckResult, list[Suspect]]
"""The result of a check and the layers that it suspects."""

# A sentence names so many inputs.
_NAMED = 15


def finding(
    name: str, passed: bool, message: str, figures: dict[str, Any], suspects: list[Suspect] | None = None
) -> Finding:
    """Returns a result that either passed or failed."""
    verdict = Verdict.PASSED if passed else Verdict.FAILED
    return CheckResult(name, verdict, message, figures), suspects or []


def layer_drifts(evidence: Evidence, *legs: str) -> Iterator[tuple[str, Layer, DriftStatistics]]:
    """Yields what each leg found on each layer, in execution order."""
    for layer in evidence.layers:
        for leg in legs:
            drift = evidence.drift(leg, layer)
            if drift is not None:
                yield leg, layer, drift


def place_of(layer: Layer) -> str:
    """Names a layer in a sentence: by its cloud tensor, which people know from their code, or else as the .tflite does.

    The call that TensorFlow wraps every exported function in is left out of the name.
    """
    name = layer.spec.name.rstrip(";").split(";")[-1]
    if layer.cloud_tensor and not layer.cloud_tensor.startswith("Identity"):
        name = layer.cloud_tensor.removesuffix(":0")
    if names.is_call(name):
        return f"layer {layer.index} {layer.op}, an output of the model"
    return f"layer {layer.index} {layer.op} {names.without_call(name)}"


def listed(names: list[str]) -> str:
    """Returns names as a text, the last ones as their number when there are many."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def suspected(layer: Layer, leg: str, reason: str) -> Suspect:
    """Returns a layer as a suspect of a leg."""
    return Suspect(layer.index, layer.op, layer.spec.name, layer.cloud_tensor, leg, reason)


def drift_figures(layer: Layer, drift: DriftStatistics) -> dict[str, Any]:
    """Returns the figures of a layer in a leg."""
    return {"layer": layer.index, **drift.summary()}


def below_step(layer: Layer, drift: DriftStatistics) -> bool:
    """True for an error that the layer's tensor cannot express, as in a SOFTMAX over very many classes."""
    quantization = layer.spec.quantization
    return quantization is not None and drift.rmse < max(quantization.scale)


def worst_of(values: dict[str, float]) -> str:
    """Returns the largest figure as a text; NaN counts as the largest."""
    return f"{max(values.values(), key=lambda v: (v != v, v)):.3g}" if values else "0"
