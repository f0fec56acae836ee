"""Mergeable statistics of the difference between two runs of a tensor."""

import dataclasses
import math
from typing import Any

import numpy as np

from edge_exray.drift.comparison import Comparison, compare
from edge_exray.drift.constants import ConstantChannels
from edge_exray.drift.quantiles import QuantileSketch
from edge_exray.drift.values import Values
from edge_exray.models.tensors import TensorSpec

_FRAME_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclasses.dataclass
class DriftStatistics(Comparison):
    """Running sums over pairs (reference value r, edge value e) of one tensor, over any number of frames.

    Two accumulators merge into the one that had seen the frames of both: counts, extremes, constant channels and the
    sketch to the last bit in any order, sums but for the rounding of float64.

    Attributes:
        frames: Number of frames.
        reference_constants, edge_constants: The channels that never change.
        frame_rmse: The RMSE of each frame that has a finite pair, in the units of the tensor.
    """

    frames: int = 0
    reference_constants: ConstantChannels = dataclasses.field(default_factory=ConstantChannels)
    edge_constants: ConstantChannels = dataclasses.field(default_factory=ConstantChannels)
    frame_rmse: QuantileSketch = dataclasses.field(default_factory=QuantileSketch)

    def update(self, reference: np.ndarray | Values, edge: np.ndarray | Values, spec: TensorSpec | None = None) -> None:
        """Adds one frame.

        Args:
            reference: Real values of the reference run.
            edge: Stored values of the edge run, with as many elements.
            spec: Description of the edge tensor; quantised values are dequantised by it. None takes `edge` as
                real values.

        Raises:
            ValueError: The two sides differ in their number of elements.
        """
        reference = reference if isinstance(reference, Values) else Values(reference)
        edge = edge if isinstance(edge, Values) else Values(edge, spec)
        self.add(compare(reference, edge))
        self.add_channels(reference, edge)

    def add(self, compared: Comparison) -> None:
        """Adds one frame that was compared already, for an accumulator beside others that see the same frame."""
        self.frames += 1
        self.add_sums(compared)
        if compared.finite:
            self.frame_rmse.add(compared.rmse)

    def add_channels(self, reference: Values, edge: Values) -> None:
        """Adds the channels of the frame that `add` added; without it the shares of dead channels are NaN."""
        self.reference_constants.update(reference.stored, reference.scans)
        self.edge_constants.update(edge.stored, edge.scans)

    def merge(self, other: "DriftStatistics") -> None:
        """Adds the frames that `other` has seen."""
        self.frames += other.frames
        self.add_sums(other)
        self.frame_rmse.merge(other.frame_rmse)
        self.reference_constants.merge(other.reference_constants)
        self.edge_constants.merge(other.edge_constants)

    @property
    def nrmse(self) -> float:
        """RMSE over the larger of the two value ranges, as in ML-EXray (Qiu et al., MLSys 2022, section 3.4).

        0 where the two sides are equal; infinite where both are constant and differ; NaN without a finite pair.
        """
        return self._normalized(self.rmse)

    def frame_nrmse(self, q: float) -> float:
        """Quantile `q` of the RMSE of single frames, over the range of all frames, to 1 % of its value."""
        return self._normalized(self.frame_rmse.quantile(q))

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise ratio 10 log10(sum r^2 / sum (e - r)^2) in dB; infinite when equal."""
        if not self.finite:
            return math.nan
        if not self.error_square_sum:
            return math.inf
        ratio = self.reference_square_sum / self.error_square_sum
        return 10 * math.log10(ratio) if ratio else -math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two sides; NaN where one of them is all zero.

        By the law of cosines, 1 - (|e - r|^2 - (|e| - |r|)^2) / (2 |r| |e|): the deviation from 1, which is what drift
        shows in, keeps its digits. A sum of products loses them when the sides are nearly equal.
        """
        reference, edge = math.sqrt(self.reference_square_sum), math.sqrt(self.edge_square_sum)
        if not reference or not edge:
            return math.nan
        return max(-1.0, 1 - (self.error_square_sum - (edge - reference) ** 2) / (2 * reference * edge))

    @property
    def mean_bias(self) -> float:
        """Mean of e - r, in the units of the tensor; NaN without a finite pair."""
        return self.error_sum / self.finite if self.finite else math.nan

    @property
    def reference_rms(self) -> float:
        """Root mean square of the finite reference values, in the units of the tensor; NaN without any."""
        return math.sqrt(self.reference_square_sum / self.finite) if self.finite else math.nan

    @property
    def edge_rms(self) -> float:
        """The same of the edge run."""
        return math.sqrt(self.edge_square_sum / self.finite) if self.finite else math.nan

    @property
    def saturated_share(self) -> float:
        """Share of edge values at a limit of their integer dtype; NaN for a tensor that is not quantised."""
        return self.saturated / self.quantized if self.quantized else math.nan

    @property
    def clipped_share(self) -> float:
        """Share of reference values that the edge tensor cannot represent; NaN when it is not quantised."""
        return self.clipped / self.quantized if self.quantized else math.nan

    @property
    def reference_dead_share(self) -> float:
        """Share of the channels (last axis) that hold one value in all frames; NaN below two frames."""
        return self.reference_constants.share if self.frames > 1 else math.nan

    @property
    def edge_dead_share(self) -> float:
        """The same of the edge run."""
        return self.edge_constants.share if self.frames > 1 else math.nan

    def summary(self) -> dict[str, Any]:
        """Returns the figures of `drift` in `schemas/report.schema.json`."""
        return {
            "frames": self.frames,
            "nrmse": self.nrmse,
            "rmse": self.rmse,
            "max_abs": self.max_abs if self.finite else math.nan,
            "mean_bias": self.mean_bias,
            "sqnr_db": self.sqnr_db,
            "cosine": self.cosine,
            "reference_range": [self.reference_min, self.reference_max],
            "edge_range": [self.edge_min, self.edge_max],
            "reference_rms": self.reference_rms,
            "edge_rms": self.edge_rms,
            "reference_nonfinite": self.reference_nonfinite,
            "edge_nonfinite": self.edge_nonfinite,
            "saturated_share": self.saturated_share,
            "clipped_share": self.clipped_share,
            "reference_dead_share": self.reference_dead_share,
            "edge_dead_share": self.edge_dead_share,
            "frame_nrmse": {name: self.frame_nrmse(q) for name, q in _FRAME_QUANTILES.items()},
        }

    def _normalized(self, rmse: float) -> float:
        if not rmse or math.isnan(rmse):
            return rmse
        span = max(self.reference_max - self.reference_min, self.edge_max - self.edge_min)
        return rmse / span if span else math.inf
