"""Checks of the models' answers."""

from typing import Any

from edge_exray.diagnosis.checks.finding import Finding, finding, worst_of
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Verdict


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
        message = (
            f"Outputs {sorted(bad)} drift too far in one of the legs: nRMSE {worst_of(bad)}, {limit:g} is allowed."
        )
        return finding("output_drift", False, message, figures)
    return finding("output_drift", True, f"The outputs stay near the cloud model's: nRMSE {worst_of(worst)}.", figures)


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


def _statistical(name: str, passed: bool, message: str, figures: dict[str, Any], evidence: Evidence) -> Finding:
    needed, frames = evidence.spec.min_frames, evidence.agreement.frames
    if frames >= needed:
        return finding(name, passed, message, figures)
    message += f" {frames} frames are too few to tell: give at least {needed}."
    return CheckResult(name, Verdict.INCONCLUSIVE, message, {**figures, "min_frames": needed}), []
