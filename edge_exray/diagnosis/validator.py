"""From a replay to a report: runs the checks and gathers what the reports show."""

from collections.abc import Sequence
from typing import Any

from edge_exray.diagnosis import checks
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import CheckResult, Report, Suspect, Verdict
from edge_exray.models.alignment import Layer


def diagnose(
    evidence: Evidence,
    *,
    extra_checks: Sequence[CheckResult] = (),
    kernels: dict[str, Any] | None = None,
) -> Report:
    """Judges the evidence of a replay.

    Args:
        evidence: What `gather` made of the replay.
        extra_checks: Results of checks that were made elsewhere, such as TFMA's thresholds; they count like all
            others, after the built-in ones.
        kernels: A document of `schemas/kernel_profile.schema.json` to show in the report; it has no vote.

    Returns:
        The report; its verdict is `failed` when a check failed, else `inconclusive` when one was, else `passed`.
    """
    replay = evidence.replay
    findings = [finding for check in checks.CHECKS if (finding := check(evidence)) is not None]
    results = [result for result, _ in findings] + list(extra_checks)
    suspects: list[Suspect] = [suspect for _, found in findings for suspect in found]
    verdicts = {result.verdict for result in results}
    verdict = next(v for v in (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED) if v in verdicts)
    agreement = evidence.agreement
    return Report(
        verdict=verdict,
        summary=_summary(verdict, results, agreement.frames),
        checks=results,
        suspects=suspects,
        models=replay.summary["models"],
        frames={"count": agreement.frames, "labelled": agreement.labelled},
        accuracy={
            "output": agreement.output,
            "cloud": agreement.accuracy("cloud"),
            "edge": agreement.accuracy("edge"),
            "label_flip_rate": agreement.label_flip_rate,
        },
        alignment=replay.alignment.summary(),
        layers=[_layer(layer, evidence) for layer in evidence.layers],
        legs={leg: _leg(leg, note, evidence) for leg, note in replay.summary["legs"].items()},
        preprocessing={name: diagnosis.to_dict() for name, diagnosis in evidence.inputs.items()},
        environment=replay.summary["environment"],
        kernels=kernels,
    )


def _summary(verdict: Verdict, results: Sequence[CheckResult], frames: int) -> str:
    if verdict is Verdict.PASSED:
        return f"The edge model does what the cloud model does: all {len(results)} checks passed on {frames} frames."
    first = next(result for result in results if result.verdict is verdict)
    word = "The edge model must not ship" if verdict is Verdict.FAILED else "Not enough evidence to ship"
    return f"{word}. {first.message}"


def _leg(leg: str, note: str, evidence: Evidence) -> dict[str, Any]:
    outputs = {name: drift.summary() for name, drift in evidence.output_drift(leg).items()}
    return {"ran": bool(outputs), "note": note, "outputs": outputs}


def _layer(layer: Layer, evidence: Evidence) -> dict[str, Any]:
    quantization = layer.spec.quantization
    drifts = {leg: evidence.drift(leg, layer) for leg in ("conversion", "quantization")}
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
        "legs": {leg: drift.summary() for leg, drift in drifts.items() if drift is not None},
    }
