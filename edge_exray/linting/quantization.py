"""Static checks of how tensors are quantised."""

import itertools
from collections.abc import Iterator

import numpy as np

from edge_exray.linting.findings import FEW, Finding, Severity, at
from edge_exray.linting.weights import by_channel, weighted_ops
from edge_exray.models import islands
from edge_exray.models.graph import Graph, Op

ZERO_RANGE = 1e-5
"""A range of real values below which an activation was constant while it was calibrated."""
CHANNEL_RATIO = 2.0**4
"""Between channels with one scale: the weakest keeps 8 of the 127 steps that int8 has for the strongest."""

_ACTIVATION_TYPES = {"INT8", "UINT8", "INT16"}
# Older converters clip a bias at the limits of int32; newer ones widen the scales of weights until it is half of that.
_BIAS_LIMIT = 2**30 - 1


def zero_range(graph: Graph) -> Iterator[Finding]:
    """Activations whose type holds hardly more than one value."""
    for op, tensor in _quantized_activations(graph):
        spec = graph.tensors[tensor].spec
        assert spec.quantization is not None
        low, high = spec.quantization.range(spec.dtype)
        # Written so that a scale of NaN counts.
        if not high - low >= ZERO_RANGE:
            yield at(
                graph,
                op,
                tensor,
                "zero_range",
                Severity.ERROR,
                value=f"scale {max(spec.quantization.scale):.3g}: from {low:.3g} to {high:.3g}",
                why="the tensor was constant on every calibration frame, so any other value saturates on the device",
                fix="calibrate on real, preprocessed frames of every class; if it stays constant, the layer before it "
                "is dead: keep it in float or train it again",
            )


def near_zero_scale(graph: Graph) -> Iterator[Finding]:
    """Scales that are no number to multiply by, and channels too weak to move their output by half a step."""
    for op, tensor in _first_uses(graph):
        quantization = graph.tensors[tensor].spec.quantization
        assert quantization is not None
        scales = np.asarray(quantization.scale)
        invalid = ~(np.isfinite(scales) & (scales >= np.finfo(np.float32).tiny))
        if invalid.any():
            yield at(
                graph,
                op,
                tensor,
                "near_zero_scale",
                Severity.ERROR,
                value=f"{int(invalid.sum())} of {len(scales)} scales are zero, negative or no number: "
                f"{scales[invalid][0]:.3g}",
                why="dividing by it gives infinite or undefined multipliers",
                fix="calibrate on real frames, or keep this layer in float",
            )
    for op, layout, stored in weighted_ops(graph):
        # What an output can change by when its input runs through all of its range, in steps of the output.
        reach = _reach(graph, op, op.inputs[layout.data], stored, by_channel(graph, stored, layout))
        weak = np.empty(0) if reach is None else reach[(reach > 0) & (reach < 0.5)]
        if weak.size:
            assert reach is not None
            yield at(
                graph,
                op,
                stored,
                "near_zero_scale",
                Severity.WARNING,
                value=f"{weak.size} of {reach.size} channels move their output by at most {weak.max():.2g} steps",
                why="the scales of input and weights are so small beside that of the output that every answer of the "
                "channel rounds to its bias",
                fix="calibrate on frames that excite the input of this layer, or keep it in float",
            )


def saturated_bias(graph: Graph) -> Iterator[Finding]:
    """Biases at the limits of int32, because their scale, that of the input times that of the weights, is too small."""
    for op, layout, _ in weighted_ops(graph):
        bias = graph.stored_constant(op.inputs[layout.bias]) if len(op.inputs) > layout.bias else None
        if bias is None or graph.tensors[bias].type != "INT32" or graph.tensors[bias].unreadable:
            continue
        stored = np.abs(graph.constant(bias).astype(np.int64))
        saturated = int((stored >= _BIAS_LIMIT).sum())
        if saturated:
            yield at(
                graph,
                op,
                bias,
                "saturated_bias",
                Severity.ERROR,
                value=f"{saturated} of {stored.size} values at the limit of int32, up to {stored.max()}",
                why="the real bias did not fit: it was clipped, or the weights made coarser until it did, and the sum "
                "may overflow",
                fix="look for a near-zero scale of the input or the weights here; calibrate on real frames, or "
                "keep the layer in float",
            )


def per_tensor_weights(graph: Graph) -> Iterator[Finding]:
    """One scale for weights whose channels differ in size."""
    for op, layout, stored in weighted_ops(graph):
        quantization = graph.tensors[stored].spec.quantization
        if quantization is None or len(quantization.scale) > 1:
            continue
        largest = np.abs(by_channel(graph, stored, layout)).max(axis=1)
        living = largest[largest > 0]
        ratio = float(living.max() / living.min()) if living.size else 1.0
        if ratio > CHANNEL_RATIO:
            yield at(
                graph,
                op,
                stored,
                "per_tensor_weights",
                Severity.WARNING,
                value=f"the strongest of {largest.size} channels is {ratio:.3g} times the weakest, one scale for all",
                why=f"the weakest channel has {living.min():g} steps for its weights, and rounds away",
                fix="quantise by channel, or train with weights of like size (cross-layer equalisation)",
            )


def float_islands(graph: Graph) -> Iterator[Finding]:
    """Float ops between a DEQUANTIZE and a QUANTIZE of a quantised model."""
    for island in islands.float_islands(graph):
        inside = {t for op in island for t in op.outputs}
        first = island[0]
        names = sorted({op.name for op in island})
        values = max(graph.tensors[t].spec.elements for t in inside)
        yield at(
            graph,
            first,
            first.outputs[0],
            "float_island",
            Severity.WARNING if values >= FEW else Severity.NOTE,
            value=f"{len(island)} float ops on up to {values} values: {', '.join(names)}",
            why="the values are unpacked, computed in float and rounded again: slow, impossible on integer-only "
            "accelerators, and rounded twice",
            fix="use an op that has an int8 kernel, or keep the layers around it in float as well",
        )


def _quantized_activations(graph: Graph) -> Iterator[tuple[Op, int]]:
    """Yields each quantised computed tensor with the op that writes it, or the first that reads an input."""
    for op, tensor in _first_uses(graph):
        if not graph.tensors[tensor].is_constant and graph.tensors[tensor].type in _ACTIVATION_TYPES:
            yield op, tensor


def _first_uses(graph: Graph) -> Iterator[tuple[Op, int]]:
    seen = set()
    for op in graph.ops:
        for tensor in itertools.chain(op.inputs, op.outputs):
            if tensor >= 0 and tensor not in seen and graph.tensors[tensor].spec.quantization is not None:
                seen.add(tensor)
                yield graph.producers.get(tensor, op), tensor


def _reach(graph: Graph, op: Op, data: int, stored: int, weights: np.ndarray) -> np.ndarray | None:
    parts = [graph.tensors[t].spec for t in (data, stored, op.outputs[0])]
    if any(spec.quantization is None for spec in parts):
        return None
    scale_in, scale_weights, scale_out = (np.asarray(spec.quantization.scale) for spec in parts if spec.quantization)
    limits = np.iinfo(parts[0].dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (limits.max - limits.min) * np.abs(weights).sum(axis=1) * scale_in * scale_weights / scale_out
