"""All statistics of a replay, keyed so that parts of a run can be merged."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_exray.drift.channels import ChannelStatistics
from edge_exray.drift.comparison import Comparison, compare
from edge_exray.drift.constants import ConstantChannels
from edge_exray.drift.quantiles import QuantileSketch
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.drift.values import Values
from edge_exray.replay.contracts import ContractStatistics

ALL_FRAMES = ""
"""The slice that every frame belongs to."""


class Key(NamedTuple):
    """What a statistic is about.

    Attributes:
        leg: `"conversion"`, `"quantization"`, `"kernel"`, `"preprocessing"`, or `"instrumentation"` (the edge model
            as it ships against the same with all layers kept).
        slice: `ALL_FRAMES` or `"feature:value"`.
        kind: `"layer"`, `"own"` (own error of a layer), `"builtin"` and `"reference"` (a layer of the
            kernel leg, by what production kernels are compared with), `"device"` and `"device_float"` (a layer that a
            device logged, against edge and float edge model), `"builtin_died"` and `"reference_died"` (only the
            frames are counted), `"output"`, `"input"`, or `"contract"` (an input and what is declared of it).
        item: Index of the edge op, or name of the output or input.
    """

    leg: str
    slice: str
    kind: str
    item: str


Statistic = DriftStatistics | ChannelStatistics | ContractStatistics
_FRAMES_OF_KIND = {
    "layer": "layers",
    "own": "own_error",
    "input": "inputs",
    "device": "device_layers",
    "device_float": "device_layers",
}
_KINDS: dict[str, type[Statistic]] = {"input": ChannelStatistics, "contract": ContractStatistics}


@dataclasses.dataclass
class ReplayStatistics:
    """Statistics by key: `ChannelStatistics` of kind input, `ContractStatistics` of kind contract, else drift."""

    by_key: dict[Key, Statistic] = dataclasses.field(default_factory=dict)

    def at(self, key: Key) -> Any:
        """Returns the statistic of a key; a new empty one when the key is new."""
        if key not in self.by_key:
            self.by_key[key] = _KINDS.get(key.kind, DriftStatistics)()
        return self.by_key[key]

    def compare(self, leg: str, slices: Sequence[str], kind: str, item: str, reference: Values, edge: Values) -> None:
        """Compares one tensor of one frame and adds that to the statistics of each slice.

        Args:
            leg, kind, item: See `Key`.
            slices: The slices that the frame belongs to.
            reference: Values of the reference run.
            edge: Values of the edge run.
        """
        self.add(leg, slices, kind, item, reference, edge, compare(reference, edge))

    def add(
        self,
        leg: str,
        slices: Sequence[str],
        kind: str,
        item: str,
        reference: Values,
        edge: Values,
        compared: Comparison,
    ) -> None:
        """Adds a tensor of one frame that was compared already to the statistics of each slice; see `compare`."""
        for part in slices:
            statistic = self.at(Key(leg, part, kind, item))
            statistic.add(compared)
            if kind != "own":  # whose dead channels are those of the layer
                statistic.add_channels(reference, edge)

    def merge(self, other: "ReplayStatistics") -> None:
        """Adds the frames that `other` has seen."""
        for key, statistic in other.by_key.items():
            self.at(key).merge(statistic)

    def frames(self) -> dict[str, int]:
        """Returns how many frames each leg saw; of `"layers"`, `"own_error"` and `"device_layers"` those whose layers
        were compared, of `"inputs"` those of which both sides' are known."""
        seen: dict[str, int] = {}
        for key, statistic in self.by_key.items():
            if key.slice != ALL_FRAMES:
                continue
            name = _FRAMES_OF_KIND.get(key.kind, key.leg)
            seen[name] = max(seen.get(name, 0), statistic.frames)
        return seen


def to_line(key: Key, statistic: Statistic) -> str:
    """Returns one line of JSON; infinite extremes of an empty statistic are null."""
    fields = {name: _plain(value) for name, value in vars(statistic).items()}
    return json.dumps({"key": list(key), "fields": fields})


def from_line(line: str) -> tuple[Key, Statistic]:
    """Reads what `to_line` wrote."""
    document = json.loads(line)
    key = Key(*document["key"])
    statistic: Statistic = _KINDS.get(key.kind, DriftStatistics)()
    for name, value in document["fields"].items():
        empty = getattr(statistic, name)
        if isinstance(empty, QuantileSketch):
            # JSON has the keys of an object as text.
            bins = {int(bin_): count for bin_, count in value["bins"].items()}
            setattr(statistic, name, QuantileSketch(bins, value["zeros"]))
        elif isinstance(empty, ConstantChannels):
            index, constant = np.array(value["index"], np.int64), np.array(value["value"], np.float64)
            setattr(statistic, name, ConstantChannels(value["channels"], index, constant))
        elif isinstance(value, list):
            array = np.array([np.nan if v is None else v for v in value], np.float64)
            if name.endswith("_range"):
                array = np.where(np.isnan(array), empty, array)
            setattr(statistic, name, array if array.size else empty)
        else:
            setattr(statistic, name, empty if value is None else value)
    return key, statistic


def _plain(value: Any) -> Any:
    if isinstance(value, QuantileSketch | ConstantChannels):
        return _plain(vars(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
