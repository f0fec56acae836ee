"""Static checks of ops, shapes and names."""

import collections
from collections.abc import Iterator

from edge_exray.linting.findings import FEW, Finding, Severity, at
from edge_exray.models import delegation
from edge_exray.models.graph import Graph, Op, is_tensorflow_op

# They only move or look up values, or run other graphs.
_MOVES = """
    BROADCAST_TO CALL_ONCE CAST EMBEDDING_LOOKUP FILL GATHER GATHER_ND IF PACK PADV2 REVERSE_V2 SELECT SELECT_V2 SPLIT_V
    SQUEEZE TILE UNPACK WHILE ZEROS_LIKE
"""
# Custom ops that every LiteRT interpreter has.
_RUNTIME_OPS = {"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram"}


def unaccelerated_ops(graph: Graph) -> Iterator[Finding]:
    """Ops with much to compute that production kernels leave to the built-in ones; one finding for each kind."""
    kinds: dict[tuple[str, str], list[Op]] = collections.defaultdict(list)
    for op in graph.ops:
        if op.is_custom or op.name in _MOVES.split() or not op.outputs or graph.is_folded(op):
            continue
        if graph.tensors[op.outputs[0]].spec.elements >= FEW and delegation.is_accelerated(graph, op) is False:
            kinds[op.name, delegation.kind(graph, op)].append(op)
    for (name, kind), ops in kinds.items():
        yield at(
            graph,
            ops[0],
            ops[0].outputs[0],
            "unaccelerated_op",
            Severity.NOTE,
            value=f"{len(ops)} times {name} in {kind}",
            why="XNNPACK does not take it: it runs on a slower kernel and splits the graph around it",
            fix="time it on the device (`exray profile`); use another activation or type if its share is large",
        )


def foreign_ops(graph: Graph) -> Iterator[Finding]:
    """Ops that a plain LiteRT interpreter does not have."""
    kinds: dict[str, list[Op]] = collections.defaultdict(list)
    for op in graph.ops:
        if op.is_custom and op.name not in _RUNTIME_OPS:
            kinds[op.name].append(op)
    for name, ops in kinds.items():
        is_flex = is_tensorflow_op(name)
        tensor = (ops[0].outputs or ops[0].inputs)[0]
        yield at(
            graph,
            ops[0],
            tensor,
            "flex_op" if is_flex else "custom_op",
            Severity.ERROR,
            value=f"{len(ops)} times {name}",
            why="the file does not load without "
            + ("the Flex delegate, which adds TensorFlow to the app" if is_flex else "the app registering this op"),
            fix="write it with TFLite ops or move it to the preprocessing, "
            + ("or ship the Flex delegate" if is_flex else "or link the op into the app")
            + " and list it as expected",
        )


def unwritten_tensors(graph: Graph) -> Iterator[Finding]:
    """Tensors that an op reads before, or without, any op writing them."""
    written = {*graph.inputs}
    for op in graph.ops:
        for t in op.inputs:
            tensor = graph.tensors[t]
            if t < 0 or t in written or tensor.is_constant or tensor.is_variable or not tensor.spec.elements:
                continue
            written.add(t)  # told once
            yield at(
                graph,
                op,
                t,
                "unwritten_tensor",
                Severity.ERROR,
                value=f"input {list(op.inputs).index(t)} is no constant, no input, and no earlier op's output",
                why="the op reads what happens to be in memory, or LiteRT refuses to run",
                fix="the file was damaged or edited: convert it again",
            )
        written.update(op.outputs)


def dynamic_shapes(graph: Graph) -> Iterator[Finding]:
    """Dimensions beside the batch that are known only at run time."""
    inputs = [t for t in graph.inputs if -1 in graph.tensors[t].spec.shape[1:]]
    computed = [
        (op, t)
        for op in graph.ops
        for t in op.outputs
        if -1 in graph.tensors[t].spec.shape[1:] and not graph.tensors[t].is_constant
    ]
    places = [(op, t) for t in inputs for op in graph.ops if t in op.inputs][:1] or computed[:1]
    for op, tensor in places:
        shape = list(graph.tensors[tensor].spec.shape)
        yield at(
            graph,
            op,
            tensor,
            "dynamic_shape",
            Severity.WARNING,
            value=f"{'input ' if inputs else ''}shape {shape}, {len(computed)} tensors after it",
            why="delegates leave ops with unknown shapes alone, memory is planned anew on every run, and the app must "
            "resize the input",
            fix="fix the shape in the signature (tf.TensorSpec) or before the conversion",
        )


def interface(graph: Graph) -> Iterator[Finding]:
    """Inputs and outputs that an app can only tell apart by their position; for the first graph of a file."""
    fix = "convert from a signature whose inputs and outputs are named"
    if not graph.signatures:
        yield Finding(
            "missing_signature",
            Severity.WARNING,
            None,
            "",
            "",
            f"no signature, {len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            "an app reaches them by position, which another conversion may change without a word",
            fix,
        )
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        names = [graph.tensors[t].spec.name for t in tensors]
        unclear = sorted({name for name in names if not name or names.count(name) > 1})
        if unclear and not graph.signatures:
            yield Finding(
                "missing_name",
                Severity.WARNING,
                None,
                "",
                unclear[0],
                f"{kind}s without a name of their own: {names}",
                "nothing tells them apart but their position",
                fix,
            )
