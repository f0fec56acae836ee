"""Checks of what single layers compute: converted, quantised, and on other kernels."""

import math
from typing import Any

from edge_exray.diagnosis import own_errors
from edge_exray.diagnosis.checks.finding import (
    Finding,
    below_step,
    drift_figures,
    finding,
    layer_drifts,
    place_of,
    suspected,
    worst_of,
)
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.models.alignment import Layer, Status
from edge_exray.replay import kernel_leg
from edge_exray.replay.device_leg import DEVICE

# nRMSE of a few 8-bit steps: from less than this to this is no jump.
_SMALL_DRIFT = 0.01


def conversion_drift(evidence: Evidence) -> Finding:
    """The float edge model computes what the cloud model computes."""
    limit = evidence.spec.max_conversion_nrmse
    outputs = {name: drift.nrmse for name, drift in evidence.output_drift("conversion").items()}
    outputs_drift = any(not value <= limit for value in outputs.values())
    drifts = {layer.index: (layer, drift) for _, layer, drift in layer_drifts(evidence, "conversion")}
    beyond = [index for index, (_, drift) in drifts.items() if not drift.nrmse <= limit]

    def accuses(layer: Layer) -> bool:
        """A pair that the numbers did not confirm may be a wrong pair, unless the drift goes on from there."""
        if outputs_drift or layer.status is Status.VERIFIED:
            return True
        readers = [index for index in drifts if layer.index in drifts[index][0].producers]
        return any(index in beyond for index in readers) and not any(index in beyond for index in layer.producers)

    found = [drifts[index] for index in beyond if accuses(drifts[index][0])]
    evidence_figures = {"outputs_nrmse": outputs, "limit": limit}
    if not found and not outputs_drift:
        message = "The float edge model follows the cloud model in every paired layer."
        return finding("conversion_drift", True, message, evidence_figures)
    if not found:
        message = f"The outputs of float edge and cloud model differ (nRMSE {worst_of(outputs)}), no layer does."
        return finding("conversion_drift", False, message, evidence_figures)
    layer, drift = found[0]
    message = f"The conversion changes the model at {place_of(layer)}: nRMSE {drift.nrmse:.3g}, {limit:g} is allowed."
    suspect = suspected(layer, "conversion", f"first layer beyond the limit, nRMSE {drift.nrmse:.3g}")
    return finding("conversion_drift", False, message, evidence_figures | drift_figures(layer, drift), [suspect])


def own_error(evidence: Evidence) -> Finding | None:
    """No op of the edge model adds more error by itself than quantisation explains."""
    found = own_errors.figures(evidence)
    if not found:
        return None
    limit = evidence.spec.max_own_error
    figures: dict[str, Any] = {
        "limit": limit,
        "ops": len(found),
        "absent": evidence.replay.summary["own_error"]["absent"],
    }
    accused = own_errors.outlier(found, limit)
    if accused is None:
        worst = max(found, key=lambda own: own.ratio)
        message = "No op adds an error itself."
        if worst.ratio:
            message = (
                f"No op stands out by the error that it adds itself: the most is {worst.ratio:.2g} times what rounding "
                f"causes, by {place_of(worst.layer)}."
            )
        return finding("own_error", True, message, figures | {"worst_ratio": worst.ratio})
    layer, drift = accused.layer, accused.drift
    message = (
        f"An op is wrong by itself, {place_of(layer)}: on the float model's values it errs {accused.ratio:.3g} times "
        f"as much as rounding causes (nRMSE {drift.nrmse:.3g}). Look at its weights, bias and quantisation "
        "parameters, or keep it in float (keep_float_layers)."
    )
    suspect = suspected(layer, "quantization", f"own error {accused.ratio:.3g} times what rounding causes")
    own_figures = {"ratio": accused.ratio, "inherited_nrmse": accused.inherited_nrmse}
    return finding("own_error", False, message, figures | own_figures | drift_figures(layer, drift), [suspect])


def quantization_drift(evidence: Evidence) -> Finding | None:
    """Every layer of the edge model stays near its float twin, whatever its error comes from."""
    limit = evidence.spec.max_layer_nrmse
    drifts = {layer.index: (layer, drift) for _, layer, drift in layer_drifts(evidence, "quantization")}
    if not drifts:
        return None
    worst_layer, worst = max(drifts.values(), key=lambda item: (item[1].nrmse != item[1].nrmse, item[1].nrmse))
    figures = {"limit": limit, "worst_nrmse": worst.nrmse, "worst_layer": worst_layer.index}
    bad = {index for index, (la, drift) in drifts.items() if not drift.nrmse <= limit and not below_step(la, drift)}
    if not bad:
        message = "Every layer equals its float twin."
        if worst.nrmse:
            place = place_of(worst_layer)
            message = f"Every layer stays near its float twin: the worst is {place} with nRMSE {worst.nrmse:.3g}."
        return finding("quantization_drift", True, message, figures)
    first, beyond = drifts[min(bad)]
    own = own_errors.figures(evidence)
    if own:
        accused = own_errors.outlier(own, evidence.spec.max_own_error)
        source = "no op is wrong by itself, errors add up: try int16 activations or keep the first layers in float"
        if accused:
            source = f"the error comes from {place_of(accused.layer)}"
        message = (
            f"The edge model departs from its float twin at {place_of(first)}: nRMSE {beyond.nrmse:.3g}, {limit:g} is "
            f"allowed; {source}."
        )
        return finding("quantization_drift", False, message, figures | drift_figures(first, beyond))

    def inherited(layer: Layer) -> float:
        return max((drifts[p][1].nrmse for p in layer.producers if p in drifts), default=0.0)

    def growth(index: int) -> float:
        layer, drift = drifts[index]
        ratio = drift.nrmse / max(inherited(layer), _SMALL_DRIFT)
        return float("inf") if math.isnan(ratio) else ratio

    # Drift adds up on the way: the layer that made it is the one where it jumps, not the one that exceeds the limit.
    layer, drift = drifts[max((index for index in drifts if index <= first.index), key=growth)]
    message = f"The edge model departs from its float twin at {place_of(layer)}: nRMSE {drift.nrmse:.3g}"
    if layer is not first:
        message += f", which grows to {beyond.nrmse:.3g} at {place_of(first)}"
    message += (
        f"; {limit:g} is allowed, and its inputs carry {inherited(layer):.3g}. Look at this layer's weights and "
        "quantisation parameters, or keep it in float (keep_float_layers)."
    )
    suspect = suspected(layer, "quantization", f"drift jumps here from {inherited(layer):.3g} to {drift.nrmse:.3g}")
    return finding("quantization_drift", False, message, figures | drift_figures(layer, drift), [suspect])


def kernel_drift(evidence: Evidence) -> Finding | None:
    """Production kernels compute what the built-in and the reference kernels compute, and a device's what ours do."""
    limit = evidence.spec.max_kernel_nrmse
    compared = [
        (kernels, layer, drift)
        for layer in evidence.layers
        for kernels in (DEVICE, *kernel_leg.KERNELS)
        if (drift := evidence.kernel_drift(layer, kernels)) is not None
    ]
    died = [
        (kernels, layer)
        for layer in evidence.layers
        for kernels in kernel_leg.KERNELS
        if evidence.kernel_drift(layer, kernels + kernel_leg.DIED) is not None
    ]
    if not compared and not died:
        return _device_outputs(evidence)
    fallen = ""
    if died:
        places = [f"{kernels} kernels died at op {layer.index} {layer.op}" for kernels, layer in died]
        fallen = " " + "; ".join(places[:3])[:1].upper() + "; ".join(places[:3])[1:]
        fallen += f" and at {len(places) - 3} more." if len(places) > 3 else "."
    figures: dict[str, Any] = {
        "limit": limit,
        "compared": len(compared),
        "died": [{"kernels": kernels, "layer": layer.index, "op": layer.op} for kernels, layer in died],
    }
    bad = [item for item in compared if not item[2].nrmse <= limit and not below_step(item[1], item[2])]
    if bad:
        kernels, layer, drift = bad[0]
        sides, advice = ("The production kernel of", f"the {kernels} kernel"), "keep the op off XNNPACK"
        if kernels == DEVICE:
            sides, advice = (
                ("The device's kernel of", "the same model here on the logged inputs"),
                "another delegate, on the device",
            )
        message = (
            f"{sides[0]} {place_of(layer)} computes something else than {sides[1]}: nRMSE {drift.nrmse:.3g}, "
            f"{limit:g} is allowed. Try another version of the runtime, or {advice}."
        )
        suspect = suspected(layer, "kernel", f"differs from {sides[1]}, nRMSE {drift.nrmse:.3g}")
        figures |= {"kernels": kernels} | drift_figures(layer, drift)
        return finding("kernel_drift", False, message + fallen, figures, [suspect])
    if not compared:
        return CheckResult("kernel_drift", Verdict.INCONCLUSIVE, "No op could be compared." + fallen, figures), []
    return finding("kernel_drift", True, "All kernels that ran compute the same." + fallen, figures)


def _device_outputs(evidence: Evidence) -> Finding | None:
    """Judges the kernels of a device that logged no layers by its outputs."""
    limit = evidence.spec.max_kernel_nrmse
    drifts = {name: drift.nrmse for name, drift in evidence.output_drift("kernel").items()}
    if not drifts:
        return None
    figures = {"limit": limit, "compared": 0, "outputs_nrmse": drifts}
    if all(value <= limit for value in drifts.values()):
        message = f"The device answers what the same model answers here to the logged inputs: nRMSE {worst_of(drifts)}."
        return finding("kernel_drift", True, message, figures)
    message = (
        f"The device answers something else than the same model here to the logged inputs: nRMSE {worst_of(drifts)}, "
        f"{limit:g} is allowed. Log its layers (level='layers') to see at which op."
    )
    return finding("kernel_drift", False, message, figures)
