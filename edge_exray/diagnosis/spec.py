"""What a model must fulfil to be blessed."""

import dataclasses
from typing import ClassVar

from edge_exray.specs import JsonSpec


@dataclasses.dataclass(frozen=True)
class ValidationSpec(JsonSpec):
    """Limits of the checks; the defaults suit int8 image classifiers.

    Attributes:
        confidence: How sure a verdict on some frames must be of all frames: a model beyond a limit passes with a
            probability of at most 1 - confidence, one within it fails with at most the same.
        on_inconclusive: What happens to a model when the frames do not suffice: `"block"` or `"pass"`.
        min_frames: With fewer frames nothing is said about figures that have no exact interval: the drift of outputs
            that are no classification, and the range of the reference inputs.
        max_label_flip_rate: Largest share of frames whose top class differs between cloud and edge.
        max_accuracy_drop: Largest drop of the share of right answers from cloud to edge.
        max_instability: Largest share of frames that the edge model gets right in some environments of the replay and
            wrong in others; None only reports it.
        max_layer_nrmse: Largest nRMSE of a layer between float edge and edge model; healthy int8 models stay
            below 0.08.
        max_own_error: Largest own error of an op, in multiples of what the rounding of its inputs, weights and output
            causes by itself; healthy int8 models stay below 4.
        max_kernel_nrmse: Largest nRMSE of an op between production kernels and built-in or reference kernels on the
            same values; differences below one step of a quantised tensor do not count.
        max_conversion_nrmse: Largest nRMSE of a layer between cloud and float edge model.
        max_clipped_share: Largest share of the values of an input or layer that lie outside what its quantised
            tensor can represent.
        min_range_use: Smallest share of the representable range that the values of a quantised input must span.
        max_preprocessing_nrmse: Largest difference of the edge inputs from the reference inputs, root mean square
            over the value range; 8-bit rounding gives 0.001.
        min_alignment_coverage: Smallest share of the edge model's ops that must be paired.
        max_share_growth: By how much the label flip rate may lie above, and the accuracy of the edge model below, that
            of the baseline; a larger difference counts when so few frames cannot make it by chance.
        max_drift_growth: Largest factor by which the error of the answers and the worst own error may grow from the
            baseline.
        max_latency_growth: The same of the median latency on the same machine.
    """

    schema_name: ClassVar[str] = "validation_spec"

    confidence: float = 0.95
    on_inconclusive: str = "block"
    min_frames: int = 30
    max_label_flip_rate: float = 0.05
    max_accuracy_drop: float = 0.02
    max_instability: float | None = None
    max_layer_nrmse: float = 0.15
    max_own_error: float = 6.0
    max_kernel_nrmse: float = 0.01
    max_conversion_nrmse: float = 0.01
    max_clipped_share: float = 0.1
    min_range_use: float = 0.25
    max_preprocessing_nrmse: float = 0.005
    min_alignment_coverage: float = 0.8
    max_share_growth: float = 0.02
    max_drift_growth: float = 2.0
    max_latency_growth: float = 1.25
