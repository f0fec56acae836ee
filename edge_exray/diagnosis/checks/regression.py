"""The check against the last blessed model: what was good enough may not quietly get worse."""

import dataclasses
from typing import Any

from edge_exray.diagnosis import own_errors
from edge_exray.diagnosis.checks.finding import Finding, finding
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import Report

# Below these a figure is as good as it gets: 8-bit outputs are a step apart, and healthy ops reach 3 times rounding.
_SMALL_NRMSE, _SMALL_OWN_ERROR = 0.01, 2.0

# A difference of shares counts when so small a part of equal models would show one as large (one-sided).
_SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True)
class _Figure:
    """One figure of both reports."""

    name: str
    baseline: float
    now: float
    regressed: bool


def regression(evidence: Evidence) -> Finding | None:
    """The model is no worse than the last blessed one."""
    baseline = evidence.baseline
    if baseline is None:
        return None
    if baseline.report is None:
        message = "No model was blessed before this one: there is nothing to compare with."
        return finding("regression", True, message, {"report": None, "figures": []})
    figures = [figure for figure in _figures(evidence, baseline.report) if figure]
    worse = [figure for figure in figures if figure.regressed]
    told = {"report": baseline.source, "figures": [dataclasses.asdict(figure) for figure in figures]}
    if not figures:
        message = f"The baseline {baseline.source} has no figure of this model: nothing was compared."
        return finding("regression", True, message, told)
    if not worse:
        message = f"The model is no worse than the last blessed one in {', '.join(f.name for f in figures)}."
        return finding("regression", True, message, told)
    changes = "; ".join(f"{f.name} was {f.baseline:.3g} and is {f.now:.3g}" for f in worse)
    message = f"The model is worse than the last blessed one: {changes}. Look at what changed since {baseline.source}."
    return finding("regression", False, message, told)


def _figures(evidence: Evidence, before: Report) -> list[_Figure | None]:
    agreement, then = evidence.agreement, before.accuracy
    return [
        _output_drift(evidence, before),
        _share(evidence, "label_flip_rate", then["label_flip_rate"], before.frames["count"], agreement.flips)
        if agreement.output is not None
        else None,
        _share(
            evidence,
            "accuracy",
            then["edge"],
            before.frames["labelled"],
            agreement.labelled - agreement.edge_right,
        )
        if agreement.output is not None and agreement.labelled
        else None,
        _own_error(evidence, before),
        _latency(evidence, before),
    ]


def _output_drift(evidence: Evidence, before: Report) -> _Figure | None:
    output = before.attribution and before.attribution["output"]
    drift = evidence.answer_drift.get(output or "")
    if drift is None or before.attribution is None or before.attribution["nrmse"] is None:
        return None
    then = before.attribution["nrmse"]
    return _grown("output_nrmse", then, drift.nrmse, evidence.spec.max_drift_growth, _SMALL_NRMSE)


def _own_error(evidence: Evidence, before: Report) -> _Figure | None:
    then = [own["ratio"] for layer in before.layers if (own := layer["own_error"]) and own["ratio"] is not None]
    now = [own.ratio for own in own_errors.figures(evidence)]
    if not then or not now:
        return None
    return _grown("worst_own_error", max(then), max(now), evidence.spec.max_drift_growth, _SMALL_OWN_ERROR)


def _latency(evidence: Evidence, before: Report) -> _Figure | None:
    then, now = (_edge_times(kernels) for kernels in (before.kernels, evidence.kernels))
    # Times of another machine, or of other kernels, say nothing about the model.
    if not then or not now or then[1:] != now[1:]:
        return None
    return _grown("latency_ms", then[0], now[0], evidence.spec.max_latency_growth, 0.0)


def _edge_times(kernels: dict[str, Any] | None) -> tuple[float, Any, Any, Any] | None:
    """Returns the median latency of the edge model, its kernels, threads and machine."""
    model = next((model for model in (kernels or {"models": []})["models"] if model["role"] == "edge"), None)
    if not kernels or not model:
        return None
    machine = {name: kernels["environment"].get(name) for name in ("platform", "machine", "cpus")}
    return model["latency_ms"]["p50"], model["kernels"], model["num_threads"], machine


def _grown(name: str, then: float, now: float, growth: float, small: float) -> _Figure:
    return _Figure(name, then, now, not now <= growth * max(then, small))


def _share(evidence: Evidence, name: str, then: float | None, frames: int, bad: int) -> _Figure | None:
    """Compares a share of frames; of few frames a difference may be chance, which Fisher's exact test tells."""
    if then is None or not frames:
        return None
    from scipy import stats

    of = evidence.agreement.frames if name == "label_flip_rate" else evidence.agreement.labelled
    bad_then = round((then if name == "label_flip_rate" else 1 - then) * frames)
    now = bad / of if name == "label_flip_rate" else 1 - bad / of
    chance = stats.fisher_exact([[bad, of - bad], [bad_then, frames - bad_then]], alternative="greater")[1]
    grown = bad / of - bad_then / frames > evidence.spec.max_share_growth
    return _Figure(name, then, now, bool(grown and chance <= _SIGNIFICANCE))
