"""Fixing the batch axis: TensorFlow Lite turns the lists of a loop into tensors, whose rows it must know."""

from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.functions import rebuild

# Which input of an op of TensorFlow's lists is the shape of an element.
_ELEMENT_SHAPE = {
    "TensorListReserve": 0,
    "EmptyTensorList": 0,
    "TensorListFromTensor": 1,
    "TensorListStack": 1,
    "TensorListGetItem": 2,
    "TensorListGather": 2,
}
_LOOPS = {"While", "StatelessWhile"}
_RENAMED = "_batch"


def has_loop(function: Any) -> bool:
    """Returns whether a concrete function computes with a loop, anywhere in it."""
    graph_def = function.graph.as_graph_def()
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    return any(node.op in _LOOPS for node in nodes)


def is_open(function: Any) -> bool:
    """Returns whether the first axis of every input is unknown, and no other axis is."""
    shapes = [tuple(spec.shape) if spec.shape.rank else () for spec in function.structured_input_signature[1].values()]
    return all(shape and shape[0] is None and None not in shape[1:] for shape in shapes)


def fix(function: Any, frozen: Any, size: int = 1) -> Any:
    """Fixes the first axis of every input, and of the lists that the function's loops keep their rows in.

    Args:
        function: A concrete function for which `is_open` holds.
        frozen: The same, frozen with its loops kept as ops.
        size: The number of rows.

    Returns:
        The concrete function with the same names of nodes, inputs and outputs.

    Raises:
        ConversionError: The graph does not fit that size.
    """
    import tensorflow as tf

    graph_def = frozen.graph.as_graph_def()
    _fix_nodes(graph_def.node, size)
    for body in graph_def.library.function:
        _fix_nodes(body.node_def, size)
        # What the open function knew of shapes; they are inferred again.
        for attribute in [key for key in body.attr if "shape" in key]:
            del body.attr[attribute]
        for argument in body.arg_attr.values():
            argument.attr.pop("_output_shapes", None)
    _rename_functions(graph_def)
    names = sorted(function.structured_input_signature[1])
    inputs = {
        name: (tensor.name, tf.TensorSpec([size, *tensor.shape[1:]], tensor.dtype))
        for name, tensor in zip(names, frozen.inputs, strict=True)
    }
    outputs = dict(zip(sorted(function.structured_outputs), [t.name for t in frozen.outputs], strict=True))
    try:
        return rebuild(graph_def, inputs, outputs)
    except ValueError as e:
        raise errors.ConversionError(f"the model cannot be fixed to a batch of {size}: {e}") from e


def _fix_nodes(nodes: Any, size: int) -> None:
    import tensorflow as tf

    named = {node.name: node for node in nodes}
    for node in nodes:
        node.attr.pop("_output_shapes", None)
        if node.op in _LOOPS:
            for dimension in (d for shape in node.attr["output_shapes"].list.shape for d in shape.dim):
                if dimension.size < 0:
                    dimension.size = size
        if node.op not in _ELEMENT_SHAPE:
            continue
        source = named.get(node.input[_ELEMENT_SHAPE[node.op]].split(":")[0])
        while source is not None and source.op == "Identity":
            source = named.get(source.input[0].split(":")[0])
        if source is not None and source.op == "Const":
            shape = tf.make_ndarray(source.attr["value"].tensor)
            if shape.ndim and (shape < 0).any():
                fixed = np.where(shape < 0, size, shape).astype(shape.dtype)
                source.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(fixed))


def _rename_functions(graph_def: Any) -> None:
    """Renames the functions of the library: under their names, TensorFlow still knows the open ones."""
    names = {function.signature.name for function in graph_def.library.function}
    for nodes in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in nodes:
            if node.op in names:
                node.op += _RENAMED
            for value in node.attr.values():
                # Reading `func` of a value of another kind is harmless, writing it would change the kind.
                for called in (value.func, *value.list.func):
                    if called.name in names:
                        called.name += _RENAMED
    for function in graph_def.library.function:
        function.signature.name += _RENAMED
    del graph_def.library.gradient[:]
