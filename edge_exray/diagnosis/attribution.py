"""Which leg the error of the answers comes from, in one sentence.

The error of an answer is the sum of what the legs add to it: (app - cloud) = (float edge - cloud) + (edge - float edge)
+ (app - edge), with the edge model on the reference inputs in the last one. The squares of independent errors add, so
that the share of a leg is its mean squared error over the sum of all legs':

    share_i = MSE_i / sum_j MSE_j

Legs are not quite independent: where their errors point the same way, the whole is larger than the sum, and smaller
where they cancel; the sentence says so when it is far off. The shares tell which leg weighs most, not to the percent.

The kernel leg compares single ops, no outputs. Its share is taken out of the quantization leg's, which runs on
production kernels: by as much of the accused op's own squared error as other kernels do not make.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from edge_exray.diagnosis import own_errors
from edge_exray.diagnosis.checks.finding import Finding
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import Suspect, Verdict
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.replay import kernel_leg

# What a failed check of a stage accuses; constants are compared between float edge and edge model.
_LEG_OF_STAGE = {
    "inputs": "preprocessing",
    "constants": "quantization",
    "conversion": "conversion",
    "quantization": "quantization",
    "kernels": "kernel",
}
_CHAIN = ("conversion", "quantization", "preprocessing")

# The squared error of the whole over the sum of the legs': beyond these the legs are far from independent.
_CANCEL, _REINFORCE = 0.5, 1.5


@dataclasses.dataclass(frozen=True)
class LegShare:
    """What one leg adds to the error of an output.

    Attributes:
        leg: The leg.
        share: Its part of the sum of the legs' squared errors, 0 to 1.
        nrmse: Its drift on the output; None for the kernel leg, which compares ops.
    """

    leg: str
    share: float
    nrmse: float | None


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Where the error of an output comes from.

    Attributes:
        sentence: The finding in words.
        output: Name of the output: the classification, or the one with the largest error.
        nrmse: Error between the cloud's answers and those that the app sees.
        legs: The legs that ran, the largest share first.
        blame: The leg to blame; None when no check failed.
        suspect: The layer to look at in that leg, with its figures; None when there is none.
    """

    sentence: str
    output: str
    nrmse: float
    legs: tuple[LegShare, ...]
    blame: str | None
    suspect: dict[str, Any] | None


def attribute(evidence: Evidence, findings: Sequence[tuple[str, Finding]]) -> Attribution | None:
    """Attributes the error of the answers to the legs.

    Args:
        evidence: The evidence.
        findings: What each check found, with the stage of the check, in the order in which they ran.

    Returns:
        The attribution; None when no output was compared.
    """
    if not evidence.answer_drift:
        return None
    output = evidence.agreement.output or max(
        evidence.answer_drift, key=lambda name: (not _is_whole(evidence.answer_drift[name]), _nrmse(evidence, name))
    )
    total = evidence.answer_drift[output]
    drifts = {leg: evidence.output_drift(leg)[output] for leg in _CHAIN if output in evidence.output_drift(leg)}
    squares = _squared_errors(drifts)
    whole = sum(squares.values())
    shares = {leg: square / whole if whole else 0.0 for leg, square in squares.items()}
    nrmse: dict[str, float | None] = {leg: drift.nrmse for leg, drift in drifts.items()}
    kernel = _kernel_part(evidence, findings)
    if kernel is not None and "quantization" in shares:
        shares["kernel"] = kernel * shares["quantization"]
        shares["quantization"] -= shares["kernel"]
        nrmse["kernel"] = None
    blame = _blame(shares, findings)
    legs = sorted((LegShare(leg, share, nrmse[leg]) for leg, share in shares.items()), key=lambda leg: -leg.share)
    together = total.rmse**2 / whole if whole and _is_whole(total) else 1.0
    suspect = next((s for _, (_, found) in findings for s in found if s.leg == blame), None)
    return Attribution(
        _sentence(output, total, legs, blame, together),
        output,
        total.nrmse,
        tuple(legs),
        blame,
        None if suspect is None else _describe(evidence, suspect),
    )


def _is_whole(drift: DriftStatistics) -> bool:
    """True when the edge side turned nothing NaN or infinite that the reference has."""
    return drift.edge_nonfinite <= drift.reference_nonfinite


def _nrmse(evidence: Evidence, output: str) -> float:
    nrmse = evidence.answer_drift[output].nrmse
    return math.inf if math.isnan(nrmse) else nrmse


def _squared_errors(drifts: dict[str, DriftStatistics]) -> dict[str, float]:
    """Returns the mean squared error of each leg; the first leg that makes NaN or infinite values has all of it."""
    broken = next((leg for leg, drift in drifts.items() if not _is_whole(drift)), None)
    if broken:
        return {leg: float(leg == broken) for leg in drifts}
    return {leg: drift.rmse**2 if drift.finite else 0.0 for leg, drift in drifts.items()}


def _kernel_part(evidence: Evidence, findings: Sequence[tuple[str, Finding]]) -> float | None:
    """Returns the part of an op's own squared error that other kernels do not make; None where the leg did not run."""
    result, suspects = next((found for _, found in findings if found[0].name == "kernel_drift"), (None, []))
    if result is None:
        return None
    if result.verdict is not Verdict.FAILED or not suspects:
        return 0.0
    layer = evidence.layers[suspects[0].layer]
    found = [evidence.kernel_drift(layer, kernels) for kernels in kernel_leg.KERNELS]
    kernel = max(drift.rmse**2 for drift in found if drift is not None)
    own = evidence.own_drift(layer)
    return min(1.0, kernel / own.rmse**2) if own is not None and own.rmse else 1.0


def _blame(shares: dict[str, float], findings: Sequence[tuple[str, Finding]]) -> str | None:
    failed = [(stage, found) for stage, found in findings if found[0].verdict is Verdict.FAILED]
    if not failed:
        return None
    accused = {found[1][0].leg if found[1] else _LEG_OF_STAGE.get(stage) for stage, found in failed}
    # Where the answers themselves are wrong, what weighs most is to blame, whether or not a limit of its leg was kept.
    candidates = accused & shares.keys() if None not in accused else shares.keys()
    return max(candidates, key=lambda leg: shares[leg], default=None)


def _sentence(output: str, total: DriftStatistics, legs: Sequence[LegShare], blame: str | None, together: float) -> str:
    verdict = f"the {blame} leg is to blame" if blame else "no leg is to blame"
    if not total.rmse and _is_whole(total):
        return f"Output {output} of the app equals the cloud model's; {verdict}."
    size = f"nRMSE {total.nrmse:.3g}" if _is_whole(total) else "NaN or infinite values"
    parts = ", ".join(f"{leg.share:.1%} {leg.leg}" for leg in legs)
    sentence = f"The error of output {output} between cloud and app ({size}) is {parts}"
    if together < _CANCEL:
        verdict = f"the legs' errors partly cancel; {verdict}"
    elif together > _REINFORCE:
        verdict = f"the legs' errors reinforce each other; {verdict}"
    return f"{sentence}: {verdict}."


def _describe(evidence: Evidence, suspect: Suspect) -> dict[str, Any]:
    layer = evidence.layers[suspect.layer]
    own = next((own for own in own_errors.figures(evidence) if own.layer.index == layer.index), None)
    quantization = layer.spec.quantization
    return {
        "layer": layer.index,
        "op": layer.op,
        "name": layer.spec.name,
        "cloud_tensor": layer.cloud_tensor,
        "own_nrmse": own and own.drift.nrmse,
        "own_ratio": own and own.ratio,
        "inherited_nrmse": own and own.inherited_nrmse,
        "quantization": quantization
        and {"scale": list(quantization.scale), "zero_point": list(quantization.zero_point)},
        "lint": evidence.lint(layer),
    }
