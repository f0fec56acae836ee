"""The frames that could not be replayed, and why."""

import bisect
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from edge_exray import errors

MAX_NAMED = 5
"""Frames that are named for each reason."""


class Reason(NamedTuple):
    """Why frames failed: the class of the error, and its message without the frame."""

    error: str
    message: str


@dataclasses.dataclass
class _Group:
    count: int
    frames: list[str]


@dataclasses.dataclass
class FrameFailures:
    """Counts frames and those that failed, by reason; two of them merge into that of the frames of both.

    Attributes:
        frames: Number of frames, failed or not.
        groups: Reason to the number of frames and the first of their places.
    """

    frames: int = 0
    groups: dict[Reason, _Group] = dataclasses.field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of frames that failed."""
        return sum(group.count for group in self.groups.values())

    def add(self, error: errors.ExrayError, place: str) -> None:
        """Counts a frame that failed.

        Args:
            error: Why.
            place: Where the frame is in the data; its id is added when the error knows it.
        """
        named = place if error.frame in (None, place) else f"{place}, id {error.frame}"
        self._add(Reason(type(error).__name__, error.reason), 1, [named])

    def merge(self, other: "FrameFailures") -> None:
        """Adds the frames that `other` has seen."""
        self.frames += other.frames
        for reason, group in other.groups.items():
            self._add(reason, group.count, group.frames)

    def check(self, limit: int) -> None:
        """Refuses more failures than are allowed.

        Raises:
            DataError: More than `limit` frames failed; the most frequent reason is named.
        """
        if self.failed > limit:
            reason, group = self._ranked()[0]
            others = f", and {len(self.groups) - 1} other reasons" if len(self.groups) > 1 else ""
            raise errors.DataError(
                f"more than {limit} frames failed, which is all that max_failed_frames allows: "
                f"{reason.error}: {reason.message} (first at {group.frames[0]}){others}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the document that `replay.json` holds, most frequent reason first."""
        reasons = [{**reason._asdict(), **dataclasses.asdict(group)} for reason, group in self._ranked()]
        return {"frames": self.frames, "failed": self.failed, "reasons": reasons}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "FrameFailures":
        """Reads what `to_dict` wrote."""
        groups = {Reason(r["error"], r["message"]): _Group(r["count"], r["frames"]) for r in document["reasons"]}
        return cls(document["frames"], groups)

    def _add(self, reason: Reason, count: int, frames: list[str]) -> None:
        group = self.groups.setdefault(reason, _Group(0, []))
        group.count += count
        for frame in frames:
            bisect.insort(group.frames, frame, key=_natural)
        del group.frames[MAX_NAMED:]

    def _ranked(self) -> list[tuple[Reason, _Group]]:
        return sorted(self.groups.items(), key=lambda item: (-item[1].count, item[0]))


def _natural(place: str) -> list[tuple[int, str]]:
    """Sorts numbers in a text by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", place)]
