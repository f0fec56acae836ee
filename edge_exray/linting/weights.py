"""Static checks of stored weights."""

from collections.abc import Iterator

import numpy as np

from edge_exray.linting.findings import Finding, Severity, at
from edge_exray.models.graph import Graph, Op
from edge_exray.models.layouts import WEIGHTED_OPS, Layout

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def weighted_ops(graph: Graph) -> Iterator[tuple[Op, Layout, int]]:
    """Yields the ops with constant, readable weights, their layout, and the tensor that stores the weights."""
    for op in graph.ops:
        layout = WEIGHTED_OPS.get(op.name)
        stored = graph.stored_constant(op.inputs[layout.weights]) if layout else None
        if layout is not None and stored is not None and not graph.tensors[stored].unreadable:
            yield op, layout, stored


def by_channel(graph: Graph, stored: int, layout: Layout) -> np.ndarray:
    """Returns stored weights less their zero point, [channels, weights of a channel], as float32."""
    values = graph.constant(stored).astype(np.float32)
    quantization = graph.tensors[stored].spec.quantization
    if quantization is not None:
        values -= quantization.broadcast(values.ndim)[1].astype(np.float32)
    return np.moveaxis(values, layout.channels, 0).reshape(values.shape[layout.channels], -1)


def dead_channels(graph: Graph) -> Iterator[Finding]:
    """Filters of zeros, and weights that are all the same number."""
    for op, layout, stored in weighted_ops(graph):
        weights = by_channel(graph, stored, layout)
        dead = int((~weights.any(axis=1)).sum())
        constant = weights.size > 1 and np.ptp(weights) == 0
        if not dead and not constant:
            continue
        value = f"{dead} of {len(weights)} channels are zero"
        if not dead:
            value = f"all {weights.size} weights are the same"
        yield at(
            graph,
            op,
            stored,
            "dead_channels",
            Severity.ERROR if constant else Severity.WARNING,
            value=value,
            why="such a channel gives the same answer whatever its input: it costs time and carries nothing",
            fix="check that the checkpoint was restored before the export, and that quantisation left the weights; "
            "prune channels that training has switched off",
        )


def float16_overflow(graph: Graph) -> Iterator[Finding]:
    """Constants that float16 could not hold."""
    for op, tensor, values in _float_constants(graph, "FLOAT16"):
        lost = ~np.isfinite(values) | (np.abs(values) >= _FLOAT16_MAX)
        if lost.any():
            yield at(
                graph,
                op,
                tensor,
                "float16_overflow",
                Severity.ERROR,
                value=f"{int(lost.sum())} of {values.size} values are infinite, NaN, or at the limit {_FLOAT16_MAX:g}",
                why="the cloud value was beyond what float16 holds; an infinite one times zero is NaN",
                fix="keep this layer in float32, or scale the constant down: a mask of -1e4 does what one of -1e9 does",
            )


def nan_constants(graph: Graph) -> Iterator[Finding]:
    """Float constants with NaN; infinite ones may be meant, as masks are."""
    for op, tensor, values in _float_constants(graph, "FLOAT32"):
        lost = int(np.isnan(values).sum())
        if lost:
            yield at(
                graph,
                op,
                tensor,
                "nan_constants",
                Severity.ERROR,
                value=f"{lost} of {values.size} values are NaN",
                why="every answer that it reaches is NaN",
                fix="export from a checkpoint before training diverged",
            )


def unfused_batch_norm(graph: Graph) -> Iterator[Finding]:
    """A product by a constant of each channel, right behind a linear layer that could hold it."""
    for op in graph.ops:
        if op.name != "MUL":
            continue
        factors = [t for t in op.inputs if graph.stored_constant(t) is not None]
        computed = [t for t in op.inputs if t not in factors]
        producer = graph.producers.get(computed[0]) if len(computed) == len(factors) == 1 else None
        if producer is None or producer.name not in WEIGHTED_OPS or producer.activation != "NONE":
            continue
        shape = graph.tensors[factors[0]].spec.shape
        channels = graph.tensors[op.outputs[0]].spec.shape[-1:]
        is_per_channel = shape[-1:] == channels and int(np.prod(shape)) == channels[0] > 1
        readers = sum(list(other.inputs).count(computed[0]) for other in graph.ops)
        if is_per_channel and readers == 1 and computed[0] not in graph.outputs:
            yield at(
                graph,
                op,
                op.outputs[0],
                "unfused_batch_norm",
                Severity.WARNING,
                value=f"MUL by {channels[0]} constants behind op {producer.index} {producer.name}",
                why="batch norm that is not folded into the weights is quantised by itself, with one scale for "
                "channels that it makes very different, and costs passes over the tensor",
                fix="export with training=False, and with nothing but the convolution before the batch norm",
            )


def _float_constants(graph: Graph, kind: str) -> Iterator[tuple[Op, int, np.ndarray]]:
    """Yields each float constant of a type once, with the first op that reads it."""
    seen = set()
    for op in graph.ops:
        for tensor in op.inputs:
            if tensor < 0 or tensor in seen or not graph.tensors[tensor].is_constant:
                continue
            seen.add(tensor)
            if graph.tensors[tensor].type == kind and not graph.tensors[tensor].unreadable:
                yield op, tensor, graph.constant(tensor)
