"""The result of a validation: verdict, checks with their evidence, and everything the reports show."""

import dataclasses
import enum
import json
import math
import pathlib
from typing import Any

from edge_exray import errors, schemas

FORMAT_VERSION = 1

BROKEN = "broken_check"
"""Set in the evidence of a check that crashed or returned nonsense."""
LEGS = ("conversion", "quantization", "kernel", "preprocessing")
"""The legs that the report shows and that a suspect can stand out in."""


class Verdict(str, enum.Enum):
    """Outcome of a check or of a whole validation. Only `PASSED` lets a model ship."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What one named check found.

    Attributes:
        name: Identifier of the check, for example `"label_flip_rate"`.
        verdict: Its outcome.
        message: One sentence for people: what was found and, when it failed, what to do.
        evidence: The figures behind the message; JSON values only.
    """

    name: str
    verdict: Verdict
    message: str
    evidence: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASSED

    @property
    def is_broken(self) -> bool:
        """True for a check that failed by itself, and says nothing about the model."""
        return bool(self.evidence.get(BROKEN))


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A layer that a failed check points at.

    Attributes:
        layer: Index of the op in the edge graph.
        op: TFLite op name, for example `"CONV_2D"`.
        name: Name of the op's main output tensor.
        cloud_tensor: The cloud tensor it is paired with, if any.
        leg: The leg in which it stands out.
        reason: One sentence.
        check: Name of the check; `diagnose` fills it in.
    """

    layer: int
    op: str
    name: str
    cloud_tensor: str | None
    leg: str
    reason: str
    check: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """Outcome of a validation; `bool(report)` is true only when the verdict is `passed`.

    The JSON form is described by `schemas/report.schema.json`; the fields that are plain dictionaries here
    have the structure that the schema gives for them.
    """

    verdict: Verdict
    summary: str
    checks: list[CheckResult]
    suspects: list[Suspect]
    models: dict[str, Any]
    frames: dict[str, Any]
    accuracy: dict[str, Any]
    alignment: dict[str, Any]
    layers: list[dict[str, Any]]
    legs: dict[str, Any]
    preprocessing: dict[str, Any]
    environment: dict[str, Any]
    kernels: dict[str, Any] | None = None
    worst_frames: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    lint: dict[str, Any] | None = None
    classes: list[str] | None = None
    attribution: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    slices: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    instability: dict[str, Any] | None = None
    device_logs: list[dict[str, Any]] | None = None

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASSED

    @property
    def failed_checks(self) -> list[CheckResult]:
        """The checks that failed, in the order in which they ran: the first one is nearest to the cause."""
        return [c for c in self.checks if c.verdict is Verdict.FAILED]

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON document; NaN and infinite figures become null."""
        return _finite({"format_version": FORMAT_VERSION, **dataclasses.asdict(self)})

    def to_json(self) -> str:
        """Returns the JSON text of `to_dict`, checked against the schema."""
        document = self.to_dict()
        schemas.check(document, "report", errors.ArtifactError)
        return json.dumps(document, indent=1)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Report":
        """Reads the document that `to_dict` wrote.

        Raises:
            ArtifactError: The document does not fit the schema.
        """
        schemas.check(document, "report", errors.ArtifactError)
        fields = {k: v for k, v in document.items() if k != "format_version"}
        fields["verdict"] = Verdict(fields["verdict"])
        fields["checks"] = [CheckResult(**{**c, "verdict": Verdict(c["verdict"])}) for c in fields["checks"]]
        fields["suspects"] = [Suspect(**s) for s in fields["suspects"]]
        return cls(**fields)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Report":
        """Reads a `report.json`."""
        try:
            document = json.loads(pathlib.Path(path).read_text("utf-8"))
        except (OSError, json.JSONDecodeError) as e:
            raise errors.ArtifactError(f"{path} is not a readable report: {e}") from e
        try:
            return cls.from_dict(document)
        except errors.ArtifactError as e:
            raise errors.ArtifactError(f"{path} is no report.json of a validation: {e}") from e


def _finite(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
