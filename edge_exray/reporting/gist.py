"""What a report comes down to: what both the page and the summary begin with."""

from typing import Any

from edge_exray.diagnosis.report import BROKEN


def decisive_check(document: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the check that explains the verdict: checks run in causal order, so it is the first of its kind.

    One that is broken, and says nothing about the model, explains it only where no other does.
    """
    if document["verdict"] == "passed":
        return None
    candidates = [check for check in document["checks"] if check["verdict"] == document["verdict"]]
    return min(candidates, key=is_broken, default=None)


def is_broken(check: dict[str, Any]) -> bool:
    """Returns whether a check failed by itself, see `CheckResult.is_broken`."""
    return bool(check["evidence"].get(BROKEN))


def differing_inputs(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the inputs that the app prepares differently, by name."""
    return {name: found for name, found in document["preprocessing"].items() if not found["identical"]}


def hypotheses(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what may explain a differing input, best first: descriptions with `code` and `residual`, or none."""
    if found.get("hypotheses"):
        return found["hypotheses"]
    if not found["hypothesis"]:
        return []
    return [
        {"description": found["hypothesis"], "code": found["code"], "residual": found["residual"], "explains": True}
    ]
