"""What a static check says."""

import collections
import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from edge_exray.models.graph import Graph, Op

_STORED = 100
"""A document keeps so many findings, the gravest first; the rest is only counted."""
FEW = 1024
"""Values of a tensor below which the time of its op does not matter."""


class Severity(str, enum.Enum):
    """How grave a finding is.

    `ERROR`: answers are wrong, or the file does not load. `WARNING`: answers are likely to suffer. `NOTE`: it costs
    little but time.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True)
class Finding:
    """One defect at one place.

    Attributes:
        rule: Identifier of the rule, for example `"saturated_bias"`.
        severity: How grave it is.
        op: Index of the op; None for the model as a whole.
        op_name: Its name, such as `"CONV_2D"`; empty without an op.
        tensor: Name of the tensor.
        value: The figure that the rule looked at, in words.
        why: Why that hurts.
        fix: What to do.
        subgraph: The graph that the op is in: 0, or the body of a loop or branch.
    """

    rule: str
    severity: Severity
    op: int | None
    op_name: str
    tensor: str
    value: str
    why: str
    fix: str
    subgraph: int = 0

    @property
    def place(self) -> str:
        """Op and tensor, for people."""
        body = f" of subgraph {self.subgraph}" if self.subgraph else ""
        op = f"op {self.op} {self.op_name}{body}" if self.op is not None else "model"
        name = next((part for part in reversed(self.tensor.split(";")) if part), "")
        return f"{op}, {name}" if name else op


@dataclasses.dataclass(frozen=True)
class LintResult:
    """The findings on one model; `bool(result)` is true when none is an error.

    Attributes:
        findings: The gravest first, then in execution order.
    """

    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not self.counts["error"]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by severity."""
        found = collections.Counter(finding.severity.value for finding in self.findings)
        return {severity.value: found[severity.value] for severity in Severity}

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form: `counts`, and up to 100 `findings`."""
        return {"counts": self.counts, "findings": [dataclasses.asdict(f) for f in self.findings[:_STORED]]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "LintResult":
        """Reads the findings that `to_dict` kept."""
        return cls(tuple(Finding(**{**f, "severity": Severity(f["severity"])}) for f in document["findings"]))


def at(graph: Graph, op: Op, tensor: int, rule: str, severity: Severity, *, value: str, why: str, fix: str) -> Finding:
    """Returns a finding on a tensor of an op."""
    return Finding(rule, severity, op.index, op.name, graph.tensors[tensor].spec.name, value, why, fix)
