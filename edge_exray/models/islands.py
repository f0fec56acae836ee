"""Ops that only lead from one representation of the values to another and back."""

from collections.abc import Callable

from edge_exray.models.graph import Graph, Op
from edge_exray.models.matching import REPRESENTATION_OPS

LAYOUT_OPS = frozenset({"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"})
"""Ops that change how values are arranged, and not the values."""

_FLOAT_TYPES = ("FLOAT32", "FLOAT16")


def float_islands(graph: Graph) -> list[list[Op]]:
    """Returns the float ops between a DEQUANTIZE and a QUANTIZE of a quantised model.

    Returns:
        One list for each island, both in execution order; without the ops at its shores, for which see `shores`.
    """
    islands = _groups(graph, lambda op: set() if op.name in REPRESENTATION_OPS else _float_tensors(graph, op))
    return [island for island in islands if {op.name for op in shores(graph, island)} >= {"DEQUANTIZE", "QUANTIZE"}]


def shores(graph: Graph, island: list[Op]) -> list[Op]:
    """Returns the ops that change the representation of what goes into and comes out of a float island."""
    inside = {t for op in island for t in op.outputs}
    read = {t for op in island for t in graph.activations(op)}
    return [
        op
        for op in graph.ops
        if op.name in REPRESENTATION_OPS
        and ((op.name == "QUANTIZE" and op.inputs[0] in inside) or (op.name == "DEQUANTIZE" and op.outputs[0] in read))
    ]


def moves(graph: Graph) -> list[list[Op]]:
    """Returns the ops that change layout or representation, where they are among themselves, between other ops.

    Returns:
        One list for each chain or tree of them, both in execution order. What the inputs and outputs of the model need
        is left out: the app would have to do it instead.
    """
    names = REPRESENTATION_OPS | LAYOUT_OPS
    ends = {*graph.inputs, *graph.outputs}
    found = _groups(
        graph,
        lambda op: {*graph.activations(op), *op.outputs} if op.name in names and not graph.is_folded(op) else set(),
    )
    return [ops for ops in found if not any(ends.intersection(op.inputs + op.outputs) for op in ops)]


def _float_tensors(graph: Graph, op: Op) -> set[int]:
    return {t for t in (*graph.activations(op), *op.outputs) if graph.tensors[t].type in _FLOAT_TYPES}


def _groups(graph: Graph, tensors_of: Callable[[Op], set[int]]) -> list[list[Op]]:
    """Returns the ops that have tensors, grouped by those that they share, in execution order."""
    groups: list[tuple[set[int], list[Op]]] = []
    for op in graph.ops:
        tensors = tensors_of(op)
        if not tensors:
            continue
        touching = [group for group in groups if group[0] & tensors]
        groups = [group for group in groups if not group[0] & tensors]
        merged = sorted((o for group in touching for o in group[1]), key=lambda o: o.index)
        groups.append((tensors.union(*(group[0] for group in touching)), [*merged, op]))
    return [ops for _, ops in sorted(groups, key=lambda group: group[1][0].index)]
