"""Checks of what the models are fed: which frames, prepared how, and whether anything turns NaN."""

from edge_exray.diagnosis.checks.finding import Finding, finding, layer_drifts, listed, place_of, suspected
from edge_exray.diagnosis.evidence import Evidence


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
    return finding("frames", True, message, figures)


def preprocessing(evidence: Evidence) -> Finding:
    """The app feeds what training fed."""
    limit = evidence.spec.max_preprocessing_nrmse
    bad = {name: d for name, d in evidence.inputs.items() if not d.identical and not d.nrmse <= limit}
    figures = {
        name: {"nrmse": d.nrmse, "residual": d.residual, "hypothesis": d.hypothesis, "code": d.code}
        for name, d in evidence.inputs.items()
    }
    if not bad:
        message = "The edge inputs equal the reference inputs."
        named = {name: d.hypothesis for name, d in evidence.inputs.items() if d.explained and d.hypotheses}
        if named:
            message = f"The edge inputs are near the reference inputs, within an nRMSE of {limit:g}, but not equal: "
            message += "; ".join(f"{name}: {hypothesis}" for name, hypothesis in named.items()) + "."
        return finding("preprocessing", True, message, figures)
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
        more = [other if d.swapped_with or not d.explained else f"{other} ({d.hypothesis})" for other, d in others]
        message += f" {len(others)} more {plural}: {listed(more)}"
        message += "".join(f"; {one} and {two} are swapped" for one, two in sorted(swaps)) + "."
    return finding("preprocessing", False, message, figures)


def non_finite(evidence: Evidence) -> Finding:
    """No layer of any model turns NaN or infinite, and no constant of the edge model is NaN."""
    for leg, layer, drift in layer_drifts(evidence, "conversion", "quantization"):
        counts = {"reference": drift.reference_nonfinite, "edge": drift.edge_nonfinite}
        if any(counts.values()):
            where = place_of(layer)
            side = " and ".join(f"{count} values of the {side} run" for side, count in counts.items() if count)
            message = f"NaN or infinite values first appear at {where}: {side} in the {leg} leg."
            suspect = suspected(layer, leg, "first layer with NaN or infinite values")
            return finding("non_finite", False, message, {"leg": leg, "layer": layer.index, **counts}, [suspect])
    bad_inputs = [name for name in evidence.inputs if evidence.channels(name).nonfinite]
    if bad_inputs:
        counts = {name: evidence.channels(name).nonfinite for name in bad_inputs}
        return finding("non_finite", False, f"Inputs {bad_inputs} hold NaN or infinite values.", {"frames": counts})
    # An activation such as ReLU6 may swallow them on some kernels, and not on those of another device.
    for layer in evidence.layers:
        for found in evidence.lint(layer):
            if found["rule"] == "nan_constants":
                message = (
                    f"Constants of {place_of(layer)} are NaN ({found['value']}), though no value is on these kernels."
                )
                suspect = suspected(layer, "quantization", f"{found['value']} of its constants")
                return finding("non_finite", False, message, {"layer": layer.index}, [suspect])
    return finding("non_finite", True, "All values of all layers are finite.", {})
