"""How a check judges a figure that is known from some frames only."""

import dataclasses
from typing import Any

from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.drift.intervals import Estimate, Side, needed_frames, side

_VERDICTS = {Side.WITHIN: Verdict.PASSED, Side.BEYOND: Verdict.FAILED, Side.UNDECIDED: Verdict.INCONCLUSIVE}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A figure against its limit.

    Attributes:
        verdict: `passed` when the upper bound is within the limit, `failed` when the lower bound is beyond it, else
            `inconclusive`.
        figures: `interval`, `confidence` and, where the frames do not suffice, `needed_frames`; for the evidence.
        advice: A sentence that says what the interval is and how many frames decide; empty unless inconclusive.
    """

    verdict: Verdict
    figures: dict[str, Any]
    advice: str

    def result(self, name: str, message: str, figures: dict[str, Any]) -> CheckResult:
        """Returns the result of a check."""
        return CheckResult(name, self.verdict, message + self.advice, figures | self.figures)


def judge(
    estimate: Estimate, limit: float, spec: ValidationSpec, form: str = "{:.1%}", comparisons: int = 1
) -> Judgement:
    """Judges a figure.

    Args:
        estimate: The figure.
        limit: Its limit.
        spec: Says how sure a verdict must be.
        form: How a figure is written in a sentence.
        comparisons: How many figures of that kind are judged: with more, each must be surer, so that all of them
            together are as sure as the spec says (Bonferroni).
    """
    confidence = 1 - (1 - spec.confidence) / comparisons
    interval = estimate.interval(confidence)
    verdict = _VERDICTS[side(estimate, limit, confidence)]
    figures: dict[str, Any] = {"interval": list(interval), "confidence": spec.confidence}
    if verdict is not Verdict.INCONCLUSIVE:
        return Judgement(verdict, figures, "")
    needed = needed_frames(estimate, limit, confidence)
    low, high = map(form.format, interval)
    have = round(estimate.frames)
    advice = f" {have} frames are too few to tell: it may be from {low} to {high}"
    if needed is None:
        return Judgement(verdict, figures, f"{advice}. No number of frames shows that something never happens.")
    return Judgement(verdict, figures | {"needed_frames": needed}, f"{advice}; give at least {needed}.")
