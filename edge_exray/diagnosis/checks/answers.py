"""Checks of the models' answers: figures of some frames, which are judged by their confidence intervals."""

import math
from typing import Any

import numpy as np

from edge_exray.diagnosis.answers import Agreement
from edge_exray.diagnosis.checks.finding import Finding, finding, listed, worst_of
from edge_exray.diagnosis.checks.statistical import judge
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.drift.intervals import NormalizedError, PairedDrop, Share

_LEGS = ("conversion", "quantization", "preprocessing")


def output_drift(evidence: Evidence) -> Finding | None:
    """Outputs that are no classification stay near the cloud model's."""
    names = [n for n in evidence.replay.summary["outputs"] if n != evidence.agreement.output]
    if not names:
        return None
    spec, limit = evidence.spec, evidence.spec.max_layer_nrmse
    estimates = _output_errors(evidence, names)
    values = {name: estimate.value for name, estimate in estimates.items()}
    by_leg = {leg: {name: drift.nrmse for name, drift in evidence.output_drift(leg).items()} for leg in _LEGS}
    figures: dict[str, Any] = {"outputs_nrmse": values, "legs_nrmse": by_leg, "limit": limit}
    frames = evidence.agreement.frames
    judged = {n: judge(e, limit, spec, "{:.3g}", len(names)) for n, e in estimates.items()}
    failed = {name: values[name] for name, found in judged.items() if found.verdict is Verdict.FAILED}
    if failed:
        legs = {leg: max((by_leg[leg].get(name, 0.0) for name in failed), default=0.0) for leg in _LEGS}
        message = (
            f"Outputs {sorted(failed)} drift too far from the cloud model's: nRMSE {worst_of(failed)}, {limit:g} is "
            f"allowed. Most of it comes from the {max(legs, key=lambda leg: legs[leg])} leg."
        )
        worst = max(failed, key=lambda name: failed[name])
        return finding("output_drift", False, message, figures | judged[worst].figures)
    worst = max(values, key=lambda name: values[name])
    message = f"The outputs stay near the cloud model's: nRMSE {worst_of(values)}."
    if frames < spec.min_frames:
        figures |= {"needed_frames": spec.min_frames}
        message += f" {frames} frames are too few to tell: give at least {spec.min_frames}."
        return CheckResult("output_drift", Verdict.INCONCLUSIVE, message, figures), []
    undecided = [name for name, found in judged.items() if found.verdict is Verdict.INCONCLUSIVE]
    worst = max(undecided or [worst], key=lambda name: values[name])
    if undecided:
        message = f"Output {worst} differs from the cloud model's by nRMSE {values[worst]:.3g}, {limit:g} is allowed."
    return judged[worst].result("output_drift", message, figures), []


def _output_errors(evidence: Evidence, names: list[str]) -> dict[str, NormalizedError]:
    """Returns, by output, the errors of what a user of the app sees against the cloud model, over all frames."""
    lines = [line["rmse"] for line in evidence.replay.frames()]
    # Both legs saw every frame: one has the range of the cloud model's values in it, the other that of the app's.
    cloud, app = evidence.output_drift("conversion"), evidence.output_drift("preprocessing")

    def span(name: str) -> float:
        reference, edge = cloud[name], app[name]
        return max(reference.reference_max - reference.reference_min, edge.edge_max - edge.edge_min)

    return {
        name: NormalizedError(np.array([math.inf if line[name] is None else line[name] for line in lines]), span(name))
        for name in names
    }


def label_flip_rate(evidence: Evidence) -> Finding | None:
    """The edge model gives the cloud model's answers."""
    agreement, limit = evidence.agreement, evidence.spec.max_label_flip_rate
    if agreement.flipped is None:
        return None
    figures = {
        "flips": agreement.flips,
        "frames": agreement.frames,
        "agreement": 1 - agreement.flipped.value,
        "limit": limit,
    }
    message = f"{_flips(agreement)}, {limit:.1%} are allowed."
    return judge(agreement.flipped, limit, evidence.spec).result("label_flip_rate", message, figures), []


def accuracy_drop(evidence: Evidence) -> Finding | None:
    """The edge model is as often right as the cloud model."""
    agreement, limit = evidence.agreement, evidence.spec.max_accuracy_drop
    drop = agreement.drop
    if drop is None:
        return None
    cloud, edge = agreement.accuracy("cloud"), agreement.accuracy("edge")
    figures = {
        "cloud": cloud,
        "edge": edge,
        "labelled": agreement.labelled,
        "lost": drop.lost,
        "gained": drop.gained,
        "p_value": drop.p_equal(),
        "limit": limit,
    }
    change = f"a drop of {drop.value:.3f}" if drop.value > 0 else "no drop"
    message = f"Accuracy is {cloud:.3f} in the cloud and {edge:.3f} on the edge, {change}; {limit:g} is allowed."
    return judge(drop, limit, evidence.spec).result("accuracy_drop", message, figures), []


def slices(evidence: Evidence) -> Finding | None:
    """No slice of the frames is worse than all of them may be.

    Every slice is tested for its flipped answers and, with labels, for its lost ones. The p-values are adjusted for the
    number of tests (Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995): where no slice is
    worse than allowed, one is accused with a probability of at most 1 - confidence.
    """
    from scipy import stats

    spec = evidence.spec
    tests: list[tuple[str, str, Share | PairedDrop, float]] = []
    for name, part in evidence.slices.items():
        if part.flipped is not None:
            tests.append((name, _flips(part), part.flipped, spec.max_label_flip_rate))
        if part.drop is not None:
            tests.append((name, _accuracies(part), part.drop, spec.max_accuracy_drop))
    if not tests:
        return None
    adjusted = stats.false_discovery_control([figure.p_beyond(limit) for _, _, figure, limit in tests])
    ranked = sorted(zip(adjusted, tests, strict=True), key=lambda item: (item[0], -item[1][2].value))
    p_values: dict[str, float] = {}
    for p_value, (name, *_) in ranked:
        p_values.setdefault(name, float(p_value))
    accused = [name for name, p_value in p_values.items() if p_value <= 1 - spec.confidence]
    _, (worst, described, _, limit) = ranked[0]
    figures = {"p_values": p_values, "accused": accused, "confidence": spec.confidence}
    if not accused:
        message = f"None of the {len(evidence.slices)} slices is significantly worse than allowed."
        return finding("slices", True, message, figures)
    message = f"Slice {worst} is worse than allowed: {described}, {limit:.1%} are allowed."
    if others := [name for name in accused if name != worst]:
        message += f" So {'are' if len(others) > 1 else 'is'} {listed(others)}."
    return finding("slices", False, message, figures)


def instability(evidence: Evidence) -> Finding | None:
    """The edge model is right or wrong whatever it runs on and however its inputs were varied."""
    found = evidence.instability
    if found is None:
        return None
    limit = evidence.spec.max_instability
    names = found.environments
    share, disagreement = found.share, found.disagreement
    figures: dict[str, Any] = {
        "environments": names,
        "died": {name: {"frames": count, "reason": reason} for name, (count, reason) in found.died.items()},
        "disagreement": disagreement.value,
        "limit": limit,
    }
    if share is None:
        message = f"{disagreement.value:.1%} of the frames get different answers in {len(names)} environments"
    else:
        figures |= {"instability": share.value, "unstable": share.count, "labelled": share.frames}
        message = (
            f"{share.value:.1%} of the frames are right in some of {len(names)} environments and wrong in others "
            f"({share.count} of {share.frames})"
        )
    fallen = "".join(f" {name} gave no answer to {n} frames: {reason}." for name, (n, reason) in found.died.items())
    if limit is None:
        return finding("instability", True, f"{message}; no limit is set (max_instability).{fallen}", figures)
    message += f", {limit:.1%} are allowed.{fallen}"
    judged = judge(share or disagreement, limit, evidence.spec)
    if share is None and judged.verdict is Verdict.FAILED:
        message += " Only labels tell how many of them are right in one and wrong in another: give a label_fn."
        return CheckResult("instability", Verdict.INCONCLUSIVE, message, figures | judged.figures), []
    if found.died and judged.verdict is Verdict.PASSED:
        message += " An environment that gives no answers may well be another: leave it out, or mend it."
        return CheckResult("instability", Verdict.INCONCLUSIVE, message, figures | judged.figures), []
    return judged.result("instability", message, figures), []


def _flips(agreement: Agreement) -> str:
    return (
        f"{agreement.label_flip_rate:.1%} of the answers differ between cloud and edge ({agreement.flips} of "
        f"{agreement.frames} frames)"
    )


def _accuracies(agreement: Agreement) -> str:
    cloud, edge = agreement.accuracy("cloud"), agreement.accuracy("edge")
    return f"its accuracy is {cloud:.1%} in the cloud and {edge:.1%} on the edge ({agreement.labelled} frames)"
