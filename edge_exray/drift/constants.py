"""Channels that never change: mergeable over frames, exact in any order."""

import dataclasses
import math

import numpy as np

from edge_exray.drift.fusion import fusion

Scans = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Channels, the value of each, and whether each holds it in all rows of one array."""

_COMPILED = {np.dtype(dtype) for dtype in (np.float32, np.int8, np.uint8, np.int16)}


@dataclasses.dataclass(eq=False)
class ConstantChannels:
    """The channels (last axis) of a tensor that held one and the same value wherever they were seen.

    A channel with NaN or infinity varies. Where frames differ in their number of channels, no channel is constant.

    Attributes:
        channels: Number of channels, the largest where frames differ; 0 before the first frame.
        index: The constant channels, ascending.
        value: The stored value of each.
    """

    channels: int = 0
    index: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    value: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def update(self, stored: np.ndarray, scans: Scans | None = None) -> None:
        """Adds one frame.

        Args:
            stored: Array of a numeric dtype; quantised values may be given as they are stored.
            scans: Of this array so far: accumulators that have seen the same frames share one scan. It is added to.
        """
        channels = stored.shape[-1] if stored.ndim else 1
        if not stored.size or (channels == self.channels and not self.index.size):
            return
        if self.channels and channels != self.channels:
            self._keep(np.zeros(self.index.size, bool), channels)
            return
        rows = stored.reshape(-1, channels)
        if not self.channels:
            self.channels, self.index, self.value = channels, np.arange(channels), rows[0].astype(np.float64)
            self._keep(np.isfinite(self.value), channels)
        # Back in the dtype that they came from the values are what they were.
        value = self.value.astype(rows.dtype)
        known = (kept for *sought, kept in scans or () if all(map(np.array_equal, sought, (self.index, value))))
        kept = next(known, None)
        if kept is None:
            kept = _still_constant(rows, self.index, value)
            if scans is not None:
                scans.append((self.index, value, kept))
        self._keep(kept, channels)

    def merge(self, other: "ConstantChannels") -> None:
        """Adds the frames that `other` has seen."""
        if not self.channels:
            self.channels, self.index, self.value = other.channels, other.index, other.value
        elif other.channels and self.channels != other.channels:
            self._keep(np.zeros(self.index.size, bool), other.channels)
        elif other.channels:
            _, mine, theirs = np.intersect1d(self.index, other.index, assume_unique=True, return_indices=True)
            same = np.zeros(self.index.size, bool)
            same[mine] = self.value[mine] == other.value[theirs]
            self._keep(same, other.channels)

    @property
    def share(self) -> float:
        """Share of the channels that are constant; NaN before the first frame."""
        return self.index.size / self.channels if self.channels else math.nan

    def __eq__(self, other: object) -> bool:
        """True for the same channels with the same values."""
        if not isinstance(other, ConstantChannels):
            return NotImplemented
        pairs = ((self.index, other.index), (self.value, other.value))
        return self.channels == other.channels and all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _keep(self, kept: np.ndarray, channels: int) -> None:
        # New arrays, because another accumulator may hold the present ones.
        if not kept.all():
            self.index, self.value = self.index[kept], self.value[kept]
        self.channels = max(self.channels, channels)


def _still_constant(rows: np.ndarray, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Returns which of the columns `index` hold their `value` in all rows."""
    fused = fusion() if rows.dtype in _COMPILED else None
    if fused:
        return fused.keep_constant(np.ascontiguousarray(rows), index, value)
    kept = np.ones(index.size, np.bool_)
    # Most channels show in a few rows that they vary, so that only the others need all rows.
    for part in (rows[:32], rows[32:]):
        kept[kept] = (part[:, index[kept]] == value[kept]).all(0)
    return kept
