"""Which frames are logged; see the section of that name in `schemas/edge_log.md`."""

import dataclasses
import functools
import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from edge_exray import errors
from edge_exray.monitor import example

Predicate = Callable[[Mapping[str, np.ndarray]], bool]
"""Told the outputs of a frame, name to real values (dequantised)."""

_WORD = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Sampling:
    """A frame is logged if any of the rules says so.

    Attributes:
        rate: Share of the frames, 0 to 1, chosen by a hash of the frame's id: all devices log the same frames.
        seed: Chooses other ones, 0 to 2**64 - 1.
        every: Every n-th frame.
        low_confidence: Frames whose largest value of the first output is below this.
        label_change: Frames whose first output has its largest value elsewhere than the frame before.
        predicate: Frames of which this function of the outputs is true.

    Raises:
        SpecError: No rule is given, or a number is out of its range.
    """

    rate: float | None = None
    seed: int = 0
    every: int | None = None
    low_confidence: float | None = None
    label_change: bool = False
    predicate: Predicate | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 <= self.rate <= 1:
            raise errors.SpecError(f"sampling: rate is a share from 0 to 1, not {self.rate}")
        if not 0 <= self.seed < 2**64:
            raise errors.SpecError(f"sampling: seed is an integer from 0 to 2**64 - 1, not {self.seed}")
        if self.every is not None and self.every < 1:
            raise errors.SpecError(f"sampling: every is a number of frames from 1, not {self.every}")
        if self.rate is None and self.every is None and not self.has_triggers:
            raise errors.SpecError("sampling: no rule is given, so no frame would be logged; use level='off' for that")

    @functools.cached_property
    def has_triggers(self) -> bool:
        """Whether a rule has to see the outputs."""
        return self.low_confidence is not None or self.label_change or self.predicate is not None

    def to_json(self) -> str:
        """Returns the rules as the header of a log has them."""
        rules = {
            "rate": self.rate,
            "seed": self.seed if self.rate is not None else None,
            "every": self.every,
            "low_confidence": self.low_confidence,
            "label_change": self.label_change or None,
            "predicate": self.predicate is not None or None,
        }
        return json.dumps({name: value for name, value in rules.items() if value is not None})

    def at_begin(self, frame_id: str, sequence: int) -> str | None:
        """Returns the rule by which a frame is logged that has not run yet, or None."""
        if self.rate == 1:
            return "rate"
        if self.rate is not None and hashed(frame_id, self.seed) < math.floor(self.rate * 2**32):
            return "rate"
        if self.every is not None and sequence % self.every == 0:
            return "every"
        return None

    def after_run(self, outputs: Mapping[str, np.ndarray], label: int, previous_label: int | None) -> str | None:
        """Returns the rule by which a frame is logged that was not chosen at its begin, or None.

        Args:
            outputs: Name to real values.
            label: Index of the largest value of the first one.
            previous_label: That of the frame that ran before; None of the first.
        """
        # As float64: NumPy 2 would round the limit to the type of the outputs.
        if self.low_confidence is not None and float(np.max(next(iter(outputs.values())))) < self.low_confidence:
            return "low_confidence"
        if self.label_change and previous_label is not None and label != previous_label:
            return "label_change"
        if self.predicate is not None and self.predicate(outputs):
            return "predicate"
        return None


def hashed(frame_id: str, seed: int) -> int:
    """Returns a number below 2**32 that is as good as random: CRC-32, finished by MurmurHash3's fmix32."""
    h = zlib.crc32(example.utf8(frame_id), zlib.crc32(struct.pack("<Q", seed)))
    h = (h ^ (h >> 16)) * 0x85EBCA6B & _WORD
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & _WORD
    return h ^ (h >> 16)
