"""Inputs of some frames, from which the diagnosis finds out what an app prepares differently."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from edge_exray.frames.examples import Example
from edge_exray.frames.functions import Inputs
from edge_exray.replay.kept_frames import copy_arrays
from edge_exray.replay.sampling import digest

MAX_SOURCE_BYTES = 1 << 24
"""A feature that is larger is left out of the source of a sample: a few samples must not fill the disk."""


@dataclasses.dataclass(frozen=True)
class InputSample:
    """One frame as both sides prepared it, and what they prepared it from.

    Attributes:
        id: Stable id of the frame.
        place: Where it is in the data.
        reference, app: Input name to real values with batch axis, as training prepared them and as the app does.
        source: Feature name to array: the example itself, without features beyond `MAX_SOURCE_BYTES`.
    """

    id: str
    place: str
    reference: Inputs
    app: Inputs
    source: Mapping[str, np.ndarray]

    @property
    def rank(self) -> tuple[int, str, str]:
        """Sorts by the hash of the id, so that the same frames are kept however they are split over workers."""
        return digest(self.id), self.id, self.place

    def copy(self) -> "InputSample":
        """Returns the sample with tensors of its own."""
        reference, app, source = map(copy_arrays, (self.reference, self.app, self.source))
        return dataclasses.replace(self, reference=reference, app=app, source=source)


def source_of(example: Example) -> dict[str, np.ndarray]:
    """Returns the features of an example that are small enough to be kept."""
    arrays = {name: np.asarray(value) for name, value in example.items()}
    return {name: array for name, array in arrays.items() if _size(array) <= MAX_SOURCE_BYTES}


def _size(array: np.ndarray) -> int:
    if array.dtype.kind == "O":
        return sum(len(item) for item in array.ravel())
    return array.nbytes
