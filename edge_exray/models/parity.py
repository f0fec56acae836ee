"""Compares every weight and bias of an edge model with the cloud constant that it came from.

The converter moves axes and rounds; it also folds batch norm into the weights, and what is folded appears nowhere in
the cloud model. The way of a constant therefore leads over the float edge model: the constant at the same place there
is its reference. Where it equals a constant of the cloud graph, but for the order of the axes, that one is named.
"""

import collections
import dataclasses
import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray.models import constants
from edge_exray.models.graph import Graph, Op
from edge_exray.models.matching import REPRESENTATION_OPS
from edge_exray.models.saved_model import CloudModel


class Source(str, enum.Enum):
    """Where the reference of a constant was found: in the cloud graph, or only in the float edge model, or nowhere."""

    CLOUD = "cloud"
    FLOAT_EDGE = "float_edge"
    NONE = "none"


@dataclasses.dataclass(frozen=True)
class ConstantParity:
    """A constant of the edge model beside its reference.

    Attributes:
        layer: Index of the op of subgraph 0 that uses it, itself or in its body.
        input: Position among the inputs of the op that reads it.
        name: Name of the tensor in the edge model.
        elements: Number of values.
        source: Where its reference was found; see `Source`.
        reference: Name of the cloud node that reads the reference, or of the float edge model's tensor; None without.
        difference: How far the two lie apart; None without a reference.
        factor: The edge values are, to within their steps, the reference times this; None when no factor explains them.
    """

    layer: int
    input: int
    name: str
    elements: int
    source: Source
    reference: str | None = None
    difference: constants.Difference | None = None
    factor: float | None = None

    @property
    def differs(self) -> bool:
        """True when rounding does not explain the difference from the reference."""
        return self.difference is not None and not self.difference.rounded

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {**dataclasses.asdict(self), "source": self.source.value}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "ConstantParity":
        """Reads what `to_dict` returned."""
        difference = document["difference"] and constants.Difference(**document["difference"])
        return cls(**{**document, "source": Source(document["source"]), "difference": difference})


def compare_constants(
    cloud: CloudModel, float_edge: Graph, edge: Graph, twins: Mapping[int, int]
) -> tuple[ConstantParity, ...]:
    """Compares the real constants of an edge model, also those in the bodies of loops.

    Args:
        cloud: The cloud model.
        float_edge: Graph of the float edge model.
        edge: Graph of the edge model.
        twins: Tensor of the edge graph to its twin in the float graph.

    Returns:
        One result for each constant and op, in execution order.
    """
    originals = _Originals(cloud.constants())
    found = []
    for op in edge.ops:
        if op.name in REPRESENTATION_OPS or edge.is_folded(op):
            continue
        twin = _twin(op, edge, float_edge, twins)
        for place, other in _bodies((edge, op), (float_edge, twin), edge.subgraphs, float_edge.subgraphs):
            found += [_compare(op.index, place, i, other, originals) for i in _real_inputs(*place)]
    return tuple(found)


class _Originals:
    """The constants of the cloud graph, found by their values in any order of the axes."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self._by_extent: dict[tuple[int, float, float], list[tuple[str, np.ndarray]]] = collections.defaultdict(list)
        for name, value in values.items():
            original = np.squeeze(value).astype(np.float32)
            self._by_extent[_extent(original)].append((name, original))

    def find(self, value: np.ndarray) -> str | None:
        """Returns the name of a constant that holds these values."""
        wanted = np.squeeze(value).astype(np.float32)
        for name, original in self._by_extent.get(_extent(wanted), ()):
            # Weights of depthwise and grouped layers also merge axes; the order of the values stays then.
            if np.array_equal(original.ravel(), wanted.ravel()) or any(
                original.transpose(axes).shape == wanted.shape and np.array_equal(original.transpose(axes), wanted)
                for axes in itertools.permutations(range(original.ndim))
            ):
                return name
        return None


def _extent(values: np.ndarray) -> tuple[int, float, float]:
    """Returns what the order of the axes does not change: size, smallest and largest value."""
    return values.size, float(values.min(initial=0.0)), float(values.max(initial=0.0))


def _twin(op: Op, edge: Graph, float_edge: Graph, twins: Mapping[int, int]) -> Op | None:
    """Returns the float op that reads the twins of an op's constants; one side may fuse the activation behind it."""
    tensor = op.outputs[0]
    if tensor not in twins:
        readers = [reader for reader in edge.ops if tensor in reader.inputs]
        tensor = readers[0].outputs[0] if len(readers) == 1 else tensor
    twin = float_edge.producers.get(twins.get(tensor, -1))
    if twin is not None and twin.name != op.name and twin.name == op.activation:
        twin = float_edge.producers.get(twin.inputs[0])
    return twin if twin is not None and twin.name == op.name else None


_Place = tuple[Graph, Op]


def _bodies(
    place: _Place, other: tuple[Graph, Op | None], subgraphs: Mapping[int, Graph], others: Mapping[int, Graph]
) -> Iterator[tuple[_Place, _Place | None]]:
    """Yields an op and the ops of its bodies, each with its twin: bodies hold the same ops in the same order."""
    graph, twin = other
    yield place, None if twin is None else (graph, twin)
    op = place[1]
    for i, index in enumerate(op.subgraphs):
        body = subgraphs[index]
        ops = _computing(body)
        twin_body = others[twin.subgraphs[i]] if twin is not None and i < len(twin.subgraphs) else None
        twin_ops: Sequence[Op | None] = _computing(twin_body) if twin_body is not None else ()
        if twin_body is None or [o.name for o in ops] != [o.name for o in twin_ops if o]:
            twin_body, twin_ops = body, [None] * len(ops)
        for inner, twin_inner in zip(ops, twin_ops, strict=True):
            yield from _bodies((body, inner), (twin_body, twin_inner), subgraphs, others)


def _computing(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op.name not in REPRESENTATION_OPS and not graph.is_folded(op)]


def _real_inputs(graph: Graph, op: Op) -> list[int]:
    """Returns the positions at which an op reads constants that hold real numbers."""
    stored = {i: graph.stored_constant(t) for i, t in enumerate(op.inputs)}
    return [i for i, t in stored.items() if t is not None and constants.is_real(graph, t)]


def _compare(layer: int, place: _Place, position: int, other: _Place | None, originals: _Originals) -> ConstantParity:
    graph, op = place
    stored = graph.stored_constant(op.inputs[position])
    assert stored is not None
    spec = graph.tensors[stored].spec
    found = ConstantParity(layer, position, spec.name, int(np.prod(spec.shape)), Source.NONE)
    value = constants.read(graph, op.inputs[position])
    if value is None or other is None:
        return found
    candidates = _real_inputs(*other)
    if position not in candidates and len(candidates) == len(_real_inputs(graph, op)) == 1:
        position = candidates[0]  # the operands of a sum or product may have changed places
    reference = constants.read(other[0], other[1].inputs[position]) if position in candidates else None
    difference = constants.compare(value, reference) if reference is not None else None
    if reference is None or difference is None:
        return found
    name = originals.find(reference.values)
    twin = other[0].stored_constant(other[1].inputs[position])
    assert twin is not None
    return dataclasses.replace(
        found,
        source=Source.CLOUD if name else Source.FLOAT_EDGE,
        reference=name or other[0].tensors[twin].spec.name,
        difference=difference,
        factor=None if difference.rounded else constants.factor(value, reference),
    )
