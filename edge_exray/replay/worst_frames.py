"""The frames on which cloud and edge answer most differently, kept with their tensors."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from edge_exray.drift.statistics import DriftStatistics
from edge_exray.frames.functions import Inputs


@dataclasses.dataclass(frozen=True)
class WorstFrame:
    """A frame with everything that went into both models and came out.

    Attributes:
        id: Stable id of the frame.
        place: Where it is in the data.
        label: Index of the true class, or None.
        drift: See `answer_drift`.
        reference, app: Input name to real values with batch axis, as training prepared them and as the app does.
        cloud, edge: Output name to real values with batch axis: the cloud model on the reference inputs, the edge
            model on the app's.
    """

    id: str
    place: str
    label: int | None
    drift: float
    reference: Inputs
    app: Inputs
    cloud: Inputs
    edge: Inputs

    @property
    def rank(self) -> tuple[float, str, str]:
        """Sorts the worst first; ties go by id, so that the order of the frames does not matter."""
        return -self.drift, self.id, self.place


def answer_drift(cloud: Inputs, edge: Inputs) -> float:
    """Returns how far the answers to one frame are apart: the largest nRMSE of an output.

    The RMSE itself counts where the values of an output span nothing on one frame, as a single score. NaN and infinite
    values on one side are infinitely far.
    """
    largest = 0.0
    for name, reference in cloud.items():
        drift = DriftStatistics()
        drift.update(reference, edge[name])
        value = drift.nrmse if math.isfinite(drift.nrmse) else drift.rmse
        largest = max(largest, value if drift.finite == drift.values else math.inf)
    return largest


class WorstFrames:
    """Keeps the worst frames of any number, one for each id; parts merge in any order.

    Args:
        limit: How many to keep; it bounds the memory.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[str, WorstFrame] = {}

    def __iter__(self) -> Iterator[WorstFrame]:
        """Yields the frames, worst first."""
        return iter(sorted(self._kept.values(), key=lambda frame: frame.rank))

    def add(self, frame: WorstFrame) -> None:
        """Keeps a frame, with copies of its tensors, if it is among the worst."""
        if self._is_wanted(frame):
            reference, app, cloud, edge = map(_copy, (frame.reference, frame.app, frame.cloud, frame.edge))
            self._keep(dataclasses.replace(frame, reference=reference, app=app, cloud=cloud, edge=edge))

    def merge(self, other: "WorstFrames") -> None:
        """Adds the frames that `other` has kept."""
        for frame in other:
            if self._is_wanted(frame):
                self._keep(frame)

    def _is_wanted(self, frame: WorstFrame) -> bool:
        twin = self._kept.get(frame.id)
        if twin is not None:
            return frame.rank < twin.rank
        return len(self._kept) < self.limit or any(frame.rank < kept.rank for kept in self._kept.values())

    def _keep(self, frame: WorstFrame) -> None:
        self._kept[frame.id] = frame
        if len(self._kept) > self.limit:
            del self._kept[max(self._kept.values(), key=lambda kept: kept.rank).id]


def _copy(arrays: Inputs) -> Inputs:
    # The user's function may fill the same memory for every frame.
    return {name: np.array(value) for name, value in arrays.items()}
