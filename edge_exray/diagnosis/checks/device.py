"""The check of device logs: what of the frames was logged, and what got lost on the way."""

from typing import Any

from edge_exray.diagnosis.checks.finding import Finding, finding
from edge_exray.diagnosis.evidence import Evidence


def device_logs(evidence: Evidence) -> Finding | None:
    """Never fails: it tells which devices are compared, and which legs lack what was not logged."""
    logs = evidence.device_logs
    if logs is None:
        return None
    judged, *others = logs
    counts = evidence.replay.summary["leg_frames"]
    frames = evidence.agreement.frames
    # `layer_frames` may have chosen some of the frames: the others do not lack their layers.
    lacking = {
        "inputs": frames - counts.get("inputs", 0),
        "layers": counts.get("layers", 0) - counts.get("device_layers", 0),
    }
    message = f"{frames} frames that {judged['device']} logged are compared."
    legs = {"inputs": "the preprocessing and the kernel leg lack them", "layers": "the kernel leg lacks them"}
    for what, count in lacking.items():
        if count:
            message += f" {count} have no {what}: {legs[what]}."
    for log in others:
        message += f" {log['device']} is an environment: it logged {log['frames']} frames"
        message += f", {log['alone']} of which no other device has." if log["alone"] else "."
    message += "".join(map(_losses, logs))
    return finding("device_logs", True, message, {"without": lacking})


def _losses(log: dict[str, Any]) -> str:
    said = []
    if not log["model_sha256"]:
        said.append("does not name its model")
    if log["dropped"]:
        said.append(f"lacks {log['dropped']} frames that the device could not log")
    if log["damages"]:
        said.append(f"is damaged at {log['damages']} places, first {log['first_damages'][0]}")
    if log["unclosed"]:
        said.append("was not closed")
    return f" The log of {log['device']} {', '.join(said)}." if said else ""
