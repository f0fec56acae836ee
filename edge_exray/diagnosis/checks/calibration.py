"""The check of the ranges that calibration gave to quantised tensors."""

from collections.abc import Iterator, Sequence
from typing import Any

from edge_exray.diagnosis import input_ranges
from edge_exray.diagnosis.checks.finding import (
    Finding,
    drift_figures,
    finding,
    layer_drifts,
    listed,
    place_of,
    suspected,
)
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models.alignment import Layer

# Ops whose scale the format fixes, whatever the values are (LiteRT 8-bit quantization specification).
_FIXED_RANGE_OPS = {"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION"}

# Healthy layers use a ninth of their range and more, on four frames; below this, 12 of 256 steps are left.
_MIN_LAYER_USE = 0.05


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
            message += f"The same holds for {listed([item.name for item in others])}. "
        message += "Calibrate on inputs that are prepared like the reference inputs."
        return finding("calibration_range", False, message, {"inputs": inputs})
    quantized = [(la, d) for _, la, d in layer_drifts(evidence, "quantization") if d.quantized]
    if not quantized and not inputs:
        return None
    clipped_layers = [(la, d) for la, d in quantized if d.clipped_share > spec.max_clipped_share]
    if clipped_layers:
        layer, drift = clipped_layers[0]
        message = (
            f"{drift.clipped_share:.0%} of the values of {place_of(layer)} lie outside what its quantised tensor can "
            "represent: calibrate on more representative inputs."
        )
        suspect = suspected(layer, "quantization", f"clips {drift.clipped_share:.0%} of its values")
        return finding("calibration_range", False, message, {"inputs": inputs} | drift_figures(layer, drift), [suspect])
    wasted = next(((la, use) for la, use in _range_use(evidence, quantized) if use < _MIN_LAYER_USE), None)
    if wasted:
        layer, use = wasted
        message = (
            f"L{place_of(layer)[1:]} uses {use:.1%} of the range that its quantised tensor was calibrated for, so "
            "few steps are left to its values: calibrate without the inputs that it does not see otherwise."
        )
        suspect = suspected(layer, "quantization", f"uses {use:.1%} of its calibrated range")
        figures = {"inputs": inputs, "layer": layer.index, "range_use": use, "limit": _MIN_LAYER_USE}
        return finding("calibration_range", False, message, figures, [suspect])
    worst = max((d.clipped_share for _, d in quantized), default=0.0)
    message = f"The quantised ranges fit the frames: at most {worst:.2%} of the values of a layer are clipped."
    return finding("calibration_range", True, message, {"inputs": inputs, "worst_clipped_share": worst})


def _range_use(evidence: Evidence, quantized: Sequence[tuple[Layer, DriftStatistics]]) -> Iterator[tuple[Layer, float]]:
    """Yields the share of its range that each layer with a scale of its own needs for the float twin's values and 0."""
    for layer, drift in quantized:
        quantization = layer.spec.quantization
        assert quantization is not None
        inherited = any(evidence.layers[p].spec.quantization == quantization for p in layer.producers)
        needed = max(drift.reference_max, 0.0) - min(drift.reference_min, 0.0)
        # What is 0 on all frames needs no range.
        if needed > 0 and layer.op not in _FIXED_RANGE_OPS and not inherited:
            low, high = quantization.range(layer.spec.dtype)
            yield layer, needed / (high - low)


def _shared_scale(evidence: Evidence, shared: input_ranges.SharedScale, inputs: dict[str, Any]) -> Finding:
    """Tells that inputs are coarse because of the op that joins them, which no calibration mends."""
    layer, dominant = evidence.layers[shared.reader], shared.dominant
    low, high = dominant.representable
    narrow = listed([f"{item.name} ({100 * item.use:.2g}%)" for item in shared.narrow])
    message = (
        f"L{place_of(layer)[1:]} gives the {len(shared.inputs)} inputs that it joins one scale and zero point, for "
        f"[{low:.3g}, {high:.3g}]; input {dominant.name} with [{dominant.seen[0]:.3g}, {dominant.seen[1]:.3g}] "
        f"dominates it. Too little of that range is left to {narrow}. Normalise every input before they are joined, in "
        "both preprocessings or by an op of the model, or keep the activations in float (quantization "
        '"none", "float16" or "dynamic_range").'
    )
    reason = f"gives {len(shared.inputs)} inputs one scale, which {dominant.name} dominates"
    figures = {"inputs": inputs, "layer": layer.index, "dominant": dominant.name}
    return finding("calibration_range", False, message, figures, [suspected(layer, "quantization", reason)])
