"""Which quantised inputs cannot hold what the reference feeds, and whether the calibration or a shared scale is why."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from edge_exray.diagnosis.evidence import Evidence


@dataclasses.dataclass(frozen=True)
class InputRange:
    """How a quantised input of the edge model fits the reference inputs.

    Attributes:
        name: Its name.
        clipped: Share of the reference values beyond what it can represent.
        representable: Smallest and largest value that it can represent.
        seen: Smallest and largest reference value.
        readers: Indices of the ops that read it.
    """

    name: str
    clipped: float
    representable: tuple[float, float]
    seen: tuple[float, float]
    readers: tuple[int, ...]

    @property
    def use(self) -> float:
        """Share of the representable range that the reference values span."""
        return (self.seen[1] - self.seen[0]) / (self.representable[1] - self.representable[0])

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures of the evidence."""
        return {"clipped_share": self.clipped, "range_use": self.use, "representable": list(self.representable)}


@dataclasses.dataclass(frozen=True)
class SharedScale:
    """Inputs that an op forces to one scale and zero point, as CONCATENATION does.

    Attributes:
        reader: Index of the op.
        inputs: All inputs that share the scale.
        dominant: The one with the widest values, which the scale was made for.
        narrow: Those that use too little of the range, worst first.
    """

    reader: int
    inputs: tuple[InputRange, ...]
    dominant: InputRange
    narrow: tuple[InputRange, ...]


def input_ranges(evidence: Evidence) -> list[InputRange]:
    """Returns the quantised inputs that were fed, by name."""
    summary = evidence.replay.summary
    found = []
    for name in evidence.inputs:
        channels = evidence.channels(name)
        if channels.quantized:
            low, high = summary["input_ranges"][name]
            seen = (float(channels.reference_range[0]), float(channels.reference_range[1]))
            clipped = channels.clipped / channels.quantized
            found.append(InputRange(name, clipped, (low, high), seen, tuple(summary["input_readers"][name])))
    return found


def shared_scale(ranges: Sequence[InputRange], min_use: float) -> SharedScale | None:
    """Returns the inputs whose range is wide because another input that is read with them needs it.

    Args:
        ranges: The inputs.
        min_use: Smallest share of its range that an input must use.

    Returns:
        The group with the worst input; None when no input that uses too little shares its scale with one that uses
        enough of it.
    """
    for worst in sorted(ranges, key=lambda item: item.use):
        if worst.use >= min_use:
            return None
        for reader in worst.readers:
            group = [r for r in ranges if reader in r.readers and r.representable == worst.representable]
            dominant = max(group, key=lambda item: item.use)
            if dominant.use >= min_use:
                narrow = sorted((r for r in group if r.use < min_use), key=lambda item: item.use)
                return SharedScale(reader, tuple(group), dominant, tuple(narrow))
    return None
