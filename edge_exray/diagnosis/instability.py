"""Instability: how often it depends on the environment whether the model is right."""

import dataclasses
import functools
from typing import Any

from edge_exray.diagnosis.answers import Answers, FrameAnswers
from edge_exray.drift.intervals import Share

EDGE = "edge"
"""The environment of every replay: the edge model on production kernels, fed what the app feeds."""

_LISTED = 20


@dataclasses.dataclass(frozen=True)
class Instability:
    """The answers of the edge model in several environments.

    With labels, a frame is *unstable* when at least one environment gives its true class and at least one does not; the
    instability is the share of unstable frames among all frames (Cidon et al., "Characterizing and Taming Model
    Instability Across Edge Devices", MLSys 2021, https://arxiv.org/abs/2010.09028). Frames on which all environments
    are wrong, each in its own way, are stable.

    The *disagreement* needs no labels: the share of frames to which the environments do not all give the same class. No
    frame is unstable on which they agree, so that the instability of labelled frames is never larger.

    Attributes:
        answers: The answers to all frames.
    """

    answers: Answers

    @functools.cached_property
    def environments(self) -> list[str]:
        """The environments, those that died included: the edge model first, the others by name."""
        frames = self.answers.frames
        found = {name for frame in frames for name in (*frame.classes, *frame.died)} - {"cloud", EDGE}
        return [EDGE, *sorted(found)]

    @functools.cached_property
    def died(self) -> dict[str, tuple[int, str]]:
        """Name of each environment that failed to how many frames it gave no answer to, and why at first."""
        ended: dict[str, tuple[int, str]] = {}
        for frame in self.answers.frames:
            for name, reason in frame.died.items():
                count, first = ended.get(name, (0, reason))
                ended[name] = count + 1, first
        return ended

    @functools.cached_property
    def unstable(self) -> list[FrameAnswers]:
        """The unstable frames."""
        return [f for f in self.answers.frames if f.label is not None and 0 < self._right(f) < len(self._classes(f))]

    @property
    def share(self) -> Share | None:
        """The instability; None without labels."""
        labelled = sum(frame.label is not None for frame in self.answers.frames)
        return Share(len(self.unstable), labelled) if labelled else None

    @property
    def disagreement(self) -> Share:
        """The share of frames to which the environments give several classes."""
        frames = self.answers.frames
        return Share(sum(len(set(self._classes(frame).values())) > 1 for frame in frames), len(frames))

    def accuracy(self, environment: str) -> float | None:
        """Returns the share of labelled frames that an environment got right, of those that it answered."""
        right = [
            frame.classes[environment] == frame.label
            for frame in self.answers.frames
            if frame.label is not None and environment in frame.classes
        ]
        return sum(right) / len(right) if right else None

    def to_dict(self, confidence: float) -> dict[str, Any]:
        """Returns the `instability` section of `schemas/report.schema.json`."""
        share, disagreement = self.share, self.disagreement
        return {
            "environments": [
                {
                    "name": name,
                    "accuracy": self.accuracy(name),
                    "died": self.died[name][1] if name in self.died else None,
                }
                for name in self.environments
            ],
            "instability": share and share.value,
            "interval": share and list(share.interval(confidence)),
            "disagreement": disagreement.value,
            "frames": int(share.frames) if share else len(self.answers.frames),
            "unstable": [
                {"id": frame.id, "label": frame.label, "answers": self._classes(frame)}
                for frame in self.unstable[:_LISTED]
            ],
        }

    def _classes(self, frame: FrameAnswers) -> dict[str, int]:
        return {name: frame.classes[name] for name in self.environments if name in frame.classes}

    def _right(self, frame: FrameAnswers) -> int:
        return sum(answer == frame.label for answer in self._classes(frame).values())


def instability(answers: Answers) -> Instability | None:
    """Returns the instability of a replay; None where no output is a classification, or nothing else was run."""
    if answers.output is None or not answers.frames:
        return None
    found = Instability(answers)
    return found if len(found.environments) > 1 else None
