"""The dense tensors behind the parsing of serialized tf.Examples: where a device can enter such a signature."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from edge_exray import errors
from edge_exray.models.functions import rebuild

OPS = {"ParseExample", "ParseExampleV2", "ParseSingleExample", "ParseSequenceExample"}
"""Ops that parse, in graphs of TensorFlow."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature that is parsed into one dense tensor.

    Attributes:
        name: Its key in the tf.Example.
        output: Which output of the parsing op it is.
        shape: Of the tensor, without the batch axis.
        dtype: Name of TensorFlow's dtype.
    """

    name: str
    output: int
    shape: tuple[int, ...]
    dtype: str


def parses(function: Any) -> bool:
    """Returns whether a concrete function parses tf.Examples, anywhere in it."""
    return any(node.op in OPS for nodes in _scopes(function) for node in nodes)


def dense_function(frozen: Any, outputs: Sequence[str], place: str) -> Any:
    """Cuts a function where it has parsed its tf.Examples.

    Args:
        frozen: The concrete function, frozen: its variables are constants and its calls inlined.
        outputs: Names of its outputs, in their order.
        place: What is cut, for messages.

    Returns:
        The concrete function of what comes after: its inputs are named like the features that its outputs need, its
        outputs have the given names.

    Raises:
        ModelError: It needs more of the tf.Examples than dense numbers.
    """
    import tensorflow as tf

    parsers = [op for op in frozen.graph.get_operations() if op.type in OPS]
    features = {}
    for parser in parsers:
        for feature in _features(parser.node_def, [op.node_def for op in frozen.graph.get_operations()]):
            features[parser.outputs[feature.output].name] = feature
    inputs = {}
    for tensor in _boundary([t.op for t in frozen.outputs], parsers):
        if tensor.name not in features:
            raise errors.ModelError(
                f"{place} takes serialized tf.Examples, which a device cannot parse, and it cannot be entered behind "
                f"the parsing: {_use(tensor)}; {dense_signature(frozen)}"
            )
        feature = features[tensor.name]
        if tensor.dtype == tf.string:
            raise errors.ModelError(
                f"{place} computes with the string feature {feature.name!r} ({_use(tensor)}): strings have no TFLite "
                f"kernels, so look them up in the preprocessing and give the model numbers; {dense_signature(frozen)}"
            )
        if feature.name in inputs:
            raise errors.ModelError(f"{place} parses {feature.name!r} twice: {dense_signature(frozen)}")
        inputs[feature.name] = (tensor.name, tf.TensorSpec([None, *feature.shape], tensor.dtype))
    if not inputs:
        raise errors.ModelError(f"{place} does not compute with what it parses: {dense_signature(frozen)}")
    named = dict(zip(outputs, [tensor.name for tensor in frozen.outputs], strict=True))
    return rebuild(frozen.graph.as_graph_def(), inputs, named)


def dense_signature(function: Any) -> str:
    """Returns the lines that give a trainer module a signature a device can run, with the inputs of a function."""
    found = [
        feature
        for nodes in _scopes(function)
        for node in nodes
        if node.op in OPS
        for feature in _features(node, nodes)
        if feature.dtype != "string"
    ]
    features = found or [Feature("x", 0, (-1,), "float32")]
    specs = ", ".join(
        f"{f.name!r}: tf.TensorSpec({[None, *f.shape]}, tf.{f.dtype}, name={f.name!r})".replace("-1", "...")
        for f in features
    )
    return f"""add one to the trainer module:
    specs = {{{specs}}}
    @tf.function
    def serving_dense(**features):
        return {{"outputs": model(features, training=False)}}
    signatures["serving_dense"] = serving_dense.get_concrete_function(**specs)  # for tf.saved_model.save"""


def _scopes(function: Any) -> list[Sequence[Any]]:
    """Returns the nodes of the function's graph and of each function in its library."""
    graph_def = function.graph.as_graph_def()
    return [graph_def.node, *(f.node_def for f in graph_def.library.function)]


def _features(parser: Any, nodes: Iterable[Any]) -> list[Feature]:
    """Returns the dense features of the node of a parsing op; other nodes hold their keys."""
    import tensorflow as tf

    if parser.op not in ("ParseExample", "ParseExampleV2"):
        return []
    sources = {node.name: node for node in nodes}

    def keys(position: int) -> list[str]:
        node = sources.get(parser.input[position].split(":")[0])
        while node is not None and node.op == "Identity":
            node = sources.get(node.input[0].split(":")[0])
        if node is None or node.op != "Const":
            return []
        return [key.decode() for key in tf.make_ndarray(node.attr["value"].tensor).ravel()]

    dtypes = [tf.as_dtype(t).name for t in parser.attr["Tdense"].list.type]
    shapes = [tuple(d.size for d in shape.dim) for shape in parser.attr["dense_shapes"].list.shape]
    if parser.op == "ParseExampleV2":
        sparse, names = parser.attr["num_sparse"].i, keys(3)
    else:
        # serialized, names, a key of each sparse feature, a key of each dense one, defaults
        sparse = parser.attr["Nsparse"].i
        names = [key for i in range(len(dtypes)) for key in keys(2 + sparse + i)]
    # Indices, values and shapes of the sparse features come first.
    return [
        Feature(name, 3 * sparse + i, shape, dtype)
        for i, (name, dtype, shape) in enumerate(zip(names, dtypes, shapes, strict=False))
    ]


def _boundary(ends: Iterable[Any], parsers: Sequence[Any]) -> list[Any]:
    """Returns the outputs of parsing ops, and the placeholders, that some ops compute with; in a stable order."""
    found, seen, waiting = {}, set(), list(ends)
    while waiting:
        op = waiting.pop()
        if op.name not in seen:
            seen.add(op.name)
            for tensor in op.inputs:
                if tensor.op in parsers or tensor.op.type == "Placeholder":
                    found[tensor.name] = tensor
                else:
                    waiting.append(tensor.op)
    return [found[name] for name in sorted(found)]


def _use(tensor: Any) -> str:
    """Returns which ops read a tensor, seen through ops that only pass it on."""
    readers, waiting = {}, [tensor]
    while waiting:
        for op in waiting.pop().consumers():
            if op.type == "Identity":
                waiting += op.outputs
            elif op.type not in OPS:
                readers[op.name] = op.type
    used = ", ".join(f"{kind} at {name}" for name, kind in sorted(readers.items())[:5])
    return f"{used} {'reads' if len(readers) == 1 else 'read'} {tensor.name}" if used else f"it returns {tensor.name}"
