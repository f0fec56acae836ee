"""The layers that users name to keep them in float."""

import re
from collections.abc import Sequence

import numpy as np

from edge_exray import errors
from edge_exray.models.graph import Graph, Op
from edge_exray.models.tflite import EdgeModel
from edge_exray.specs import did_you_mean

# A sentence names so many layers.
_NAMED = 8


def find(float_edge: EdgeModel, patterns: Sequence[str]) -> list[Op]:
    """Returns the ops that compute on floats and that any of the patterns names.

    A layer has the name of its output tensor in the float edge model. A fused one has the names of all nodes that it
    computes, joined by `;`, and goes by each of them, one that computes an output of the model also by its name.

    TensorFlow's converter appends digits to names that it has more than one of, and not every version to the same. A
    pattern that no name matches is compared with the names without them.

    Args:
        float_edge: The float edge model; layers inside of its loops and branches are not found.
        patterns: Names, or regular expressions that match a whole name (`re.fullmatch`): what matched anywhere would
            take `block_12` for `block_1`.

    Raises:
        SpecError: A pattern names no layer, or is no regular expression.
    """
    graph, names = float_edge.graph, named(float_edge)
    found: set[int] = set()
    for pattern in map(_as_in_tflite, patterns):
        matching = _match(pattern, names) or _match(pattern, {i: [_bare(n) for n in own] for i, own in names.items()})
        if not matching:
            raise errors.SpecError(
                f"keep_float_layers: no layer has the name {pattern!r}, or one that it matches as a whole"
                f"{_near(pattern, names)} Write 'block_1/.*' for all that begins with block_1/"
            )
        found |= matching
    return [graph.ops[index] for index in sorted(found)]


def named(float_edge: EdgeModel) -> dict[int, list[str]]:
    """Returns the index of each op that computes on floats, and all names that it goes by."""
    graph = float_edge.graph
    return {op.index: _names(float_edge, op) for op in graph.ops if _computes_floats(graph, op)}


def _as_in_tflite(pattern: str) -> str:
    """Returns a name of the cloud graph as the converter writes it."""
    return pattern.removeprefix("StatefulPartitionedCall/").removesuffix(":0")


def _near(pattern: str, names: dict[int, list[str]]) -> str:
    """Names the layers that hold the words of a pattern, or else those whose names look like it."""
    parts = {part: None for own in names.values() for part in own if ";" not in part}
    words = re.findall(r"\w{2,}", pattern)
    holding = [part for part in parts if words and all(word in part for word in words)]
    if holding:
        more = len(holding) - _NAMED
        return f"; did you mean {', '.join(holding[:_NAMED])}{f' or one of {more} more' if more > 0 else ''}?"
    near = did_you_mean(pattern, parts)
    return near if near != "." else f"; there are {', '.join(parts)}."


def _names(edge: EdgeModel, op: Op) -> list[str]:
    tensors = [edge.graph.tensors[t].spec.name for t in op.outputs]
    outputs = [name for name, t in edge.output_tensors().items() if t in op.outputs]
    return [*tensors, *outputs, *(part for name in tensors for part in name.split(";") if part)]


def _bare(name: str) -> str:
    return re.sub(r"\d{1,3}$", "", name)


def _match(pattern: str, names: dict[int, list[str]]) -> set[int]:
    exact = {index for index, own in names.items() if pattern in own}
    if exact:
        return exact
    try:
        expression = re.compile(pattern)
    except re.error as e:
        raise errors.SpecError(f"keep_float_layers: {pattern!r} is no layer, and no regular expression: {e}") from e
    return {index for index, own in names.items() if any(expression.fullmatch(name) for name in own)}


def _computes_floats(graph: Graph, op: Op) -> bool:
    if graph.is_folded(op):
        return False
    return any(graph.tensors[t].spec.dtype == np.float32 for t in (*graph.activations(op), *op.outputs))
