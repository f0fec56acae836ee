"""The built-in checks, in causal order: frames, inputs, weights, conversion, quantisation, outputs.

A check looks at the evidence and returns its result, with the layers that it suspects; None when it does not
apply (no labels, no classification).
"""

from collections.abc import Callable

from edge_exray.diagnosis.checks import answers, calibration, contract, data, layers, models
from edge_exray.diagnosis.checks.finding import Finding
from edge_exray.diagnosis.evidence import Evidence

Check = Callable[[Evidence], Finding | None]

CHECKS: tuple[Check, ...] = (
    data.frames,
    data.preprocessing,
    contract.input_contract,
    data.non_finite,
    models.instrumentation,
    models.alignment_coverage,
    models.constants_parity,
    layers.conversion_drift,
    calibration.calibration_range,
    layers.own_error,
    layers.quantization_drift,
    layers.kernel_drift,
    answers.output_drift,
    answers.label_flip_rate,
    answers.accuracy_drop,
    answers.slices,
    answers.instability,
)
