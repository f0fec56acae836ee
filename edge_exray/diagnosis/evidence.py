"""What the checks look at: the figures of a replay, gathered once."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from edge_exray.diagnosis import swaps
from edge_exray.diagnosis.preprocessing.diagnosis import Diagnosis, diagnose
from edge_exray.diagnosis.preprocessing.hypothesis import Pair
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.drift.channels import ChannelStatistics
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.frames.examples import Example
from edge_exray.models.alignment import Layer
from edge_exray.replay import result
from edge_exray.replay.input_samples import InputSample
from edge_exray.replay.statistics import ALL_FRAMES

# What a model is whose input contract declares no task.
_CLASSIFICATION = "classification"


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the answers of cloud and edge compare on a classification output.

    Attributes:
        output: Name of the output; None when no output is a classification.
        frames: Number of frames.
        labelled: Number of frames with a known label.
        flips: Frames whose top class differs.
        cloud_right, edge_right: Labelled frames that each side got right.
    """

    output: str | None
    frames: int
    labelled: int
    flips: int
    cloud_right: int
    edge_right: int

    @property
    def label_flip_rate(self) -> float | None:
        """Share of frames whose top class differs; None without a classification."""
        return self.flips / self.frames if self.output is not None and self.frames else None

    def accuracy(self, side: str) -> float | None:
        """Share of labelled frames that `"cloud"` or `"edge"` got right; None without labels."""
        right = {"cloud": self.cloud_right, "edge": self.edge_right}[side]
        return right / self.labelled if self.output is not None and self.labelled else None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything that a check may use.

    Attributes:
        replay: The stored replay.
        spec: The limits.
        agreement: Cloud and edge answers compared.
        inputs: Input name to what the app does differently.
        repeated_ids: Number of frames whose id an earlier one has. Each of them counts as a frame of its own.
    """

    replay: result.ReplayResult
    spec: ValidationSpec
    agreement: Agreement
    inputs: dict[str, Diagnosis]
    repeated_ids: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the edge model in execution order."""
        return self.replay.alignment.layers

    def drift(self, leg: str, layer: Layer) -> DriftStatistics | None:
        """Returns what a leg found on a layer over all frames, or None."""
        return self._drift(leg, "layer", str(layer.index))

    def own_drift(self, layer: Layer) -> DriftStatistics | None:
        """Returns the own error of a layer over all frames, or None."""
        return self._drift("quantization", "own", str(layer.index))

    def kernel_drift(self, layer: Layer, kernels: str) -> DriftStatistics | None:
        """Returns how a layer differs between production kernels and others, see `edge_exray.replay.kernel_leg`."""
        return self._drift("kernel", kernels, str(layer.index))

    def output_drift(self, leg: str) -> dict[str, DriftStatistics]:
        """Returns output name to what a leg found on it over all frames."""
        found = {name: self._drift(leg, "output", name) for name in self.replay.summary["outputs"]}
        return {name: drift for name, drift in found.items() if drift}

    def channels(self, name: str) -> ChannelStatistics:
        """Returns the comparison of reference and edge input `name`."""
        statistic = self.replay.statistic("preprocessing", "input", name)
        assert isinstance(statistic, ChannelStatistics)
        return statistic

    def _drift(self, leg: str, kind: str, item: str) -> DriftStatistics | None:
        statistic = self.replay.statistic(leg, kind, item)
        assert statistic is None or isinstance(statistic, DriftStatistics)
        return statistic


def gather(replay: result.ReplayResult, spec: ValidationSpec) -> Evidence:
    """Reads a replay and computes what several checks need."""
    names = [
        key.item
        for key in replay.statistics.by_key
        if key.kind == "input" and key.leg == "preprocessing" and key.slice == ALL_FRAMES
    ]
    channels = {}
    for name in sorted(names):
        statistic = replay.statistic("preprocessing", "input", name)
        assert isinstance(statistic, ChannelStatistics)
        channels[name] = statistic
    predictions = list(replay.predictions())
    declared = replay.summary["input_contract"] or {}
    is_classifier = declared.get("task", _CLASSIFICATION) == _CLASSIFICATION
    agreement = compare_answers(predictions, replay.summary["outputs"] if is_classifier else {})
    repeated_ids = len(predictions) - len({prediction[result.FRAME_ID][0] for prediction in predictions})
    return Evidence(replay, spec, agreement, _diagnose_inputs(channels, replay.input_samples()), repeated_ids)


def _diagnose_inputs(channels: dict[str, ChannelStatistics], samples: list[InputSample]) -> dict[str, Diagnosis]:
    inputs = {name: diagnose(statistic) for name, statistic in channels.items()}
    unexplained = {name: channels[name] for name, d in inputs.items() if d.hypothesis and not d.code}
    swapped = swaps.find_swaps(unexplained)
    for name, other in swapped.items():
        hypothesis = f"it holds what belongs to input {other}, the two are swapped"
        inputs[name] = dataclasses.replace(inputs[name], hypothesis=hypothesis, swapped_with=other)
    for name in inputs.keys() - swapped.keys():
        pairs = [Pair(s.reference[name][0], s.app[name][0], s.source) for s in samples if s.app[name].size]
        inputs[name] = diagnose(channels[name], pairs)
    return inputs


def compare_answers(predictions: Iterable[Example], outputs: dict[str, list[int]]) -> Agreement:
    """Compares the answers of both sides.

    The first output with one score for each class is the classification. An output with a single value counts as
    one when it is the only one, stays within [0, 1] and the labels are 0 and 1: it is then a probability, cut at
    one half.

    Args:
        predictions: What `ReplayResult.predictions` yields.
        outputs: Output name to shape with batch axis.
    """
    rows = [(p, int(p[result.LABEL][0]) if result.LABEL in p else None) for p in predictions]
    labels = [label for _, label in rows if label is not None]
    output = next((n for n, shape in outputs.items() if len(shape) == 2 and shape[1] != 1), None)
    binary = output is None and len(outputs) == 1 and bool(labels) and set(labels) <= {0, 1}
    if binary:
        output = next(iter(outputs))
        scores = np.concatenate([p[f"{side}/{output}"] for p, _ in rows for side in ("cloud", "edge")])
        if scores.size != 2 * len(rows) or scores.min() < 0 or scores.max() > 1:
            output = None
    if output is None:
        return Agreement(None, len(rows), len(labels), 0, 0, 0)
    flips = cloud_right = edge_right = 0
    for prediction, label in rows:
        cloud, edge = (_answer(prediction[f"{side}/{output}"], binary) for side in ("cloud", "edge"))
        flips += cloud != edge
        if label is not None:
            cloud_right += cloud == label
            edge_right += edge == label
    return Agreement(output, len(rows), len(labels), flips, cloud_right, edge_right)


def _answer(scores: np.ndarray, binary: bool) -> int:
    # A NaN score is never the answer by accident: argmax would pick it, -1 matches no label and no other answer.
    if np.isnan(scores).any():
        return -1
    return int(scores[0] > 0.5) if binary else int(np.argmax(scores))
