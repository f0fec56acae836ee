"""What the checks look at: the figures of a replay, gathered once."""

import dataclasses
import functools
from typing import Any

from edge_exray.diagnosis import swaps
from edge_exray.diagnosis.answers import Agreement, Answers, read_answers
from edge_exray.diagnosis.baseline import Baseline
from edge_exray.diagnosis.instability import Instability, instability
from edge_exray.diagnosis.preprocessing.diagnosis import Diagnosis, diagnose
from edge_exray.diagnosis.preprocessing.hypothesis import Pair
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.drift.channels import ChannelStatistics
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models.alignment import Layer
from edge_exray.replay import result
from edge_exray.replay.input_samples import InputSample
from edge_exray.replay.statistics import ALL_FRAMES

# What a model is whose input contract declares no task.
_CLASSIFICATION = "classification"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything that a check may use.

    Attributes:
        replay: The stored replay.
        spec: The limits.
        answers: The answers of all sides and environments to each frame.
        inputs: Input name to what the app does differently.
        repeated_ids: Number of frames whose id an earlier one has. Each of them counts as a frame of its own.
        kernels: A document of `schemas/kernel_profile.schema.json`, when the model was profiled.
        baseline: The last blessed model; None when nobody asked for a comparison.
    """

    replay: result.ReplayResult
    spec: ValidationSpec
    answers: Answers
    inputs: dict[str, Diagnosis]
    repeated_ids: int
    kernels: dict[str, Any] | None = None
    baseline: Baseline | None = None

    @functools.cached_property
    def agreement(self) -> Agreement:
        """Cloud and edge answers compared on all frames."""
        return self.answers.agreement()

    @functools.cached_property
    def answer_drift(self) -> dict[str, DriftStatistics]:
        """Output name to how far what the app sees lies from the cloud's answers, over all frames."""
        drifts = {name: DriftStatistics() for name in self.replay.summary["outputs"]}
        for prediction in self.replay.predictions():
            for name, drift in drifts.items():
                drift.update(prediction[f"cloud/{name}"], prediction[f"edge/{name}"])
        return drifts

    @functools.cached_property
    def slices(self) -> dict[str, Agreement]:
        """The same on each slice, by its name `"feature:value"`."""
        return {part: self.answers.agreement(part) for part in self.replay.slices}

    @functools.cached_property
    def instability(self) -> Instability | None:
        """The answers of the edge model in several environments; None where it ran in one, or classifies nothing."""
        return instability(self.answers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the edge model in execution order."""
        return self.replay.alignment.layers

    def lint(self, layer: Layer) -> list[dict[str, Any]]:
        """Returns what the static checks of the edge model say of a layer itself, see `edge_exray.linting.findings`."""
        stored = self.replay.summary["lint"] or {"findings": []}
        return [found for found in stored["findings"] if found["op"] == layer.index and not found["subgraph"]]

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


def gather(
    replay: result.ReplayResult,
    spec: ValidationSpec,
    *,
    kernels: dict[str, Any] | None = None,
    baseline: Baseline | None = None,
) -> Evidence:
    """Reads a replay and computes what several checks need.

    Args:
        replay: The stored replay.
        spec: The limits.
        kernels: See `Evidence`.
        baseline: See `Evidence`.
    """
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
    declared = replay.summary["input_contract"] or {}
    is_classifier = declared.get("task", _CLASSIFICATION) == _CLASSIFICATION
    outputs = replay.summary["outputs"] if is_classifier else {}
    answers = read_answers(replay.predictions(), outputs, replay.slices)
    repeated_ids = len(answers.frames) - len({frame.id for frame in answers.frames})
    return Evidence(
        replay, spec, answers, _diagnose_inputs(channels, replay.input_samples()), repeated_ids, kernels, baseline
    )


def _diagnose_inputs(channels: dict[str, ChannelStatistics], samples: list[InputSample]) -> dict[str, Diagnosis]:
    inputs = {name: diagnose(statistic) for name, statistic in channels.items()}
    unexplained = {name: channels[name] for name, d in inputs.items() if d.hypothesis and not d.explained}
    swapped = swaps.find_swaps(unexplained)
    for name, other in swapped.items():
        hypothesis = f"it holds what belongs to input {other}, the two are swapped"
        inputs[name] = dataclasses.replace(inputs[name], hypothesis=hypothesis, swapped_with=other)
    for name in inputs.keys() - swapped.keys():
        pairs = [Pair(s.reference[name][0], s.app[name][0], s.source) for s in samples if s.app[name].size]
        inputs[name] = diagnose(channels[name], pairs)
    return inputs
