"""A few frames out of any number that are kept with their tensors."""

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from edge_exray.frames.functions import Inputs


class Ranked(Protocol):
    """A frame that may be kept."""

    @property
    def id(self) -> str:
        """Stable id; of frames that share one, the first by rank is kept."""
        ...

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts the frames to keep first; its end tells any two frames apart, so that their order does not matter."""
        ...

    def copy(self) -> "Ranked":
        """Returns the frame with tensors of its own: the user's functions may fill the same memory for every frame."""
        ...


KeptFrame = TypeVar("KeptFrame", bound=Ranked)


class KeptFrames(Generic[KeptFrame]):
    """Keeps the first frames by rank of any number, one for each id; parts merge in any order.

    Args:
        limit: How many to keep; it bounds the memory.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[str, KeptFrame] = {}

    def __iter__(self) -> Iterator[KeptFrame]:
        """Yields the frames by rank."""
        return iter(sorted(self._kept.values(), key=lambda frame: frame.rank))

    def add(self, frame: KeptFrame) -> None:
        """Keeps a copy of a frame if it is among the first."""
        if self._is_wanted(frame):
            self._keep(frame.copy())  # type: ignore[arg-type]

    def merge(self, other: "KeptFrames[KeptFrame]") -> None:
        """Adds the frames that `other` has kept."""
        for frame in other:
            if self._is_wanted(frame):
                self._keep(frame)

    def _is_wanted(self, frame: KeptFrame) -> bool:
        twin = self._kept.get(frame.id)
        if twin is not None:
            return frame.rank < twin.rank
        return len(self._kept) < self.limit or any(frame.rank < kept.rank for kept in self._kept.values())

    def _keep(self, frame: KeptFrame) -> None:
        self._kept[frame.id] = frame
        if len(self._kept) > self.limit:
            del self._kept[max(self._kept.values(), key=lambda kept: kept.rank).id]


def copy_arrays(arrays: Mapping[str, np.ndarray]) -> Inputs:
    """Returns the same arrays in memory of their own."""
    return {name: np.array(value) for name, value in arrays.items()}
