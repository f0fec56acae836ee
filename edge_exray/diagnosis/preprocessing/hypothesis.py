"""What an app may do differently when it prepares an input: the form in which every search gives its answer."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

EXPLAINED = 2e-3
"""Share of the variance: a hypothesis that leaves less explains a difference. Rounding to 8 bits leaves 1e-5, another
resize kernel 1e-3 to 1e-2."""

OF_DIFFERENCE = 0.25
"""What explains a difference leaves less than this share of it: a small difference is not explained by being small."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One input of one frame, as both sides prepared it.

    Attributes:
        reference: Real values as training prepared them, without batch axis.
        edge: The same as the app prepared them; of the same shape.
        source: Feature name to array: the example that both sides started from, see
            `edge_exray.replay.input_samples.InputSample`. It may be empty.
    """

    reference: np.ndarray
    edge: np.ndarray
    source: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing that the app does differently.

    Attributes:
        kind: Identifier, for example `"channel_order"`, `"value_range"`, `"resize"`.
        description: In words, for example `"reversed channels (BGR instead of RGB)"`; a part of a sentence.
        code: NumPy expression of `x` that does to the reference input what the app does, such as `"x[..., ::-1]"`.
    """

    kind: str
    description: str
    code: str


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """Changes that together would make the app's input of the reference's.

    Attributes:
        changes: In the order in which they are applied to the reference input.
        residual: Share of the variance of the edge input that they leave unexplained, over all pairs; R2 is 1 minus it.
        explains: False where they come closest, but leave too much to be the answer.
    """

    changes: tuple[Change, ...]
    residual: float
    explains: bool = True

    @property
    def kinds(self) -> list[str]:
        """Identifiers of the changes."""
        return [change.kind for change in self.changes]

    @property
    def description(self) -> str:
        """All changes in words."""
        return " and ".join(change.description for change in self.changes)

    @property
    def code(self) -> str:
        """One expression that maps the reference input `x` to the app's."""
        code = "x"
        for change in self.changes:
            inner = code if code == "x" else f"({code})"
            code = inner.join(re.split(r"\bx\b", change.code))
        return code
