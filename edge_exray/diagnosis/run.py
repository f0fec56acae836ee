"""Runs one check; whatever goes wrong in it is a finding, never a pass."""

import dataclasses
import json
import traceback
from typing import Any

import numpy as np

from edge_exray.diagnosis.check import Check
from edge_exray.diagnosis.checks.finding import Finding
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import BROKEN, LEGS, CheckResult, Suspect, Verdict


def run(check: Check, evidence: Evidence) -> Finding | None:
    """Runs a check.

    Args:
        check: The check.
        evidence: What it looks at.

    Returns:
        Its result and the layers that it suspects; None when it does not apply. A check that raises, or returns
        something else than a result of its own name with JSON values, has failed: its result names the file and the
        line, and has the traceback in its evidence.
    """
    try:
        returned = check(evidence)
    # A check may raise anything, and one that ends the process would end it as if the model had passed.
    except (Exception, SystemExit) as e:
        file, line = check.source
        lines = [step.lineno for step in traceback.extract_tb(e.__traceback__) if step.filename == file]
        what = "".join(traceback.format_exception_only(type(e), e)).strip()
        message = (
            f"The check itself failed and says nothing about the model: {what} ({file}, line {[line, *lines][-1]}). "
            "Mend the check."
        )
        figures = {BROKEN: True, "traceback": "".join(traceback.format_exception(type(e), e, e.__traceback__))}
        return CheckResult(check.name, Verdict.FAILED, message, figures), []
    if returned is None:
        return None
    result, suspects = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, [])
    nonsense = _nonsense(check.name, result, suspects, len(evidence.layers))
    if nonsense:
        message = f"The check itself is wrong and says nothing about the model: it {nonsense} ({check.place})."
        return CheckResult(check.name, Verdict.FAILED, message, {BROKEN: True, "returned": repr(returned)[:1000]}), []
    return dataclasses.replace(result, evidence=_plain(result.evidence)), list(suspects)


def _nonsense(name: str, result: Any, suspects: Any, layers: int) -> str | None:
    """Says what is wrong with what a check returned."""
    if not isinstance(result, CheckResult):
        return f"returned {type(result).__name__} where a CheckResult belongs"
    if result.name != name:
        return f"returned a result named {result.name!r}, its own name is {name}"
    verdict: Any = result.verdict
    message: Any = result.message
    if not isinstance(verdict, Verdict):
        return f"gave the verdict {verdict!r}, not one of edge_exray.Verdict"
    if not isinstance(message, str) or not message.strip():
        return "gave no message"
    if not isinstance(suspects, list | tuple) or not all(isinstance(s, Suspect) for s in suspects):
        return "returned something else than a list of Suspect beside its result"
    for suspect in suspects:
        if not isinstance(suspect.layer, int) or not 0 <= suspect.layer < layers:
            return f"suspects layer {suspect.layer!r}, which is none of the {layers} layers"
        if suspect.leg not in LEGS:
            return f"suspects layer {suspect.layer} in leg {suspect.leg!r}, which is none of {', '.join(LEGS)}"
    try:
        plain = _plain(result.evidence)
    except (TypeError, ValueError) as e:
        return f"gave evidence that JSON cannot hold: {e}"
    return None if isinstance(plain, dict) else "gave evidence that is no dictionary"


def _plain(evidence: Any) -> Any:
    """Returns the evidence as a reader of the report sees it; values of NumPy become numbers and lists."""
    return json.loads(json.dumps(evidence, default=_number))


def _number(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")
