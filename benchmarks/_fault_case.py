"""One trial of the fault suite."""

import dataclasses
from collections.abc import Callable, Collection


@dataclasses.dataclass(frozen=True)
class FaultCase:
    """A fault that is injected, or a healthy twin.

    Attributes:
        group: Heading of the row in the table, such as `"image"` or `"model"`.
        fault: Row of the table, such as `"resize kernel"`.
        strength: Which form of the fault, for example `"nearest instead of bilinear"`; empty where there is one form.
        expected: Identifiers that the product must name: kinds of changes or names of checks; empty for a healthy twin.
        run: Injects the fault and returns the identifiers that the product named; empty when it found nothing.
    """

    group: str
    fault: str
    strength: str
    expected: tuple[str, ...]
    run: Callable[[], Collection[str]]
