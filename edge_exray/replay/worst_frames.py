"""The frames on which cloud and edge answer most differently, kept with their tensors."""

import dataclasses
import math

from edge_exray.drift.statistics import DriftStatistics
from edge_exray.frames.functions import Inputs
from edge_exray.replay.kept_frames import copy_arrays


@dataclasses.dataclass(frozen=True)
class WorstFrame:
    """A frame with everything that went into both models and came out.

    Attributes:
        id: Stable id of the frame.
        place: Where it is in the data.
        label: Index of the true class, or None.
        drift: See `answer_drift`.
        reference, app: Input name to real values with batch axis, as training prepared them and as the app does;
            of the app none where a device logged the frame without.
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

    def copy(self) -> "WorstFrame":
        """Returns the frame with tensors of its own."""
        reference, app, cloud, edge = map(copy_arrays, (self.reference, self.app, self.cloud, self.edge))
        return dataclasses.replace(self, reference=reference, app=app, cloud=cloud, edge=edge)


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
