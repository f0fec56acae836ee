"""From a replay to a report: runs the checks and gathers what the reports show."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_exray.diagnosis import checks, own_errors, pictures
from edge_exray.diagnosis.attribution import attribute
from edge_exray.diagnosis.check import Check
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Report, Verdict
from edge_exray.diagnosis.run import run
from edge_exray.models.alignment import Layer
from edge_exray.replay.device_leg import DEVICE
from edge_exray.replay.input_samples import InputSample
from edge_exray.replay.worst_frames import WorstFrame

_TOP = 3
# Frames whose inputs are shown side by side.
_PICTURES = 4


def diagnose(
    evidence: Evidence,
    *,
    users_checks: Sequence[Check] = (),
    extra_checks: Sequence[CheckResult] = (),
) -> Report:
    """Judges the evidence of a replay.

    Args:
        evidence: What `gather` made of the replay.
        users_checks: Checks of a user's module, see `edge_exray.check`.
        extra_checks: Results of checks that were made elsewhere, such as TFMA's thresholds; they count like all
            others, after the built-in ones.

    Returns:
        The report; its verdict is `failed` when a check failed, else `inconclusive` when one was, else `passed`.

    Raises:
        ModuleError: A user's check has no place among the others, or the name of another one.
    """
    replay = evidence.replay
    staged = [
        (stage, found) for stage, check in checks.arrange(users_checks) if (found := run(check, evidence)) is not None
    ]
    findings = [found for _, found in staged]
    results = [result for result, _ in findings] + list(extra_checks)
    suspects = [dataclasses.replace(suspect, check=result.name) for result, found in findings for suspect in found]
    verdicts = {result.verdict for result in results}
    verdict = next(v for v in (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED) if v in verdicts)
    agreement, instability = evidence.agreement, evidence.instability
    own = {own.layer.index: own for own in own_errors.figures(evidence)}
    attribution = attribute(evidence, staged)
    return Report(
        verdict=verdict,
        summary=_summary(verdict, results, agreement.frames, replay.failures.failed),
        checks=results,
        suspects=suspects,
        models=replay.summary["models"],
        frames={
            "count": agreement.frames,
            "labelled": agreement.labelled,
            "layer_frames": replay.summary["leg_frames"].get("layers", 0),
            "failed": replay.failures.failed,
            "repeated_ids": evidence.repeated_ids,
        },
        accuracy={
            "output": agreement.output,
            "cloud": agreement.accuracy("cloud"),
            "edge": agreement.accuracy("edge"),
            "label_flip_rate": agreement.label_flip_rate,
        },
        alignment=replay.alignment.summary(),
        layers=[_layer(layer, evidence, own.get(layer.index)) for layer in evidence.layers],
        legs={leg: _leg(leg, note, evidence) for leg, note in replay.summary["legs"].items()},
        preprocessing=_preprocessing(evidence),
        environment=replay.summary["environment"],
        kernels=evidence.kernels,
        worst_frames=[_worst_frame(frame, evidence) for frame in replay.worst_frames()],
        lint=replay.summary["lint"],
        classes=(replay.summary["input_contract"] or {}).get("labels"),
        attribution=None if attribution is None else dataclasses.asdict(attribution),
        baseline=next((r.evidence for r in results if r.name == "regression" and r.evidence.get("report")), None),
        slices=_slices(evidence),
        instability=None if instability is None else instability.to_dict(evidence.spec.confidence),
        device_logs=evidence.device_logs,
    )


def _summary(verdict: Verdict, results: Sequence[CheckResult], frames: int, failed: int) -> str:
    omitted = f" {failed} more frames could not be replayed." if failed else ""
    if verdict is Verdict.PASSED:
        judgement = f"The edge model does what the cloud model does: all {len(results)} checks passed"
        return f"{judgement} on {frames} frames.{omitted}"
    found = [result for result in results if result.verdict is verdict]
    # Of several checks without enough frames, the one that takes the most.
    if verdict is Verdict.INCONCLUSIVE:
        word, first = "Not enough evidence to ship", max(found, key=lambda r: r.evidence.get("needed_frames", 0))
    else:
        # What a broken check has to say is about itself; a finding about the model comes first.
        first = min(found, key=lambda result: result.is_broken)
        word = "The edge model is not cleared to ship" if first.is_broken else "The edge model must not ship"
    return f"{word}. {first.message}{omitted}"


def _slices(evidence: Evidence) -> list[dict[str, Any]]:
    # Bonferroni: the intervals hold for all slices together.
    confidence = 1 - (1 - evidence.spec.confidence) / max(len(evidence.slices), 1)
    return [
        {
            "slice": name,
            "frames": part.frames,
            "label_flip_rate": part.label_flip_rate,
            "interval": part.flipped and list(part.flipped.interval(confidence)),
            "cloud_accuracy": part.accuracy("cloud"),
            "edge_accuracy": part.accuracy("edge"),
        }
        for name, part in evidence.slices.items()
    ]


def _preprocessing(evidence: Evidence) -> dict[str, Any]:
    """Returns what the app does to each input, with pictures of the first frames where it differs."""
    differing = [name for name, diagnosis in evidence.inputs.items() if not diagnosis.identical]
    samples = evidence.replay.input_samples()[:_PICTURES] if differing else []
    return {
        name: diagnosis.to_dict()
        | {"pictures": [_pictures(sample, name, evidence) for sample in samples if _shown(sample, name, differing)]}
        for name, diagnosis in evidence.inputs.items()
    }


def _shown(sample: InputSample, name: str, differing: Sequence[str]) -> bool:
    return name in differing and pictures.is_image(sample.reference[name]) and pictures.is_image(sample.app[name])


def _pictures(sample: InputSample, name: str, evidence: Evidence) -> dict[str, Any]:
    ends = _scale(sample, name, evidence)
    sides = {"reference": sample.reference, "edge": sample.app}
    shown = {side: pictures.picture(values[name], *ends) for side, values in sides.items()}
    return {"id": sample.id, **shown}


def _worst_frame(frame: WorstFrame, evidence: Evidence) -> dict[str, Any]:
    # Of a frame that a device logged without its inputs there is nothing to show beside the reference's.
    shown = [name for name, value in frame.reference.items() if pictures.is_image(value) and name in frame.app]
    return {
        "id": frame.id,
        "place": frame.place,
        "label": frame.label,
        "drift": frame.drift,
        "answers": {
            name: {"cloud": _top(frame.cloud[name]), "edge": _top(frame.edge[name])} for name in sorted(frame.cloud)
        },
        "pictures": {
            name: {
                side: pictures.picture(getattr(frame, side)[name], *_scale(frame, name, evidence))
                for side in ("reference", "app")
            }
            for name in sorted(shown)
        },
    }


def _scale(frame: WorstFrame | InputSample, name: str, evidence: Evidence) -> tuple[float, float]:
    """Returns the values that are black and white in the pictures of an input on both sides: the reference's ends."""
    low, high = evidence.channels(name).reference_range
    if low > high:  # no frame counted, as where the app feeds another size
        return float(frame.reference[name].min()), float(frame.reference[name].max())
    return float(low), float(high)


def _top(values: np.ndarray) -> list[dict[str, Any]]:
    flat = np.ravel(values)
    # Stable and of the negated values, so that ties and NaN do not depend on the machine.
    order = np.argsort(-flat.astype(np.float64), kind="stable")[:_TOP]
    return [{"index": int(i), "value": float(flat[i])} for i in order]


def _leg(leg: str, note: str, evidence: Evidence) -> dict[str, Any]:
    outputs = {name: drift.summary() for name, drift in evidence.output_drift(leg).items()}
    return {"ran": bool(outputs), "note": note, "outputs": outputs}


def _layer(layer: Layer, evidence: Evidence, own: own_errors.OwnFigures | None) -> dict[str, Any]:
    quantization = layer.spec.quantization
    drifts = {leg: evidence.drift(leg, layer) for leg in ("conversion", "quantization")}
    # Of single ops on other kernels the check has the figures; a device's layers have what they inherit in them.
    drifts["kernel"] = evidence.kernel_drift(layer, DEVICE)
    return {
        "index": layer.index,
        "op": layer.op,
        "name": layer.spec.name,
        "cloud_tensor": layer.cloud_tensor,
        "status": layer.status.value,
        "evidence": layer.evidence and layer.evidence.value,
        "confidence": layer.confidence,
        "shape": list(layer.spec.shape),
        "dtype": layer.spec.dtype.name,
        "quantization": quantization
        and {"scale": list(quantization.scale), "zero_point": list(quantization.zero_point)},
        "own_error": own
        and {
            "nrmse": own.drift.nrmse,
            "rmse": own.drift.rmse,
            "ratio": own.ratio,
            "inherited_nrmse": own.inherited_nrmse,
        },
        "legs": {leg: drift.summary() for leg, drift in drifts.items() if drift is not None},
    }
