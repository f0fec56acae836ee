"""The report of the last blessed model, which a new model is compared with."""

import dataclasses
import os

from edge_exray.diagnosis.report import Report


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What the evidence is compared with.

    Attributes:
        source: Where the report is.
        report: The report; None when one was asked for and no model was blessed before.
    """

    source: str
    report: Report | None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Baseline":
        """Reads a `report.json`.

        Raises:
            ArtifactError: It is missing or damaged.
        """
        return cls(os.fspath(path), Report.load(os.fspath(path)))


FIRST = Baseline("", None)
"""There is no blessed model yet."""
