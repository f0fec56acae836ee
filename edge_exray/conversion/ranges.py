"""What the calibration frames do to the tensors of the float model: are they enough, and is one of them odd?

A quantised activation gets its range from the calibration frames. Three figures tell whether to trust it. *Growth*: by
how much the range of half the frames grows with the other half; a range that has settled does not. Of two random halves
the one with the narrower range counts, so that the widest frame is not in it by luck. *Frame
share*: by how much the range shrinks without the one frame that stretches it most. *Tail*: how much wider the range is
than that of all but 0.2 % of the values; all steps of int8 beyond that are spent on them.
"""

import dataclasses
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edge_exray.models.tflite import EdgeModel

MAX_GROWTH = 0.1
MAX_FRAME_SHARE = 0.2
MAX_TAIL = 8.0
SETTLED_SHARE = 0.05
"""More frames are asked for when more than this share of the tensors has not settled."""

_STORED = 200
_SAMPLE = 512
_CORE = (0.001, 0.999)


@dataclasses.dataclass(frozen=True)
class TensorRange:
    """The range of one tensor over the calibration frames.

    Attributes:
        op: Index of the op of the float model that computes it; None for an input.
        op_name: Its name.
        tensor: Name of the tensor.
        range: Smallest and largest value.
        half_range: The same on the narrower half of the frames.
        core_range: Quantiles 0.1 % and 99.9 % of a sample of the values.
        growth: See the module; a share of the width of `range`.
        tail: See the module; width of `range` over that of `core_range`.
        frame: The frame without which the range shrinks most, by its place in the sample.
        frame_share: By how much, as a share of its width.
    """

    op: int | None
    op_name: str
    tensor: str
    range: tuple[float, float]
    half_range: tuple[float, float]
    core_range: tuple[float, float]
    growth: float
    tail: float
    frame: int
    frame_share: float

    @property
    def is_unsettled(self) -> bool:
        """True when more frames would widen the range."""
        return self.growth > MAX_GROWTH

    @property
    def is_outlier(self) -> bool:
        """True when a single frame, or few values, make the range."""
        return self.frame_share > MAX_FRAME_SHARE or self.tail > MAX_TAIL


@dataclasses.dataclass(frozen=True)
class RangeReport:
    """The ranges of all tensors over the calibration frames.

    Attributes:
        frames: Number of frames.
        tensors: In execution order, inputs first.
    """

    frames: int
    tensors: tuple[TensorRange, ...]

    @property
    def is_settled(self) -> bool:
        """True when the frames are enough: twice as many would hardly move the ranges."""
        return self.frames > 1 and sum(t.is_unsettled for t in self.tensors) <= SETTLED_SHARE * len(self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, with the 200 worst tensors."""
        worst = sorted(self.tensors, key=_badness, reverse=True)[:_STORED]
        growths = [t.growth for t in self.tensors]
        return {
            "frames": self.frames,
            "tensors": len(self.tensors),
            "unsettled": sum(t.is_unsettled for t in self.tensors),
            "outliers": sum(t.is_outlier for t in self.tensors),
            "settled": self.is_settled,
            "median_growth": float(np.median(growths)) if growths else None,
            "worst": [dataclasses.asdict(t) for t in worst],
        }


def measure(float_edge: bytes, frames: Iterable[Mapping[str, np.ndarray]], seed: int = 0) -> RangeReport:
    """Runs the float model on calibration frames and surveys its tensors.

    Args:
        float_edge: Content of the float edge model.
        frames: Input name to array with batch axis; consumed once.
        seed: Of the choice of the half and of the sampled values.

    Raises:
        DataError: A frame does not fit the model.
        ModelError: The model does not run.
    """
    model = EdgeModel(float_edge, preserve_tensors=True)
    surveys = {index: _Survey(seed) for index in _float_tensors(model)}
    count = 0
    for frame in frames:
        model.infer(frame)
        for index, survey in surveys.items():
            survey.add(model.tensor(index))
        count += 1
    first = set(random.Random(seed).sample(range(count), count // 2))
    halves = [half for half in (sorted(first), sorted(set(range(count)) - first)) if half]
    graph = model.graph
    found = []
    for index, survey in surveys.items():
        op = graph.producers.get(index)
        figures = survey.figures(halves)
        if figures is not None:
            place = (op.index if op else None, op.name if op else "", graph.tensors[index].spec.name)
            found.append(TensorRange(*place, **figures))
    return RangeReport(count, tuple(found))


class _Survey:
    """Extremes of one tensor in each frame, and some of its values."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._lows: list[float] = []
        self._highs: list[float] = []
        self._values: list[np.ndarray] = []
        self._places: np.ndarray | None = None

    def add(self, value: np.ndarray) -> None:
        flat = value.reshape(-1)
        self._lows.append(float(flat.min(initial=np.inf)))
        self._highs.append(float(flat.max(initial=-np.inf)))
        if self._places is None or flat.size != self._places[-1]:
            drawn = self._generator.integers(0, max(flat.size, 1), min(flat.size, _SAMPLE))
            self._places = np.append(drawn, flat.size)
        self._values.append(flat[self._places[:-1]])

    def figures(self, halves: list[list[int]]) -> dict[str, Any] | None:
        """Returns the figures of a `TensorRange`; None of a tensor that is empty or not finite."""
        lows, highs = np.array(self._lows), np.array(self._highs)
        low, high = lows.min(initial=np.inf), highs.max(initial=-np.inf)
        if not np.isfinite([low, high]).all():
            return None
        width = high - low
        half_low, half_high = min(
            ((lows[half].min(), highs[half].max()) for half in halves), key=lambda bounds: bounds[1] - bounds[0]
        )
        core_low, core_high = (float(q) for q in np.quantile(np.concatenate(self._values), _CORE))
        # What is left without a frame: the second extreme where it holds the first.
        without = _without(highs, np.fmax) - _without(lows, np.fmin)
        shares = (width - without) / width if width and len(lows) > 1 else np.zeros(len(lows))
        frame = int(np.argmax(shares))
        core = core_high - core_low
        return {
            "range": (float(low), float(high)),
            "half_range": (float(half_low), float(half_high)),
            "core_range": (core_low, core_high),
            "growth": float((width - (half_high - half_low)) / width) if width else 0.0,
            # A core of nothing, as of a rectifier that hardly ever opens, says nothing of the tail.
            "tail": float(width / core) if core > 0 else 1.0,
            "frame": frame,
            "frame_share": float(min(1.0, shares[frame])),
        }


def _without(extremes: np.ndarray, wider: np.ufunc) -> np.ndarray:
    """Returns the extreme over all frames but each one."""
    if len(extremes) < 2:
        return extremes
    before = np.concatenate([[np.nan], wider.accumulate(extremes)[:-1]])
    after = np.concatenate([wider.accumulate(extremes[::-1])[::-1][1:], [np.nan]])
    return wider(before, after)


def _float_tensors(model: EdgeModel) -> list[int]:
    graph = model.graph
    computed = [t for op in graph.ops if not graph.is_folded(op) for t in op.outputs]
    return [t for t in dict.fromkeys([*graph.inputs, *computed]) if graph.tensors[t].spec.dtype == np.float32]


def _badness(tensor: TensorRange) -> float:
    return max(tensor.growth / MAX_GROWTH, tensor.frame_share / MAX_FRAME_SHARE, tensor.tail / MAX_TAIL)
