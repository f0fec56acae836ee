"""The memory that the activations of a model share."""

from collections.abc import Mapping

import numpy as np

from edge_exray.models.graph import Graph
from edge_exray.models.tflite import EdgeModel

_ALIGNMENT = 64


def arena_bytes(model: EdgeModel) -> int:
    """Estimates the arena of a model with the shapes that it is allocated for.

    Tensors that are alive at the same time lie beside each other, others share their place: each tensor is put, the
    largest first, into the smallest gap that it fits in among those placed before it (greedy by size, Pisarchyk & Lee,
    Efficient Memory Management for Deep Neural Net Inference, 2020), as LiteRT's own planner does. What kernels and
    delegates allocate for themselves, and the bodies of loops, are not in it.
    """
    sizes = {
        details["index"]: int(np.prod(details["shape"], dtype=np.int64)) * np.dtype(details["dtype"]).itemsize
        for details in model.interpreter.get_tensor_details()
        if details["dtype"] is not np.bytes_
    }
    return _plan(_lifetimes(model.graph), sizes)


def _lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """Returns tensor to the first and the last op that need it; constants lie in the file."""
    last = len(graph.ops)
    lives = dict.fromkeys(graph.inputs, (0, 0))
    for place, op in enumerate(graph.ops):
        for t in (*op.inputs, *op.outputs):
            if t >= 0 and not graph.tensors[t].is_constant:
                lives[t] = (min(lives.get(t, (place, 0))[0], place), place)
    for t in graph.outputs:
        lives[t] = (lives.get(t, (0, 0))[0], last)
    # An app writes the inputs of the next run while the outputs of the last one are read.
    return {t: (0, last) if t in graph.inputs else life for t, life in lives.items()}


def _plan(lives: Mapping[int, tuple[int, int]], sizes: Mapping[int, int]) -> int:
    placed: list[tuple[int, int, tuple[int, int]]] = []
    for t in sorted(lives, key=lambda t: (-sizes.get(t, 0), t)):
        size = -(-sizes.get(t, 0) // _ALIGNMENT) * _ALIGNMENT
        first, last = lives[t]
        gap, start, best = 0, 0, None
        for begin, end, (other_first, other_last) in sorted(placed):
            if other_last < first or last < other_first:
                continue
            if begin - start >= size and (best is None or begin - start < gap):
                gap, best = begin - start, start
            start = max(start, end)
        place = start if best is None else best
        placed.append((place, place + size, (first, last)))
    return max((end for _, end, _ in placed), default=0)
