"""The answers of all models and environments to each frame, and how often they agree."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from edge_exray.drift.intervals import PairedDrop, Share
from edge_exray.frames.examples import Example
from edge_exray.replay import result

SIDES = ("cloud", "edge")


@dataclasses.dataclass(frozen=True)
class FrameAnswers:
    """The top classes of one frame; -1 where a score is NaN.

    Attributes:
        id: Id of the frame.
        label: Index of the true class, or None.
        slices: The slices that it belongs to, as `"feature:value"`.
        classes: `"cloud"`, `"edge"` or the name of an environment to its class.
        died: Name of each environment that gave none to the reason.
    """

    id: str
    label: int | None
    slices: tuple[str, ...]
    classes: Mapping[str, int]
    died: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers to all frames.

    Attributes:
        output: Name of the output that is a classification, or None; then no frame has classes.
        frames: A record a frame.
    """

    output: str | None
    frames: list[FrameAnswers]

    @functools.cached_property
    def _by_slice(self) -> dict[str, list[FrameAnswers]]:
        found: dict[str, list[FrameAnswers]] = {}
        for frame in self.frames:
            for part in frame.slices:
                found.setdefault(part, []).append(frame)
        return found

    def agreement(self, part: str | None = None) -> "Agreement":
        """Compares cloud and edge on all frames, or on those of one slice."""
        frames = self.frames if part is None else self._by_slice.get(part, [])
        labelled = sum(f.label is not None for f in frames)
        if self.output is None:
            return Agreement(None, len(frames), labelled, 0, 0, 0)
        sides = np.array([[f.classes[side] for side in SIDES] for f in frames], np.int64).reshape(-1, 2)
        labels = np.array([f.label if f.label is not None else _NO_LABEL for f in frames], np.int64)
        cloud, edge = (sides == labels[:, None]).T
        flips = int(np.count_nonzero(sides[:, 0] != sides[:, 1]))
        return Agreement(
            self.output, len(frames), labelled, flips, int(cloud.sum()), int(edge.sum()), int((cloud & edge).sum())
        )


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the answers of cloud and edge compare on a classification output.

    Attributes:
        output: Name of the output; None when no output is a classification.
        frames: Number of frames.
        labelled: Number of frames with a known label.
        flips: Frames whose top class differs.
        cloud_right, edge_right, both_right: Labelled frames that each side, or both, got right.
    """

    output: str | None
    frames: int
    labelled: int
    flips: int
    cloud_right: int
    edge_right: int
    both_right: int = 0

    @property
    def label_flip_rate(self) -> float | None:
        """Share of frames whose top class differs; None without a classification."""
        flipped = self.flipped
        return None if flipped is None else flipped.value

    @property
    def flipped(self) -> Share | None:
        """`label_flip_rate`, with its interval."""
        return Share(self.flips, self.frames) if self.output is not None and self.frames else None

    @property
    def drop(self) -> PairedDrop | None:
        """Drop of the accuracy from cloud to edge, with its interval; None without labels."""
        if self.output is None or not self.labelled:
            return None
        return PairedDrop(self.cloud_right - self.both_right, self.edge_right - self.both_right, self.labelled)

    def accuracy(self, side: str) -> float | None:
        """Share of labelled frames that `"cloud"` or `"edge"` got right; None without labels."""
        right = {"cloud": self.cloud_right, "edge": self.edge_right}[side]
        return right / self.labelled if self.output is not None and self.labelled else None


# No class, and not what a NaN score gives.
_NO_LABEL = -2


def read_answers(
    predictions: Iterable[Example], outputs: Mapping[str, list[int]], slices: Iterable[str] = ()
) -> Answers:
    """Reads the answers out of predictions.

    The first output with one score for each class is the classification. An output with a single value counts as
    one when it is the only one, stays within [0, 1] and the labels are 0 and 1: it is then a probability, cut at
    one half.

    Args:
        predictions: What `ReplayResult.predictions` yields.
        outputs: Output name to shape with batch axis.
        slices: The slices of the replay, as `"feature:value"`.
    """
    output = next((n for n, shape in outputs.items() if len(shape) == 2 and shape[1] != 1), None)
    if output is None and len(outputs) == 1:
        return _binary(predictions, next(iter(outputs)), frozenset(slices))
    known = frozenset(slices)
    return Answers(output, [_frame(prediction, output, known, _top_class) for prediction in predictions])


def _binary(predictions: Iterable[Example], output: str, slices: frozenset[str]) -> Answers:
    spans: list[tuple[int, float, float]] = []

    def cut(scores: np.ndarray) -> int:
        spans.append((scores.size, float(scores.min(initial=np.inf)), float(scores.max(initial=-np.inf))))
        return -1 if np.isnan(scores).any() else int(scores.size and scores[0] > 0.5)

    frames = [_frame(prediction, output, slices, cut) for prediction in predictions]
    labels = {frame.label for frame in frames if frame.label is not None}
    probabilities = all(size == 1 and not low < 0 and not high > 1 for size, low, high in spans)
    if labels and labels <= {0, 1} and probabilities:
        return Answers(output, frames)
    return Answers(None, [dataclasses.replace(frame, classes={}) for frame in frames])


def _frame(
    prediction: Example, output: str | None, slices: frozenset[str], answer: Callable[[np.ndarray], int]
) -> FrameAnswers:
    classes, died = {}, {}
    for key, value in prediction.items():
        source, _, name = key.partition("/")
        if source == result.ENVIRONMENT:
            source, _, name = name.partition("/")
            if not name:
                died[source] = value[0].decode("utf-8", "replace")
        if name and name == output:
            classes[source] = answer(value)
    return FrameAnswers(
        id=prediction[result.FRAME_ID][0].decode("utf-8", "replace"),
        label=int(prediction[result.LABEL][0]) if result.LABEL in prediction else None,
        slices=tuple(part for key, value in prediction.items() if (part := _slice(key, value)) in slices),
        classes=classes,
        died=died,
    )


def _slice(key: str, value: np.ndarray) -> str:
    first = value[0] if value.size == 1 else ""
    return f"{key}:{first.decode('utf-8', 'replace') if isinstance(first, bytes) else first}"


def _top_class(scores: np.ndarray) -> int:
    # A NaN score is never the answer by accident: argmax would pick it, -1 matches no label and no other answer.
    return -1 if np.isnan(scores).any() else int(np.argmax(scores))
