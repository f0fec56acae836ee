"""What every converted model must hold, whatever the converter says."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from edge_exray import errors
from edge_exray.conversion.modes import Mode
from edge_exray.models.graph import Graph, Op, Tensor
from edge_exray.models.layouts import WEIGHTED_OPS
from edge_exray.models.matching import REPRESENTATION_OPS
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel

# The converter leaves these, and an edge model full of zeros, when it could not freeze a variable.
_UNFROZEN = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}

# Fewer are not worth a scale: TensorFlow's converter leaves them as they are in the modes without calibration.
_MIN_WEIGHTS = 1024

_FLOATS = {"FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16"}


def check(
    edge: EdgeModel,
    mode: Mode,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
    kept: Collection[int] = (),
) -> None:
    """Compares a converted model with what its mode promises.

    Args:
        edge: The converted model.
        mode: How it was converted.
        inputs: Inputs of the cloud model's signature.
        outputs: Its outputs.
        kept: See `find_kept`.

    Raises:
        ConversionError: A promise is broken; names the tensor or op.
    """
    unfrozen = sorted({op.name for op in edge.graph.ops} & _UNFROZEN)
    if unfrozen:
        raise errors.ConversionError(
            f"the {mode.name} model still has variables ({', '.join(unfrozen)}), which are empty on a device: export a "
            "signature that assigns none, with all variables tracked by the exported module"
        )
    for kind, cloud, converted in (("inputs", inputs, edge.inputs), ("outputs", outputs, edge.outputs)):
        if set(cloud) != set(converted):
            raise errors.ConversionError(
                f"the {mode.name} model has the {kind} {sorted(converted)} where the signature has {sorted(cloud)}: "
                "check that the signature uses every input and returns a dictionary of named outputs"
            )
        for name, spec in cloud.items():
            # Strings are bytes to LiteRT and objects to TensorFlow.
            strings = spec.dtype.kind == "O" and converted[name].dtype.kind == "S"
            if mode.is_typed and converted[name].dtype != mode.io_dtype(spec) and not strings:
                raise errors.ConversionError(
                    f"{name} of the {mode.name} model is {converted[name].dtype}, the mode promises "
                    f"{mode.io_dtype(spec)}: the converter leaves alone what the graph does not compute with, "
                    "so drop it from the signature"
                )
    for graph in _graphs(edge) if mode.is_typed else ():
        for op in graph.ops:
            if graph is not edge.graph or op.index not in kept:
                _check_op(graph, op, mode)


def find_kept(edge: Graph, twins: Mapping[int, int], float_edge: Graph, layers: Sequence[Op]) -> set[int]:
    """Finds the layers that were to stay in float.

    Args:
        edge: The converted model.
        twins: Tensor that an op of it computes to the same tensor of the float edge model.
        float_edge: The same, converted without quantisation.
        layers: Ops of it.

    Returns:
        Indices of their ops in the converted model.

    Raises:
        ConversionError: A layer is not there, or computes on quantised values or weights.
    """
    computed = {twins[t]: op for op in edge.ops if op.name not in REPRESENTATION_OPS for t in op.outputs if t in twins}
    kept = set()
    for layer in layers:
        op = computed.get(layer.outputs[0])
        stored = [edge.stored_constant(t) for t in (op.inputs if op else ()) if t >= 0]
        touched = [edge.tensors[t] for t in stored if t is not None] + (_tensors(edge, op) if op else [])
        if op is None or any(t.spec.quantization or t.block_size for t in touched):
            raise errors.ConversionError(
                f"{layer.name} at {_place(float_edge, layer)} was to stay in float, and was quantised all the same: "
                "take it out of keep_float_layers, or choose another quantizer"
            )
        kept.add(op.index)
    return kept


def left_float(edge: EdgeModel, mode: Mode, kept: Collection[int] = ()) -> list[str]:
    """Lists what a mode left in float32, which a mode with an integer type of activations or smaller weights may.

    Args:
        edge: A converted model that holds its promises.
        mode: How it was converted.
        kept: See `find_kept`; what was to stay in float is not listed.

    Returns:
        For modes with integer activations the ops that compute on floats; for the others that quantise, the ops with
        float32 weights, which are constants of more than one axis. Each as `"OP at tensor"`, in the order of the graph.
    """
    found: dict[str, None] = {}
    for graph in _graphs(edge) if mode.quantized else ():
        for op in graph.ops:
            if graph is edge.graph and op.index in kept:
                continue
            if mode.activations:
                is_float = op.name not in REPRESENTATION_OPS and any(t.type in _FLOATS for t in _tensors(graph, op))
            else:
                constants = [t for t in _read(graph, op) if t.is_constant and t.type == "FLOAT32"]
                # What a loop starts with is no weight.
                is_float = not op.subgraphs and any(len(t.spec.shape) > 1 for t in constants)
            if is_float:
                found[f"{op.name} at {_place(graph, op)}"] = None
    return list(found)


def _check_op(graph: Graph, op: Op, mode: Mode) -> None:
    if op.name in REPRESENTATION_OPS:
        return
    read, written = _read(graph, op), [graph.tensors[i] for i in op.outputs]
    if not mode.quantized:
        changed = [t for t in read if t.spec.quantization]
        if changed:
            raise _broken(graph, op, mode, f"computes on quantised {changed[0].type}, the mode promises none")
    layout = WEIGHTED_OPS.get(op.name)
    if layout is None:
        return
    computed = {mode.activations.upper()} if mode.activations else _FLOATS
    for tensor in (graph.tensors[op.inputs[layout.data]], *written):
        if tensor.type not in computed:
            promised = mode.activations or "floats"
            raise _broken(graph, op, mode, f"computes on {tensor.type}, the mode promises {promised}")
    weights = op.inputs[layout.weights]
    stored = graph.stored_constant(weights)
    small = np.prod(graph.tensors[weights].spec.shape) < _MIN_WEIGHTS and not mode.activations
    if stored is None or small:
        return
    if graph.tensors[stored].type not in mode.weight_types:
        promised = " or ".join(sorted(mode.weight_types)).lower()
        raise _broken(graph, op, mode, f"has {graph.tensors[stored].type} weights, the mode promises {promised}")


def _broken(graph: Graph, op: Op, mode: Mode, reason: str) -> errors.ConversionError:
    return errors.ConversionError(
        f"{op.name} at {_place(graph, op)} of the {mode.name} model {reason}: choose another quantization, or replace "
        "that layer"
    )


def _graphs(edge: EdgeModel) -> Iterator[Graph]:
    yield edge.graph
    yield from edge.graph.subgraphs.values()


def _read(graph: Graph, op: Op) -> list[Tensor]:
    return [graph.tensors[i] for i in op.inputs if i >= 0]


def _tensors(graph: Graph, op: Op) -> list[Tensor]:
    return [*_read(graph, op), *(graph.tensors[i] for i in op.outputs)]


def _place(graph: Graph, op: Op) -> str:
    return graph.tensors[op.outputs[0]].spec.name.rstrip(";")
