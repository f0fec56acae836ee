"""The built-in checks, in causal order: frames, inputs, weights, conversion, quantisation, outputs.

A check looks at the evidence and returns its result, with the layers that it suspects; None when it does not
apply (no labels, no classification).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from edge_exray.diagnosis import input_ranges, own_errors
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Suspect, Verdict
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models.alignment import Layer, Status
from edge_exray.models.parity import ConstantParity, Source
from edge_exray.replay import kernel_leg

# Of the constants that differ so many are listed, and so many layers suspected.
_LISTED = 20
_SUSPECTS = 5
# A sentence names so many inputs.
_NAMED = 15
_WEIGHTED_OPS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}

# Kernels that are fused sum in another order; so much is no other answer.
_MAX_INSTRUMENTATION_NRMSE = 0.01

Finding = tuple[CheckResult, list[Suspect]]
Check = Callable[[Evidence], Finding | None]

# nRMSE of a few 8-bit steps: from less than this to this is no jump.
_SMALL_DRIFT = 0.01


def frames(evidence: Evidence) -> Finding:
    """What was asked for was replayed; a replay with more failed frames than its limit does not get here."""
    failures = evidence.replay.failures.to_dict()
    figures = {**failures, "repeated_ids": evidence.repeated_ids}
    message = f"All {failures['frames']} frames were replayed."
    if failures["failed"]:
        first = failures["reasons"][0]
        message = (
            f"{failures['failed']} of {failures['frames']} frames failed and are in no other figure: most often "
            f"({first['count']} times, first at {first['frames'][0]}) {first['error']}: {first['message']}."
        )
    if evidence.repeated_ids:
        message += f" {evidence.repeated_ids} frames have the id of an earlier one; each counts as a frame of its own."
    return _finding("frames", True, message, figures)


def preprocessing(evidence: Evidence) -> Finding:
    """The app feeds what training fed."""
    limit = evidence.spec.max_preprocessing_nrmse
    bad = {name: d for name, d in evidence.inputs.items() if not d.identical and not d.nrmse <= limit}
    figures = {
        name: {"nrmse": d.nrmse, "residual": d.residual, "hypothesis": d.hypothesis, "code": d.code}
        for name, d in evidence.inputs.items()
    }
    if not bad:
        return _finding("preprocessing", True, "The edge inputs equal the reference inputs.", figures)
    (name, worst), *others = sorted(bad.items(), key=lambda item: (item[1].nrmse == item[1].nrmse, -item[1].nrmse))
    if worst.swapped_with:
        message = f"The app swaps the inputs {name} and {worst.swapped_with}: it feeds each what belongs to the other."
        others = [item for item in others if item[0] != worst.swapped_with]
    else:
        message = f"The app prepares input {name} differently: {worst.hypothesis}."
    if worst.code:
        message += f" It feeds {worst.code} where the reference feeds x; undo this in the app."
    if others:
        swaps = {tuple(sorted((other, d.swapped_with))) for other, d in others if d.swapped_with}
        plural = "inputs differ" if len(others) > 1 else "input differs"
        message += f" {len(others)} more {plural}: {_listed([other for other, _ in others])}"
        message += "".join(f"; {one} and {two} are swapped" for one, two in sorted(swaps)) + "."
    return _finding("preprocessing", False, message, figures)


def non_finite(evidence: Evidence) -> Finding:
    """No layer of any model turns NaN or infinite."""
    for leg, layer, drift in _layer_drifts(evidence, "conversion", "quantization"):
        counts = {"reference": drift.reference_nonfinite, "edge": drift.edge_nonfinite}
        if any(counts.values()):
            where = _place(layer)
            side = " and ".join(f"{count} values of the {side} run" for side, count in counts.items() if count)
            message = f"NaN or infinite values first appear at {where}: {side} in the {leg} leg."
            suspect = _suspect(layer, leg, "first layer with NaN or infinite values")
            return _finding("non_finite", False, message, {"leg": leg, "layer": layer.index, **counts}, [suspect])
    bad_inputs = [name for name in evidence.inputs if evidence.channels(name).nonfinite]
    if bad_inputs:
        counts = {name: evidence.channels(name).nonfinite for name in bad_inputs}
        return _finding("non_finite", False, f"Inputs {bad_inputs} hold NaN or infinite values.", {"frames": counts})
    return _finding("non_finite", True, "All values of all layers are finite.", {})


def alignment_coverage(evidence: Evidence) -> Finding:
    """Enough ops of the edge model are paired for the layer checks to mean something."""
    counts: dict[str, Any] = evidence.replay.alignment.summary()
    passed = counts["coverage"] >= evidence.spec.min_alignment_coverage
    message = f"{counts['coverage']:.1%} of {counts['ops']} ops are paired with the cloud graph"
    if passed:
        return _finding("alignment_coverage", True, message + ".", counts)
    unmatched = [_place(la) for la in evidence.layers if la.status in (Status.UNMATCHED, Status.UNVERIFIED)]
    message += f", {evidence.spec.min_alignment_coverage:.0%} are needed; first without a twin: {unmatched[0]}."
    return _finding("alignment_coverage", False, message, counts)


def constants_parity(evidence: Evidence) -> Finding | None:
    """Every weight and bias is the cloud model's, but for rounding to half a step."""
    constants = evidence.replay.alignment.constants
    compared = [c for c in constants if c.difference]
    if not constants:
        return None
    sources = {source.value: sum(c.source is source for c in constants) for source in Source}
    differing = [c for c in compared if c.differs]
    figures: dict[str, Any] = {
        "constants": len(constants),
        "references": sources,
        "differing": len(differing),
        "worst": [_constant_figures(evidence, c) for c in sorted(differing, key=_severity, reverse=True)[:_LISTED]],
    }
    references = (
        f"reference: {sources['cloud']} times the cloud constant itself, {sources['float_edge']} times the float edge "
        "model's, where the converter folded several into one"
    )
    if sources["none"]:
        references += f"; {sources['none']} have no counterpart"
    if not differing:
        message = f"{len(compared)} weights and biases are the cloud model's to within half a step ({references})."
        return _finding("constants_parity", True, message, figures)
    # Literals, such as the 3 of a hard swish, are the same in every checkpoint.
    arrays = [c for c in compared if c.elements > 1]
    if 2 * sum(c.differs for c in arrays) > len(arrays) > 2:
        message = (
            f"{len(differing)} of {len(compared)} weights and biases are not the cloud model's, by more than rounding: "
            f"the edge model was made from another checkpoint; convert it from this one ({references})."
        )
        return _finding("constants_parity", False, message, figures)
    worst = max(differing, key=_severity)
    layers = [evidence.layers[i] for i in dict.fromkeys(c.layer for c in differing)]
    message = (
        f"{len(differing)} of {len(compared)} weights and biases are not the cloud model's, by more than rounding: "
        f"{_change(evidence, worst)}. They were changed on the way to the edge; convert the model again ({references})."
    )
    reasons = {c.layer: _change(evidence, c) for c in sorted(differing, key=_severity)}
    suspects = [_suspect(layer, "quantization", reasons[layer.index]) for layer in layers[:_SUSPECTS]]
    return _finding("constants_parity", False, message, figures, suspects)


def conversion_drift(evidence: Evidence) -> Finding:
    """The float edge model computes what the cloud model computes."""
    limit = evidence.spec.max_conversion_nrmse
    outputs = {name: drift.nrmse for name, drift in evidence.output_drift("conversion").items()}
    # A pair that the numbers did not confirm may be a wrong pair: it accuses only when the outputs drift too.
    outputs_drift = any(not value <= limit for value in outputs.values())
    found = [
        (layer, drift)
        for _, layer, drift in _layer_drifts(evidence, "conversion")
        if not drift.nrmse <= limit and (outputs_drift or layer.status is Status.VERIFIED)
    ]
    evidence_figures = {"outputs_nrmse": outputs, "limit": limit}
    if not found and not outputs_drift:
        message = "The float edge model follows the cloud model in every paired layer."
        return _finding("conversion_drift", True, message, evidence_figures)
    if not found:
        message = f"The outputs of float edge and cloud model differ (nRMSE {_worst(outputs)}), no layer does."
        return _finding("conversion_drift", False, message, evidence_figures)
    layer, drift = found[0]
    message = f"The conversion changes the model at {_place(layer)}: nRMSE {drift.nrmse:.3g}, {limit:g} is allowed."
    suspect = _suspect(layer, "conversion", f"first layer beyond the limit, nRMSE {drift.nrmse:.3g}")
    return _finding("conversion_drift", False, message, evidence_figures | _figures(layer, drift), [suspect])


def calibration_range(evidence: Evidence) -> Finding | None:
    """The quantised tensors can represent the values that the frames produce."""
    spec = evidence.spec
    ranges = input_ranges.input_ranges(evidence)
    inputs = {item.name: item.to_dict() for item in ranges}
    if max((item.clipped for item in ranges), default=0.0) <= spec.max_clipped_share:
        shared = input_ranges.shared_scale(ranges, spec.min_range_use)
        if shared:
            return _shared_scale(evidence, shared, inputs)
    # An input that is clipped loses more than one that wastes its range.
    bad = sorted(
        (item for item in ranges if item.clipped > spec.max_clipped_share or item.use < spec.min_range_use),
        key=lambda item: (-item.clipped if item.clipped > spec.max_clipped_share else 0.0, item.use),
    )
    if bad:
        first, *others = bad
        seen = f"[{first.seen[0]:.3g}, {first.seen[1]:.3g}]"
        loss = (
            f"{first.clipped:.0%} of the values are clipped"
            if first.clipped > spec.max_clipped_share
            else f"only {first.use:.1%} of the range is used"
        )
        message = (
            f"Input {first.name} was calibrated for [{first.representable[0]:.3g}, {first.representable[1]:.3g}], but "
            f"the reference inputs span {seen}: {loss}. "
        )
        if others:
            message += f"The same holds for {_listed([item.name for item in others])}. "
        message += "Calibrate on inputs that are prepared like the reference inputs."
        return _finding("calibration_range", False, message, {"inputs": inputs})
    quantized = [(la, d) for _, la, d in _layer_drifts(evidence, "quantization") if d.quantized]
    if not quantized and not inputs:
        return None
    clipped_layers = [(la, d) for la, d in quantized if d.clipped_share > spec.max_clipped_share]
    if clipped_layers:
        layer, drift = clipped_layers[0]
        message = (
            f"{drift.clipped_share:.0%} of the values of {_place(layer)} lie outside what its quantised tensor can "
            "represent: calibrate on more representative inputs."
        )
        suspect = _suspect(layer, "quantization", f"clips {drift.clipped_share:.0%} of its values")
        return _finding("calibration_range", False, message, {"inputs": inputs} | _figures(layer, drift), [suspect])
    worst = max((d.clipped_share for _, d in quantized), default=0.0)
    message = f"The quantised ranges fit the frames: at most {worst:.2%} of the values of a layer are clipped."
    return _finding("calibration_range", True, message, {"inputs": inputs, "worst_clipped_share": worst})


def _shared_scale(evidence: Evidence, shared: input_ranges.SharedScale, inputs: dict[str, Any]) -> Finding:
    """Tells that inputs are coarse because of the op that joins them, which no calibration mends."""
    layer, dominant = evidence.layers[shared.reader], shared.dominant
    low, high = dominant.representable
    narrow = _listed([f"{item.name} ({100 * item.use:.2g}%)" for item in shared.narrow])
    message = (
        f"L{_place(layer)[1:]} gives the {len(shared.inputs)} inputs that it joins one scale and zero point, for "
        f"[{low:.3g}, {high:.3g}]; input {dominant.name} with [{dominant.seen[0]:.3g}, {dominant.seen[1]:.3g}] "
        f"dominates it. Too little of that range is left to {narrow}. Normalise every input before they are joined, in "
        "both preprocessings or by an op of the model, or keep the activations in float (quantization "
        '"none", "float16" or "dynamic_range").'
    )
    reason = f"gives {len(shared.inputs)} inputs one scale, which {dominant.name} dominates"
    figures = {"inputs": inputs, "layer": layer.index, "dominant": dominant.name}
    return _finding("calibration_range", False, message, figures, [_suspect(layer, "quantization", reason)])


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
                f"causes, by {_place(worst.layer)}."
            )
        return _finding("own_error", True, message, figures | {"worst_ratio": worst.ratio})
    layer, drift = accused.layer, accused.drift
    message = (
        f"An op is wrong by itself, {_place(layer)}: on the float model's values it errs {accused.ratio:.3g} times as "
        f"much as rounding causes (nRMSE {drift.nrmse:.3g}). Look at its weights, bias and quantisation parameters, or "
        "keep it in float."
    )
    suspect = _suspect(layer, "quantization", f"own error {accused.ratio:.3g} times what rounding causes")
    own_figures = {"ratio": accused.ratio, "inherited_nrmse": accused.inherited_nrmse}
    return _finding("own_error", False, message, figures | own_figures | _figures(layer, drift), [suspect])


def quantization_drift(evidence: Evidence) -> Finding | None:
    """Every layer of the edge model stays near its float twin, whatever its error comes from."""
    limit = evidence.spec.max_layer_nrmse
    drifts = {layer.index: (layer, drift) for _, layer, drift in _layer_drifts(evidence, "quantization")}
    if not drifts:
        return None
    worst_layer, worst = max(drifts.values(), key=lambda item: (item[1].nrmse != item[1].nrmse, item[1].nrmse))
    figures = {"limit": limit, "worst_nrmse": worst.nrmse, "worst_layer": worst_layer.index}
    bad = {index for index, (la, drift) in drifts.items() if not drift.nrmse <= limit and not _below_step(la, drift)}
    if not bad:
        message = "Every layer equals its float twin."
        if worst.nrmse:
            place = _place(worst_layer)
            message = f"Every layer stays near its float twin: the worst is {place} with nRMSE {worst.nrmse:.3g}."
        return _finding("quantization_drift", True, message, figures)
    first, beyond = drifts[min(bad)]
    own = own_errors.figures(evidence)
    if own:
        accused = own_errors.outlier(own, evidence.spec.max_own_error)
        source = "no op is wrong by itself, errors add up: try int16 activations or keep the first layers in float"
        if accused:
            source = f"the error comes from {_place(accused.layer)}"
        message = (
            f"The edge model departs from its float twin at {_place(first)}: nRMSE {beyond.nrmse:.3g}, {limit:g} is "
            f"allowed; {source}."
        )
        return _finding("quantization_drift", False, message, figures | _figures(first, beyond))

    def inherited(layer: Layer) -> float:
        return max((drifts[p][1].nrmse for p in layer.producers if p in drifts), default=0.0)

    def growth(index: int) -> float:
        layer, drift = drifts[index]
        ratio = drift.nrmse / max(inherited(layer), _SMALL_DRIFT)
        return float("inf") if math.isnan(ratio) else ratio

    # Drift adds up on the way: the layer that made it is the one where it jumps, not the one that exceeds the limit.
    layer, drift = drifts[max((index for index in drifts if index <= first.index), key=growth)]
    message = f"The edge model departs from its float twin at {_place(layer)}: nRMSE {drift.nrmse:.3g}"
    if layer is not first:
        message += f", which grows to {beyond.nrmse:.3g} at {_place(first)}"
    message += (
        f"; {limit:g} is allowed, and its inputs carry {inherited(layer):.3g}. Look at this layer's weights and "
        "quantisation parameters, or keep it in float."
    )
    suspect = _suspect(layer, "quantization", f"drift jumps here from {inherited(layer):.3g} to {drift.nrmse:.3g}")
    return _finding("quantization_drift", False, message, figures | _figures(layer, drift), [suspect])


def _below_step(layer: Layer, drift: DriftStatistics) -> bool:
    """True for an error that the layer's tensor cannot express, as in a SOFTMAX over very many classes."""
    quantization = layer.spec.quantization
    return quantization is not None and drift.rmse < max(quantization.scale)


def output_drift(evidence: Evidence) -> Finding | None:
    """Outputs that are no classification stay near the cloud model's."""
    names = [n for n in evidence.replay.summary["outputs"] if n != evidence.agreement.output]
    if not names:
        return None
    limit = evidence.spec.max_layer_nrmse
    worst: dict[str, float] = {}
    for leg in ("conversion", "quantization", "preprocessing"):
        for name, drift in evidence.output_drift(leg).items():
            if name in names and not drift.nrmse <= worst.get(name, -1.0):
                worst[name] = drift.nrmse
    bad = {name: value for name, value in worst.items() if not value <= limit}
    figures = {"outputs_nrmse": worst, "limit": limit}
    if bad:
        message = f"Outputs {sorted(bad)} drift too far in one of the legs: nRMSE {_worst(bad)}, {limit:g} is allowed."
        return _finding("output_drift", False, message, figures)
    return _finding("output_drift", True, f"The outputs stay near the cloud model's: nRMSE {_worst(worst)}.", figures)


def label_flip_rate(evidence: Evidence) -> Finding | None:
    """The edge model gives the cloud model's answers."""
    agreement, limit = evidence.agreement, evidence.spec.max_label_flip_rate
    rate = agreement.label_flip_rate
    if rate is None:
        return None
    figures = {"flips": agreement.flips, "frames": agreement.frames, "limit": limit}
    message = (
        f"{rate:.1%} of the answers differ between cloud and edge ({agreement.flips} of {agreement.frames} frames)"
    )
    return _statistical("label_flip_rate", rate <= limit, f"{message}, {limit:.1%} are allowed.", figures, evidence)


def accuracy_drop(evidence: Evidence) -> Finding | None:
    """The edge model is as often right as the cloud model."""
    agreement, limit = evidence.agreement, evidence.spec.max_accuracy_drop
    cloud, edge = agreement.accuracy("cloud"), agreement.accuracy("edge")
    if cloud is None or edge is None:
        return None
    figures = {"cloud": cloud, "edge": edge, "labelled": agreement.labelled, "limit": limit}
    message = f"Accuracy is {cloud:.3f} in the cloud and {edge:.3f} on the edge; a drop of {limit:g} is allowed."
    return _statistical("accuracy_drop", cloud - edge <= limit, message, figures, evidence)


def instrumentation(evidence: Evidence) -> Finding | None:
    """Keeping the layers readable does not change what the edge model answers."""
    drifts = evidence.output_drift("instrumentation")
    if not drifts:
        return None
    differing = {name: drift.nrmse for name, drift in drifts.items() if not drift.nrmse <= _MAX_INSTRUMENTATION_NRMSE}
    figures = {
        "outputs_nrmse": {name: drift.nrmse for name, drift in drifts.items()},
        "limit": _MAX_INSTRUMENTATION_NRMSE,
    }
    if not differing:
        return _finding("instrumentation", True, "The edge model answers the same with its layers kept.", figures)
    message = (
        f"Outputs {sorted(differing)} change when the layers of the edge model are kept readable (nRMSE "
        f"{_worst(differing)}): what is said about its layers does not hold for the model as it ships."
    )
    return CheckResult("instrumentation", Verdict.INCONCLUSIVE, message, figures), []


def kernel_drift(evidence: Evidence) -> Finding | None:
    """Production kernels compute what the built-in and the reference kernels compute."""
    limit = evidence.spec.max_kernel_nrmse
    compared = [
        (kernels, layer, drift)
        for layer in evidence.layers
        for kernels in kernel_leg.KERNELS
        if (drift := evidence.kernel_drift(layer, kernels)) is not None
    ]
    died = [
        (kernels, layer)
        for layer in evidence.layers
        for kernels in kernel_leg.KERNELS
        if evidence.kernel_drift(layer, kernels + kernel_leg.DIED) is not None
    ]
    if not compared and not died:
        return None
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
    bad = [item for item in compared if not item[2].nrmse <= limit and not _below_step(item[1], item[2])]
    if bad:
        kernels, layer, drift = bad[0]
        message = (
            f"The production kernel of {_place(layer)} computes something else than the {kernels} kernel: nRMSE "
            f"{drift.nrmse:.3g}, {limit:g} is allowed. Try another version of the runtime, or keep the op off XNNPACK."
        )
        suspect = _suspect(layer, "kernel", f"differs from the {kernels} kernel, nRMSE {drift.nrmse:.3g}")
        figures |= {"kernels": kernels} | _figures(layer, drift)
        return _finding("kernel_drift", False, message + fallen, figures, [suspect])
    if not compared:
        return CheckResult("kernel_drift", Verdict.INCONCLUSIVE, "No op could be compared." + fallen, figures), []
    return _finding("kernel_drift", True, "All kernels that ran compute the same." + fallen, figures)


CHECKS: tuple[Check, ...] = (
    frames,
    preprocessing,
    non_finite,
    instrumentation,
    alignment_coverage,
    constants_parity,
    conversion_drift,
    calibration_range,
    own_error,
    quantization_drift,
    kernel_drift,
    output_drift,
    label_flip_rate,
    accuracy_drop,
)


def _finding(
    name: str, passed: bool, message: str, figures: dict[str, Any], suspects: list[Suspect] | None = None
) -> Finding:
    verdict = Verdict.PASSED if passed else Verdict.FAILED
    return CheckResult(name, verdict, message, figures), suspects or []


def _statistical(name: str, passed: bool, message: str, figures: dict[str, Any], evidence: Evidence) -> Finding:
    needed, frames = evidence.spec.min_frames, evidence.agreement.frames
    if frames >= needed:
        return _finding(name, passed, message, figures)
    message += f" {frames} frames are too few to tell: give at least {needed}."
    return CheckResult(name, Verdict.INCONCLUSIVE, message, {**figures, "min_frames": needed}), []


def _layer_drifts(evidence: Evidence, *legs: str) -> Iterator[tuple[str, Layer, DriftStatistics]]:
    """Yields what each leg found on each layer, in execution order."""
    for layer in evidence.layers:
        for leg in legs:
            drift = evidence.drift(leg, layer)
            if drift is not None:
                yield leg, layer, drift


def _place(layer: Layer) -> str:
    twin = f" (cloud {layer.cloud_tensor})" if layer.cloud_tensor else ""
    return f"layer {layer.index} {layer.op} {layer.spec.name.split(';')[-1]}{twin}"


def _listed(names: list[str]) -> str:
    """Returns names as a text, the last ones as their number when there are many."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _severity(constant: ConstantParity) -> float:
    assert constant.difference is not None
    relative = constant.difference.relative
    return relative if relative == relative else float("inf")


def _change(evidence: Evidence, constant: ConstantParity) -> str:
    assert constant.difference is not None
    layer = evidence.layers[constant.layer]
    role = {1: "the weights", 2: "the bias"}.get(constant.input) if layer.op in _WEIGHTED_OPS else None
    change = (
        f"{constant.difference.share:.0%} of the values, by up to {constant.difference.relative:.3g} of the largest"
    )
    if constant.factor is not None:
        change = f"{constant.factor:.4g} times what they were"
    return f"{role or f'input {constant.input}'} of {_place(layer)}: {change}"


def _constant_figures(evidence: Evidence, constant: ConstantParity) -> dict[str, Any]:
    assert constant.difference is not None
    return {
        "layer": constant.layer,
        "op": evidence.layers[constant.layer].op,
        "input": constant.input,
        "name": constant.name,
        "share": constant.difference.share,
        "steps": constant.difference.steps,
        "relative": constant.difference.relative,
        "factor": constant.factor,
        "source": constant.source.value,
        "reference": constant.reference,
    }


def _suspect(layer: Layer, leg: str, reason: str) -> Suspect:
    return Suspect(layer.index, layer.op, layer.spec.name, layer.cloud_tensor, leg, reason)


def _figures(layer: Layer, drift: DriftStatistics) -> dict[str, Any]:
    return {"layer": layer.index, **drift.summary()}


def _worst(values: dict[str, float]) -> str:
    return f"{max(values.values(), key=lambda v: (v != v, v)):.3g}" if values else "0"
