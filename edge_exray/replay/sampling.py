"""Which frames the expensive legs see: chosen by their ids alone, so that every split over workers chooses the same."""

import dataclasses
import hashlib
import heapq
from collections.abc import Iterable

EVERY = 1 << 64
"""The bound that takes every frame."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Bounds below which the hash of a frame's id must be.

    Attributes:
        layers: For the legs that compare layers.
        kernels: For the kernel leg; 0 leaves it out.
    """

    layers: int = EVERY
    kernels: int = 0

    def takes_layers(self, frame_id: str) -> bool:
        """Returns whether the layers of a frame are compared."""
        return self.layers == EVERY or digest(frame_id) < self.layers

    def takes_kernels(self, frame_id: str) -> bool:
        """Returns whether the kernel leg sees a frame."""
        return self.kernels > 0 and digest(frame_id) < self.kernels


def digest(frame_id: str) -> int:
    """Returns the hash of a frame's id, evenly spread over 64 bits and the same in every process."""
    return int.from_bytes(hashlib.blake2b(frame_id.encode(), digest_size=8).digest(), "big")


def choose(frame_ids: Iterable[str], layer_frames: int, kernel_frames: int) -> Sampling:
    """Returns the sampling that takes a number of frames out of all.

    Args:
        frame_ids: The ids of all frames, in any order; frames that share one are taken or left together, and count
            as one.
        layer_frames: How many frames the layers are compared on; 0 takes every frame.
        kernel_frames: How many frames the kernel leg sees; 0 leaves it out.
    """
    most = max(layer_frames, kernel_frames)
    smallest = heapq.nsmallest(most + 1, {digest(frame_id) for frame_id in frame_ids}) if most else []

    def bound(count: int) -> int:
        return smallest[count] if len(smallest) > count else EVERY

    return Sampling(bound(layer_frames) if layer_frames else EVERY, bound(kernel_frames) if kernel_frames else 0)
