"""Which frames the expensive legs see: chosen by their ids alone, so that every split over workers chooses the same."""

import contextlib
import dataclasses
import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator

from edge_exray import errors
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import UserFunctions

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


def require_counts(layer_frames: int, kernel_frames: int) -> None:
    """Refuses numbers that `choose` cannot take.

    Raises:
        SpecError: A number is negative.
    """
    for name, count in (("layer_frames", layer_frames), ("kernel_frames", kernel_frames)):
        if count < 0:
            raise errors.SpecError(f"{name} must be 0 or more, is {count}")


def sample(
    read: Callable[[], Iterable[Example | errors.DataError]],
    functions: UserFunctions,
    layer_frames: int,
    kernel_frames: int,
) -> Sampling:
    """Reads all examples for their ids, and returns the sampling that takes a number of their frames; see `choose`.

    Args:
        read: Returns the examples from the first one on; only called when a number is not 0.
        functions: The user's functions, which make the ids.
        layer_frames, kernel_frames: See `choose`.

    Raises:
        SpecError: A number is negative.
    """
    require_counts(layer_frames, kernel_frames)
    if not layer_frames and not kernel_frames:
        return Sampling()
    return choose(_frame_ids(read(), functions), layer_frames, kernel_frames)


def _frame_ids(examples: Iterable[Example | errors.DataError], functions: UserFunctions) -> Iterator[str]:
    for example in examples:
        if isinstance(example, errors.DataError):
            continue
        # What fails here fails again when the frame is replayed, and is counted there.
        with contextlib.suppress(errors.ModuleError):
            yield functions.frame_id(example)


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
