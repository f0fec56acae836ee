"""Checks of whether the layers still tell one frame from another: none is dead, none stuck at the end of its range."""

from edge_exray.diagnosis import own_errors
from edge_exray.diagnosis.checks.finding import (
    Finding,
    below_step,
    drift_figures,
    finding,
    layer_drifts,
    place_of,
    suspected,
)
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models.alignment import Layer

# A layer is stuck when more of its values than this are at the ends of its range. A ReLU6 has many there too: only
# where values belong elsewhere does it count.
_STUCK_SHARE = 0.5


def dead_layers(evidence: Evidence) -> Finding | None:
    """No layer gives the same values for every frame where its float twin does not."""
    compared = {layer.index: (layer, drift) for _, layer, drift in layer_drifts(evidence, "quantization")}
    if not compared or max(drift.frames for _, drift in compared.values()) < 2:
        return None
    # A tensor that cannot express what varies has lost it to rounding, as a SOFTMAX over very many classes has.
    dead = {
        index
        for index, (layer, drift) in compared.items()
        if drift.edge_dead_share == 1 and drift.reference_dead_share < 1 and not below_step(layer, drift)
    }
    # What reads a dead layer, through however many others, is dead by inheritance.
    fed: set[int] = set()
    for layer in evidence.layers:
        if any(producer in dead | fed for producer in layer.producers):
            fed.add(layer.index)
    sources = sorted(dead - fed)
    figures = {"layers": sources, "compared": len(compared)}
    if not sources:
        return finding("dead_layers", True, "Every layer that reacts to its input does so on the edge.", figures)
    layer, drift = compared[sources[0]]
    message = (
        f"A layer is dead, {place_of(layer)}: it gives the same values for all {drift.frames} frames, its float twin "
        f"values between {drift.reference_min:.3g} and {drift.reference_max:.3g} that change. Look at its weights and "
        "quantisation parameters, or keep it in float (keep_float_layers)."
    )
    suspects = [
        suspected(compared[index][0], "quantization", "it gives the same values for every frame") for index in sources
    ]
    return finding("dead_layers", False, message, figures | drift_figures(layer, drift), suspects)


def saturated_layers(evidence: Evidence) -> Finding | None:
    """No layer is stuck at the ends of its quantised range with values that belong elsewhere."""
    compared = [(la, d) for _, la, d in layer_drifts(evidence, "quantization") if d.quantized]
    if not compared:
        return None
    own = {own.layer.index: own for own in own_errors.figures(evidence)}

    def is_stuck(layer: Layer, drift: DriftStatistics) -> bool:
        by_itself = own.get(layer.index)
        if by_itself is None:
            return drift.saturated_share > _STUCK_SHARE and drift.clipped_share > evidence.spec.max_clipped_share
        wrong = by_itself.ratio > evidence.spec.max_own_error
        return by_itself.drift.saturated_share > _STUCK_SHARE and wrong

    stuck = [(layer, drift) for layer, drift in compared if is_stuck(layer, drift)]
    figures = {"layers": [layer.index for layer, _ in stuck], "compared": len(compared), "limit": _STUCK_SHARE}
    if not stuck:
        message = "No layer is stuck at the ends of its quantised range."
        return finding("saturated_layers", True, message, figures)
    layer, drift = stuck[0]
    quantization = layer.spec.quantization
    assert quantization is not None
    low, high = quantization.range(layer.spec.dtype)
    stuck_share = f"{drift.saturated_share:.0%} of its values are at the ends of its range"
    message = (
        f"A layer is saturated, {place_of(layer)}: {stuck_share} [{low:.3g}, {high:.3g}], where its float twin spans "
        f"[{drift.reference_min:.3g}, {drift.reference_max:.3g}]. Look at its bias, weights and calibrated range, or "
        "keep it in float (keep_float_layers)."
    )
    suspect = suspected(layer, "quantization", stuck_share)
    return finding("saturated_layers", False, message, figures | drift_figures(layer, drift), [suspect])
