"""What a report comes down to: what both the page and the summary begin with."""

from typing import Any


def decisive_check(document: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the check that explains the verdict: checks run in causal order, so it is the first of its kind."""
    if document["verdict"] == "passed":
        return None
    return next((c for c in document["checks"] if c["verdict"] == document["verdict"]), None)


def differing_inputs(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the inputs that the app prepares differently, by name."""
    return {name: found for name, found in document["preprocessing"].items() if not found["identical"]}


def hypotheses(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what may explain a differing input, best first: descriptions with `code` and `residual`, or none."""
    if found.get("hypotheses"):
        return found["hypotheses"]
    if not found["hypothesis"]:
        return []
    return [{"description": found["hypothesis"], "code": found["code"], "residual": found["residual"]}]
