"""The error that each op of the edge model adds by itself, apart from what it inherits through its inputs.

Every op is given the float model's values for its inputs, rounded to the op's own input tensors; what its output
differs from the float model's value is its own error. All ops of a frame run in one invoke, inside the float model
itself (`edge_exray.models.isolation.graft`), so that no value travels through Python.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models import isolation
from edge_exray.models.alignment import Alignment, Layer
from edge_exray.models.graph import Graph
from edge_exray.models.tflite import EdgeModel


@dataclasses.dataclass(frozen=True)
class OwnErrorSummary:
    """What a replay knows of the own errors beside their statistics.

    Attributes:
        obstacle: Why there are none; None when there are.
        absent: Op index to why there is no own error of that op.
        rounding: See `OwnError.rounding`.
    """

    obstacle: str | None
    absent: Mapping[int, str] = dataclasses.field(default_factory=dict)
    rounding: Mapping[int, float] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {
            "obstacle": self.obstacle,
            "absent": {str(index): reason for index, reason in self.absent.items()},
            "rounding": {str(index): value for index, value in self.rounding.items() if math.isfinite(value)},
        }


class OwnError:
    """The float model with the ops of the edge model in it.

    Args:
        float_edge: The float edge model.
        edge: The edge model.
        alignment: How their layers are paired.
        signature: Name of the signature to run.

    Raises:
        ModelError: The ops cannot be set apart; the message says why.

    Attributes:
        model: Runs in place of the float edge model: it has the same inputs, outputs and tensors.
        tensors: Op index to the tensor of `model` that the op computes from float values, to be compared with the float
            model's tensor; ops without a float twin are missing.
        absent: Op index to why there is no own error of that op.
    """

    def __init__(
        self, float_edge: EdgeModel, edge: EdgeModel, alignment: Alignment, signature: str | None = None
    ) -> None:
        for model in (float_edge, edge):
            reason = isolation.obstacle(model.content, model.graph)
            if reason:
                raise errors.ModelError(f"the ops of {model.path} cannot be run one by one: {reason}")
        twins = _twins(float_edge, edge, alignment)
        lacking = [t for t in edge.graph.inputs if t not in twins]
        if lacking:
            names = [edge.graph.tensors[t].spec.name for t in lacking]
            raise errors.ModelError(
                f"the ops of {edge.path} cannot be run one by one: {float_edge.path} has no inputs like its {names}"
            )
        self._sources = (float_edge.content, float_edge.graph, edge.content, edge.graph, twins)
        self._signature = signature
        grafted = isolation.graft(*self._sources)
        self._names = (float_edge.input_tensors(), float_edge.output_tensors())
        self.model = self._open(grafted.content)
        live = [layer for layer in alignment.layers if not edge.graph.is_folded(edge.graph.ops[layer.index])]
        self.absent = {
            layer.index: "it has no float twin; its error counts in the ops that read it"
            for layer in live
            if layer.float_tensor is None
        }
        self.tensors = {layer.index: layer.tensor + grafted.offset for layer in live if layer.float_tensor is not None}
        self._references = {layer.index: layer.float_tensor for layer in live if layer.float_tensor is not None}

    def rounding(self, feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[int, float]:
        """Measures what the mere rounding of its inputs and weights does to the output of each op.

        Args:
            feeds: Inputs of some frames.

        Returns:
            Op index to the root mean square, over the frames, of what changes in the float model's output when the
            inputs and weights of that one op are rounded to the edge model's bits: an error that no kernel could
            avoid. Ops without quantised inputs and weights are missing.
        """
        rounded = isolation.round_inputs(*self._sources)
        model = self._open(rounded.content)
        drifts = {index: DriftStatistics() for index in rounded.outputs if index in self._references}
        for feed in feeds:
            model.infer(feed)
            for index, drift in drifts.items():
                drift.update(model.tensor(self._references[index]), model.tensor(rounded.outputs[index]))
        return {index: drift.rmse for index, drift in drifts.items()}

    def _open(self, content: bytes) -> EdgeModel:
        """Opens a model that was made of the float edge model, with the names that its inputs and outputs go by."""
        model = EdgeModel(content, preserve_tensors=True, signature=self._signature)
        names = []
        for now, stored in zip(self._names, (model.input_tensors(), model.output_tensors()), strict=True):
            name_of = {index: name for name, index in stored.items()}
            names.append({name: name_of[index] for name, index in now.items()})
        model.rename(*names)
        return model


def _twins(float_edge: EdgeModel, edge: EdgeModel, alignment: Alignment) -> dict[int, int]:
    """Returns edge tensor to float edge tensor, for inputs and for all outputs of paired ops."""
    names = float_edge.input_tensors()
    twins = {i: names[name] for name, i in edge.input_tensors().items() if name in names}
    for layer in alignment.layers:
        if layer.float_tensor is not None:
            twins[layer.tensor] = layer.float_tensor
            twins.update(_siblings(layer, float_edge.graph, edge.graph))
    return twins


def _siblings(layer: Layer, float_graph: Graph, edge_graph: Graph) -> dict[int, int]:
    """Pairs the further outputs of an op whose main output is paired with that of the same op."""
    op = edge_graph.ops[layer.index]
    other = float_graph.producers.get(layer.float_tensor) if layer.float_tensor is not None else None
    if other is None or other.name != op.name or len(other.outputs) != len(op.outputs):
        return {}
    return dict(zip(op.outputs, other.outputs, strict=True))
