"""What the names of tensors in a .tflite tell about the layers of the cloud model.

The converter joins the names of the nodes that an op fuses with `;`, the last computed first:
`net/relu/Relu6;net/bn/batchnorm/add_1;net/conv/Conv2D`.
"""

import collections
import re

from edge_exray.models.graph import Graph
from edge_exray.models.layouts import WEIGHTED_OPS

# What TensorFlow calls the outputs of an exported function, after the call and not after what computes them.
_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?:\d+|Identity(_\d+)?")
_SCOPE = re.compile(r"^(StatefulPartitionedCall(_\d+)?/)+")
# The nodes that multiply by weights, by the last part of their names; the converter may append digits.
_WEIGHTED = re.compile(
    r"(.*/)?(convolution|conv_transpose|depthwise|separable_conv2d|einsum|\w*Conv\w*|\w*MatMul)_?\d*"
)
# Scopes that TensorFlow's functions open within a layer.
_INNER = {"batchnorm", "moments", "einsum"}


def is_call(name: str) -> bool:
    """True for the name of an output of the exported function, which no layer has given it."""
    return _CALL.fullmatch(name) is not None


def without_call(name: str) -> str:
    """Returns a name without the call that TensorFlow wraps every exported function in."""
    return _SCOPE.sub("", name)


def layers(graph: Graph) -> dict[int, str | None]:
    """Returns the name of the layer that each op computes, as the cloud graph has it.

    A name is that of the node without its last part, which is the operation, and without the scope that most nodes are
    in, which is the model. Of the layers that one op fuses, it is the one with the weights, which costs most.

    Args:
        graph: The graph.

    Returns:
        Index of the op to its layer (`"block_1_expand"`, `"attention/query"`), or to None where the name tells none, as
        of an output that is named after the function.
    """
    paths = {op.index: _path(op.name, graph.tensors[op.outputs[0]].spec.name if op.outputs else "") for op in graph.ops}
    starts = collections.Counter(path[0] for path in paths.values() if path)
    # Few ops lie beside it: those of the exported function itself.
    root = next((start for start, ops in starts.most_common(1) if ops > len(graph.ops) / 2), None)
    return {
        index: "/".join(path[path[0] == root and len(path) > 1 :]) if path else None for index, path in paths.items()
    }


def _path(op: str, name: str) -> list[str]:
    # What the converter appends to tell two tensors from each other stands alone.
    parts = [without_call(part) for part in name.split(";") if part and not part.isdigit()]
    if not parts or is_call(parts[0]):
        return []
    weighted = [part for part in parts if op in WEIGHTED_OPS and _WEIGHTED.fullmatch(part)]
    path = (weighted or parts)[0].split("/")
    scopes = [scope for scope in path[:-1] if scope not in _INNER]
    return scopes or path[-1:]
