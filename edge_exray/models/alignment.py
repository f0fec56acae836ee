"""Pairs every op of an edge graph with the tensor of the cloud graph that holds the same values.

The way leads over the float edge model. The converter names the output of a fused op after the nodes that it fused
(`conv/Conv2D;bn/add;relu/Relu6`). `align` resolves these parts to nodes of the frozen cloud graph, takes the last one
of the same size, and then confirms each pair once with numbers, on the float edge model. Nothing is guessed from
values alone: on real networks several tensors often hold equal values. The edge model is paired with its float twin by
name, as far as the names are the converter's, and else by `edge_exray.models.matching`.
"""

import collections
import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.graph import Graph, Op
from edge_exray.models.matching import REPRESENTATION_OPS, Evidence, Matching, Pair, match
from edge_exray.models.names import without_call
from edge_exray.models.parity import ConstantParity, compare_constants
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tensors import Quantization, TensorSpec
from edge_exray.models.tflite import EdgeModel

# Largest difference, relative to the largest value, of a float edge layer to its cloud tensor: the kernels sum
# in another order, and healthy pairs stay below 1e-4.
_TOLERANCE = 1e-3

_MOVE_OPS = {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PACK"}
_MOVE_NODES = {"Reshape", "Transpose", "Squeeze", "ExpandDims", "Pack", "Identity", "StridedSlice"}
_NO_VALUE_NODES = {"Const", "Placeholder", "NoOp"}


class Status(str, enum.Enum):
    """How far the pairing of an op with the cloud goes.

    `VERIFIED`: the values of the float twin and of the cloud tensor agree. `UNVERIFIED`: names pair them, values do not
    agree. `INTERNAL`: a step on the way to a cloud tensor that a later op completes, or a change of representation.
    `UNMATCHED`: no cloud tensor, or no float twin was found.
    """

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    INTERNAL = "internal"
    UNMATCHED = "unmatched"


@dataclasses.dataclass(frozen=True)
class Layer:
    """One op of the edge graph and its counterparts.

    Attributes:
        index: Index of the op in the edge graph.
        op: Name of the TFLite op.
        tensor: Index of its main output in the edge graph.
        spec: Description of that tensor.
        float_tensor: Index of the same tensor in the float edge graph, or None.
        cloud_tensor: Name of the tensor of the frozen cloud graph (`"node:0"`), or None.
        status: See `Status`.
        producers: Indices of the edge ops whose outputs this op reads.
        evidence: What the pair of the op with its float twin rests on; None without a twin.
        confidence: See `matching.Pair`; 0 without a twin.
    """

    index: int
    op: str
    tensor: int
    spec: TensorSpec
    float_tensor: int | None
    cloud_tensor: str | None
    status: Status
    producers: tuple[int, ...] = ()
    evidence: Evidence | None = None
    confidence: float = 0.0


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How an edge model pairs with its float twin and with the cloud model.

    Attributes:
        layers: The layers of the edge model in execution order.
        float_only: How many ops of the float edge model have no twin in the edge model.
        constants: The weights and biases of the edge model beside those of the cloud.
    """

    layers: tuple[Layer, ...]
    float_only: int = 0
    constants: tuple[ConstantParity, ...] = ()

    def counts(self) -> dict[str, int | float]:
        """Returns the number of ops by status, and the share that is paired or known to be internal."""
        counted = collections.Counter(layer.status for layer in self.layers)
        known = counted[Status.VERIFIED] + counted[Status.INTERNAL]
        return {
            **{status.value: counted[status] for status in Status},
            "ops": len(self.layers),
            "float_only": self.float_only,
            "coverage": known / len(self.layers) if self.layers else 0.0,
        }

    def summary(self) -> dict[str, Any]:
        """Returns `counts`, and under `evidence` the number of ops by what their pair with the float twin rests on."""
        counted = collections.Counter(layer.evidence for layer in self.layers)
        return {**self.counts(), "evidence": {evidence.value: counted[evidence] for evidence in Evidence}}

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        layers = []
        for layer in self.layers:
            document = dataclasses.asdict(layer)
            document["status"] = layer.status.value
            document["evidence"] = layer.evidence and layer.evidence.value
            document["spec"]["dtype"] = layer.spec.dtype.name
            layers.append(document)
        constants = [constant.to_dict() for constant in self.constants]
        return {"layers": layers, "float_only": self.float_only, "constants": constants}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Alignment":
        """Reads what `to_dict` returned."""
        layers = []
        for item in document["layers"]:
            fields = {
                "spec": _read_spec(item["spec"]),
                "status": Status(item["status"]),
                "producers": tuple(item["producers"]),
                "evidence": item["evidence"] and Evidence(item["evidence"]),
            }
            layers.append(Layer(**{**item, **fields}))
        constants = tuple(ConstantParity.from_dict(item) for item in document["constants"])
        return cls(tuple(layers), document["float_only"], constants)


def align(
    cloud: CloudModel,
    float_edge: EdgeModel,
    edge: EdgeModel,
    feeds: Sequence[Mapping[str, np.ndarray]],
) -> Alignment:
    """Pairs the ops of an edge model with its float twin and with the cloud graph.

    Args:
        cloud: The cloud model.
        float_edge: The same conversion without quantisation, opened with `preserve_tensors`.
        edge: The model that ships, opened with `preserve_tensors`; its inputs and outputs carry the cloud's names.
        feeds: Reference inputs of one or more frames, on which each pair is confirmed.

    Raises:
        DataError: There is no frame to confirm the pairs on.
    """
    if not feeds:
        raise errors.DataError("alignment needs at least one frame to confirm the pairs on")
    cloud_tensors, verified = _align_to_cloud(cloud, float_edge, feeds)
    matching = _match(edge, float_edge, feeds)
    twins = {tensor: pair.tensor for tensor, pair in matching.pairs.items()}
    graph = edge.graph
    layers = []
    for op in graph.ops:
        tensor = op.outputs[0]
        pair = matching.pairs.get(tensor)
        if graph.is_folded(op) or tensor in matching.inner or (pair and op.name in REPRESENTATION_OPS):
            status = Status.INTERNAL
        else:
            status = verified.get(pair.tensor, Status.UNMATCHED) if pair else Status.UNMATCHED
        producers = {graph.producers[t].index for t in graph.activations(op) if t in graph.producers}
        layers.append(
            Layer(
                index=op.index,
                op=op.name,
                tensor=tensor,
                spec=graph.tensors[tensor].spec,
                float_tensor=pair.tensor if pair else None,
                cloud_tensor=cloud_tensors.get(pair.tensor) if pair else None,
                status=status,
                producers=tuple(sorted(producers)),
                evidence=pair.evidence if pair else None,
                confidence=pair.confidence if pair else 0.0,
            )
        )
    paired = set(twins.values())
    float_graph = float_edge.graph
    float_only = sum(not paired & set(op.outputs) and not float_graph.is_folded(op) for op in float_graph.ops)
    return Alignment(tuple(layers), float_only, compare_constants(cloud, float_graph, graph, twins))


def _read_spec(document: Mapping[str, Any]) -> TensorSpec:
    stored = document["quantization"]
    quantization = stored and Quantization(tuple(stored["scale"]), tuple(stored["zero_point"]), stored["axis"])
    return TensorSpec(document["name"], tuple(document["shape"]), np.dtype(document["dtype"]), quantization)


def _match(edge: EdgeModel, float_edge: EdgeModel, feeds: Sequence[Mapping[str, np.ndarray]]) -> Matching:
    """Pairs the tensors of the edge model with the float twin's: by name, and by the rest where names leave ops out."""
    known = pair_by_name(edge, float_edge)
    graph = edge.graph
    if all(op.outputs[0] in known or graph.is_folded(op) for op in graph.ops):
        return Matching({tensor: Pair(twin, Evidence.NAME, 1.0) for tensor, twin in known.items()}, frozenset())
    found = match(edge, float_edge, known, feeds)
    for op in graph.ops:
        if op.name in REPRESENTATION_OPS and op.inputs[0] in found.pairs:
            found.pairs.setdefault(op.outputs[0], found.pairs[op.inputs[0]])
    return found


def pair_by_name(edge: EdgeModel, float_edge: EdgeModel) -> dict[int, int]:
    """Returns edge tensor to float edge tensor: quantisation keeps the names of the tensors that ops compute.

    Ops that change the representation only compute the tensor that they read.
    """
    sides = edge.graph, float_edge.graph
    by_name: dict[str, list[int]] = collections.defaultdict(list)
    for op in sides[1].ops:
        by_name[sides[1].tensors[op.outputs[0]].spec.name].append(op.outputs[0])
    float_inputs, float_outputs = float_edge.input_tensors(), float_edge.output_tensors()
    twins = {i: float_inputs[name] for name, i in edge.input_tensors().items() if name in float_inputs}
    outputs = {i: float_outputs[name] for name, i in edge.output_tensors().items() if name in float_outputs}
    for op in sides[0].ops:
        tensor = op.outputs[0]
        spec = sides[0].tensors[tensor].spec
        candidates = by_name.get(spec.name, [])
        if tensor in outputs:
            twins[tensor] = outputs[tensor]
        elif candidates and sides[1].tensors[candidates[0]].spec.shape == spec.shape:
            # Tensors of one name appear in the same order on both sides.
            twins[tensor] = candidates.pop(0)
        elif op.name in REPRESENTATION_OPS and op.inputs[0] in twins:
            twins[tensor] = twins[op.inputs[0]]
    for op in reversed(sides[0].ops):
        # The layer before an output that is float again has lost its name to the DEQUANTIZE behind it.
        if op.name in REPRESENTATION_OPS and op.outputs[0] in twins:
            twins.setdefault(op.inputs[0], twins[op.outputs[0]])
    return twins


def _align_to_cloud(
    cloud: CloudModel, float_edge: EdgeModel, feeds: Sequence[Mapping[str, np.ndarray]]
) -> tuple[dict[int, str], dict[int, Status]]:
    """Returns float edge tensor to cloud tensor, and float edge tensor to status."""
    nodes = {node.name: node for node in cloud.nodes() if node.type not in _NO_VALUE_NODES}
    fetchable = [t.name for node in nodes.values() for t in node.outputs[:1] if t.dtype.name in _NUMERIC]
    graph = float_edge.graph
    claims: dict[int, str] = {}
    agree: dict[int, bool] = {}
    for feed in feeds:
        outputs, values = cloud.infer(feed, fetchable)
        values.update({cloud.output_tensors()[name]: value for name, value in outputs.items()})
        float_edge.infer(feed)
        if not claims:
            claims = _claims(cloud, float_edge, nodes, {name: np.size(v) for name, v in values.items()})
        for tensor, cloud_tensor in claims.items():
            agree[tensor] = agree.get(tensor, True) and _same(float_edge.tensor(tensor), values[cloud_tensor])
    last = {cloud_tensor: tensor for tensor, cloud_tensor in claims.items()}
    status = {}
    for op in graph.ops:
        tensor = op.outputs[0]
        if tensor not in claims:
            status[tensor] = Status.INTERNAL if graph.is_folded(op) else Status.UNMATCHED
        elif last[claims[tensor]] != tensor:
            status[tensor] = Status.INTERNAL
        else:
            status[tensor] = Status.VERIFIED if agree[tensor] else Status.UNVERIFIED
    kept = {t: c for t, c in claims.items() if status[t] in (Status.VERIFIED, Status.UNVERIFIED)}
    return kept, status


_NUMERIC = {"float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}


def _claims(
    cloud: CloudModel, float_edge: EdgeModel, nodes: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[int, str]:
    """Returns float edge tensor to the cloud tensor that its name and size point at, in execution order."""
    names: dict[str, list[str]] = collections.defaultdict(list)
    for name in nodes:
        for key in {name, without_call(name)}:
            names[key].append(name)
    order = {name: i for i, name in enumerate(nodes)}
    cloud_outputs = cloud.output_tensors()
    outputs = {i: cloud_outputs[name] for name, i in float_edge.output_tensors().items() if name in cloud_outputs}
    graph = float_edge.graph
    claims: dict[int, str] = {}
    for op in graph.ops:
        tensor = op.outputs[0]
        if tensor in outputs:
            claims[tensor] = outputs[tensor]
            continue
        size = float_edge.tensor(tensor).size
        parts = graph.tensors[tensor].spec.name.split(";")
        found = [n for part in parts for n in _resolve(part, names) if sizes.get(f"{n}:0") == size]
        if not found:
            continue
        node = max(found, key=order.__getitem__)
        if _may_claim(op, nodes[node], graph):
            claims[tensor] = f"{node}:0"
    return claims


def _resolve(part: str, names: Mapping[str, list[str]]) -> list[str]:
    """Finds the nodes that a part of a tensor name means; the converter may have appended up to three digits."""
    part = part.split(":")[0]
    for digits in range(4):
        stem = re.sub(rf"\d{{{digits}}}$", "", part) if digits else part
        if digits and stem == part:
            break
        if stem in names:
            return names[stem]
    return []


def _may_claim(op: Op, node: Any, graph: Graph) -> bool:
    """A pure move may stand for a computing node only when it finishes an op that carries the same name."""
    if op.name not in _MOVE_OPS or node.type in _MOVE_NODES:
        return True
    source: Op | None = op
    for _ in range(3):
        source = graph.producers.get(source.inputs[0]) if source else None
        if source is None or source.name not in _MOVE_OPS:
            break
    if source is None:
        return False
    stem = without_call(node.name)
    parts = graph.tensors[source.outputs[0]].spec.name.split(";")
    return any(stem in part or re.sub(r"\d+$", "", part) == re.sub(r"\d+$", "", stem) for part in parts)


def _same(edge: np.ndarray, cloud: np.ndarray) -> bool:
    if edge.size != cloud.size:
        return False
    left, right = edge.astype(np.float64).ravel(), cloud.astype(np.float64).ravel()
    largest = np.abs(right).max(initial=0.0)
    return bool(np.abs(left - right).max(initial=0.0) <= _TOLERANCE * largest + 1e-9)
