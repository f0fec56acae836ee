"""Checks of the two models as such: are they the same network, with the same constants, and can it be watched?"""

from typing import Any

from edge_exray.diagnosis.checks.finding import Finding, finding, place_of, suspected, worst_of
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.models.alignment import Status
from edge_exray.models.layouts import WEIGHTED_OPS
from edge_exray.models.parity import ConstantParity, Source

# Of the constants that differ so many are listed, and so many layers suspected.
_LISTED = 20
_SUSPECTS = 5

# Kernels that are fused sum in another order; so much is no other answer.
_MAX_INSTRUMENTATION_NRMSE = 0.01


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
        return finding("instrumentation", True, "The edge model answers the same with its layers kept.", figures)
    message = (
        f"Outputs {sorted(differing)} change when the layers of the edge model are kept readable (nRMSE "
        f"{worst_of(differing)}): what is said about its layers does not hold for the model as it ships."
    )
    return CheckResult("instrumentation", Verdict.INCONCLUSIVE, message, figures), []


def alignment_coverage(evidence: Evidence) -> Finding:
    """Enough ops of the edge model are paired for the layer checks to mean something."""
    counts: dict[str, Any] = evidence.replay.alignment.summary()
    passed = counts["coverage"] >= evidence.spec.min_alignment_coverage
    message = f"{counts['coverage']:.1%} of {counts['ops']} ops are paired with the cloud graph"
    if passed:
        return finding("alignment_coverage", True, message + ".", counts)
    message += f", {evidence.spec.min_alignment_coverage:.0%} are needed; "
    first = next(la for la in evidence.layers if la.status in (Status.UNMATCHED, Status.UNVERIFIED))
    if first.status is Status.UNMATCHED:
        message += f"first without a twin: {place_of(first)}."
    else:
        message += f"first that computes something else than the twin it is named like: {place_of(first)}."
    return finding("alignment_coverage", False, message, counts)


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
        return finding("constants_parity", True, message, figures)
    # Literals, such as the 3 of a hard swish, are the same in every checkpoint.
    arrays = [c for c in compared if c.elements > 1]
    if 2 * sum(c.differs for c in arrays) > len(arrays) > 2:
        message = (
            f"{len(differing)} of {len(compared)} weights and biases are not the cloud model's, by more than rounding: "
            f"the edge model was made from another checkpoint; convert it from this one ({references})."
        )
        return finding("constants_parity", False, message, figures)
    worst = max(differing, key=_severity)
    layers = [evidence.layers[i] for i in dict.fromkeys(c.layer for c in differing)]
    message = (
        f"{len(differing)} of {len(compared)} weights and biases are not the cloud model's, by more than rounding: "
        f"{_change(evidence, worst)}. They were changed on the way to the edge; convert the model again ({references})."
    )
    reasons = {c.layer: _change(evidence, c) for c in sorted(differing, key=_severity)}
    suspects = [suspected(layer, "quantization", reasons[layer.index]) for layer in layers[:_SUSPECTS]]
    return finding("constants_parity", False, message, figures, suspects)


def _severity(constant: ConstantParity) -> float:
    assert constant.difference is not None
    relative = constant.difference.relative
    return relative if relative == relative else float("inf")


def _change(evidence: Evidence, constant: ConstantParity) -> str:
    assert constant.difference is not None
    layer = evidence.layers[constant.layer]
    layout = WEIGHTED_OPS.get(layer.op)
    role = {layout.weights: "the weights", layout.bias: "the bias"}.get(constant.input) if layout else None
    change = (
        f"{constant.difference.share:.0%} of the values, by up to {constant.difference.relative:.3g} of the largest"
    )
    if constant.factor is not None:
        change = f"{constant.factor:.4g} times what they were"
    return f"{role or f'input {constant.input}'} of {place_of(layer)}: {change}"


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
