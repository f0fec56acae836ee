"""The check of the input contract: does the app keep what the edge model declares, and is the declaration true?"""

import dataclasses
import json
from typing import Any

import numpy as np

from edge_exray.contract import InputContract, InputFormat
from edge_exray.diagnosis.checks.finding import Finding, finding
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.preprocessing.diagnosis import Diagnosis
from edge_exray.diagnosis.preprocessing.value_ranges import CONVENTIONS
from edge_exray.replay.contracts import ContractStatistics

# Of the declared range: reference values that use less of it, and all of another convention's, are of the other.
_USED = 0.75
_SAME_END = 0.01

# Scale and offset that differ by less are rounding.
_SAME_SCALE = 1e-3


@dataclasses.dataclass(frozen=True)
class _Breach:
    """A declared property that does not hold.

    Attributes:
        input: Name of the input.
        property: Name of the property, see `edge_exray.contract.Violation`.
        side: Who is wrong: the `"app"`, or the `"declaration"`.
        message: What is wrong, and what to do.
    """

    input: str
    property: str
    side: str
    message: str


def input_contract(evidence: Evidence) -> Finding | None:
    """The app feeds what the contract in the edge model declares, and so does the reference."""
    document = evidence.replay.summary["input_contract"]
    if document is None:
        return None
    contract = InputContract.from_dict(document)
    breaches = [breach for name in contract.inputs for breach in _breaches(evidence, contract, name)]
    figures: dict[str, Any] = {
        # As text, which no table rounds: it is what apps copy.
        "declared": [{"input": name, "properties": json.dumps(fields)} for name, fields in document["inputs"].items()],
        "broken": [dataclasses.asdict(breach) for breach in breaches],
        "frames": [{"input": name, **dataclasses.asdict(_statistics(evidence, name))} for name in contract.inputs],
    }
    if not breaches:
        message = f"The inputs keep what the edge model declares of {', '.join(contract.inputs) or 'none of them'}."
        if any(declared.channels in ("RGB", "BGR") for declared in contract.inputs.values()):
            message += " That the reference itself has the declared channel order does not show in its values."
        return finding("input_contract", True, message, figures)
    # A false declaration misleads every app, a false app only its own users.
    first, *others = sorted(breaches, key=lambda breach: breach.side != "declaration")
    message = first.message
    if others:
        message += " Also broken: " + ", ".join(f"{other.property} of {other.input}" for other in others) + "."
    return finding("input_contract", False, message, figures)


def _breaches(evidence: Evidence, contract: InputContract, name: str) -> list[_Breach]:
    statistics, declared = _statistics(evidence, name), contract.inputs[name]
    found = []
    for prop in dict.fromkeys([*statistics.reference, *statistics.edge]):
        by_reference, by_app = statistics.reference.get(prop, 0), statistics.edge.get(prop, 0)
        if by_reference:
            message = (
                f"The contract of the edge model is not true: the reference inputs break it for {name} ({prop}) in "
                f"{by_reference} of {statistics.frames} frames: {_what(evidence, declared, name, prop, 'reference')}. "
                "Declare what training fed, or mend reference_inputs_fn."
            )
            found.append(_Breach(name, prop, "declaration", message))
        if by_app > by_reference:
            message = (
                f"The app's inputs break the contract of {name} ({prop}) in {by_app} of {statistics.frames} frames: "
                f"{_what(evidence, declared, name, prop, 'edge')}. Prepare them as declared."
            )
            found.append(_Breach(name, prop, "app", message))
    if found:
        return found
    convention = _other_convention(evidence, declared, name)
    if convention:
        message = (
            f"The contract of the edge model is not true: {declared.normalisation} of input {name} allow "
            f"{declared.allowed}, the reference inputs of all {statistics.frames} frames keep to {convention}. Declare "
            "what training fed, or mend reference_inputs_fn."
        )
        found.append(_Breach(name, declared.bounds, "declaration", message))
    diagnosis = evidence.inputs.get(name)
    if diagnosis and not diagnosis.identical and diagnosis.nrmse > evidence.spec.max_preprocessing_nrmse:
        found += _explained(declared, name, diagnosis)
    return found


def _explained(declared: InputFormat, name: str, diagnosis: Diagnosis) -> list[_Breach]:
    """Returns what the preprocessing leg tells of an app whose values are all possible."""
    found = []
    permutation, scale, offset = diagnosis.permutation, diagnosis.scale, diagnosis.offset
    if declared.channels and permutation and permutation != sorted(permutation):
        message = (
            f"Reference and app feed the channels of input {name} in different orders ({permutation}), the contract "
            f"declares {declared.channels}: one of them breaks it. Make both feed {declared.channels}."
        )
        found.append(_Breach(name, "channels", "app", message))
    if declared.span is None or scale is None or offset is None:
        return found
    span = diagnosis.reference_range[1] - diagnosis.reference_range[0]
    if not np.allclose(scale, 1, atol=_SAME_SCALE) or not np.allclose(offset, 0, atol=_SAME_SCALE * span):
        message = (
            f"The app's inputs break the contract of {name} ({declared.bounds}), {declared.normalisation}, which the "
            f"reference inputs keep: {diagnosis.hypothesis}. Prepare them as declared."
        )
        found.append(_Breach(name, declared.bounds, "app", message))
    return found


def _what(evidence: Evidence, declared: InputFormat, name: str, prop: str, side: str) -> str:
    if prop == declared.bounds:
        channels = evidence.channels(name)
        low, high = getattr(channels, f"{side}_range")
        reach = f"reach [{low:.4g}, {high:.4g}]" if channels.count else "cannot be compared"
        return f"they {reach}, {declared.normalisation} allow {declared.allowed}"
    if prop == "finite":
        return "they hold NaN or infinite values"
    if prop == "inputs":
        return "the model has no such input"
    wanted = getattr(declared, prop, None)
    return f"{wanted} is declared" if wanted else "it does not hold numbers of the declared layout"


def _other_convention(evidence: Evidence, declared: InputFormat, name: str) -> str | None:
    """Names the convention that the reference inputs fill from end to end, when it is not the declared one.

    No image of a set that needs all of [0, 1] has its darkest pixel at 127.5 of 255; a few images may.
    """
    span = declared.span
    if span is None or declared.channels is None or name not in evidence.inputs:
        return None
    channels = evidence.channels(name)
    width = float(span[1].max() - span[0].min())
    seen = channels.reference_range
    # One bound alone declares no convention.
    if channels.frames < evidence.spec.min_frames or np.isinf(width) or not seen[1] - seen[0] < _USED * width:
        return None
    for convention, (scale, offset) in CONVENTIONS.items():
        ends = np.array([offset, 255 * scale + offset])
        if np.abs(seen - ends).max() <= _SAME_END * (ends[1] - ends[0]):
            return convention
    return None


def _statistics(evidence: Evidence, name: str) -> ContractStatistics:
    statistic = evidence.replay.statistic("preprocessing", "contract", name) or ContractStatistics()
    assert isinstance(statistic, ContractStatistics)
    return statistic
