"""Concrete functions made of a frozen graph with other inputs than it had."""

from collections.abc import Mapping
from typing import Any


def rebuild(graph_def: Any, inputs: Mapping[str, tuple[str, Any]], outputs: Mapping[str, str]) -> Any:
    """Makes a TensorFlow function of a part of a frozen graph.

    Nodes keep their names, so that layers are found again under them.

    Args:
        graph_def: The frozen graph.
        inputs: Name of an input to the tensor that it replaces (`"node:0"`) and its `tf.TensorSpec`.
        outputs: Name of an output to the tensor that it is.

    Returns:
        A concrete function with these keyword arguments, which returns a dictionary.
    """
    import tensorflow as tf

    replaced = {tensor.split(":")[0] for tensor, _ in inputs.values()}
    part = _between(graph_def, replaced, {tensor.split(":")[0] for tensor in outputs.values()})

    def call(**arguments: Any) -> dict[str, Any]:
        input_map = {tensor: arguments[name] for name, (tensor, _) in inputs.items()}
        elements = tf.graph_util.import_graph_def(part, input_map, list(outputs.values()), name="")
        return dict(zip(outputs, elements, strict=True))

    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, (_, spec) in inputs.items()}
    return tf.function(call).get_concrete_function(**specs)


def _between(graph_def: Any, inputs: set[str], outputs: set[str]) -> Any:
    """Returns the nodes that the outputs need, without those that the inputs replace and what only they need."""
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed and name not in inputs:
            needed.add(name)
            waiting += [source.lstrip("^").split(":")[0] for source in nodes[name].input]
    part = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in needed:
            kept = part.node.add()
            kept.CopyFrom(node)
            # An order of execution that a replaced node was part of is none any more.
            del kept.input[:]
            kept.input.extend(source for source in node.input if source.lstrip("^") not in inputs or source[0] != "^")
    return part
