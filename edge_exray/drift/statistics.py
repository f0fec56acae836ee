"""Mergeable statistics of the difference between two runs of a tensor."""

import dataclasses
import math
from typing import Any

import numpy as np

from edge_exray.models.tensors import TensorSpec


@dataclasses.dataclass
class DriftStatistics:
    """Running sums over pairs (reference value r, edge value e) of one tensor, over any number of frames.

    Two accumulators merge into the one that had seen the frames of both. Sums run in float64 over the pairs in
    which both values are finite; the others are counted, never dropped unseen.

    Attributes:
        frames: Number of frames.
        values: Number of pairs.
        finite: Number of pairs in which both values are finite.
        error_sum, error_square_sum: Sums of e - r and of (e - r)^2.
        reference_square_sum, edge_square_sum, product_sum: Sums of r^2, e^2 and r * e.
        max_abs: Largest |e - r|.
        reference_min, reference_max, edge_min, edge_max: Extremes of the finite values.
        reference_nonfinite, edge_nonfinite: Numbers of NaN and infinite values on each side.
        saturated: Edge values that sit at a limit of their integer dtype.
        clipped: Reference values beyond what the quantised edge tensor can represent, by more than one step.
        quantized: Number of pairs whose edge tensor is quantised, which `saturated` and `clipped` refer to.
    """

    frames: int = 0
    values: int = 0
    finite: int = 0
    error_sum: float = 0.0
    error_square_sum: float = 0.0
    reference_square_sum: float = 0.0
    edge_square_sum: float = 0.0
    product_sum: float = 0.0
    max_abs: float = 0.0
    reference_min: float = math.inf
    reference_max: float = -math.inf
    edge_min: float = math.inf
    edge_max: float = -math.inf
    reference_nonfinite: int = 0
    edge_nonfinite: int = 0
    saturated: int = 0
    clipped: int = 0
    quantized: int = 0

    def update(self, reference: np.ndarray, edge: np.ndarray, spec: TensorSpec | None = None) -> None:
        """Adds one frame.

        Args:
            reference: Real values of the reference run.
            edge: Stored values of the edge run, with as many elements.
            spec: Description of the edge tensor; quantised values are dequantised by it. None takes `edge` as
                real values.

        Raises:
            ValueError: The two sides differ in their number of elements.
        """
        r = np.asarray(reference, np.float64).ravel()
        quantization = spec.quantization if spec else None
        e = np.asarray(spec.real(edge) if spec else edge, np.float64).ravel()
        if r.size != e.size:
            raise ValueError(f"reference has {r.size} values, edge has {e.size}")
        self.frames += 1
        self.values += r.size
        if quantization is not None and edge.dtype.kind in "iu" and edge.dtype.itemsize <= 2:
            limits = np.iinfo(edge.dtype)
            low, high = quantization.range(edge.dtype)
            # The kernels of SOFTMAX and LOGISTIC fix a range that ends one step below 1.
            slack = max(quantization.scale)
            self.quantized += r.size
            self.saturated += int(np.count_nonzero((edge == limits.min) | (edge == limits.max)))
            self.clipped += int(np.count_nonzero((r < low - slack) | (r > high + slack)))
        r_finite, e_finite = np.isfinite(r), np.isfinite(e)
        self.reference_nonfinite += int(r.size - np.count_nonzero(r_finite))
        self.edge_nonfinite += int(e.size - np.count_nonzero(e_finite))
        both = r_finite & e_finite
        if not both.all():
            r, e = r[both], e[both]
        if not r.size:
            return
        error = e - r
        self.finite += r.size
        self.error_sum += float(error.sum())
        self.error_square_sum += float(error @ error)
        self.reference_square_sum += float(r @ r)
        self.edge_square_sum += float(e @ e)
        self.product_sum += float(r @ e)
        self.max_abs = max(self.max_abs, float(np.abs(error).max()))
        self.reference_min = min(self.reference_min, float(r.min()))
        self.reference_max = max(self.reference_max, float(r.max()))
        self.edge_min = min(self.edge_min, float(e.min()))
        self.edge_max = max(self.edge_max, float(e.max()))

    def merge(self, other: "DriftStatistics") -> None:
        """Adds the frames that `other` has seen."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name.endswith("_min"):
                merged = min(mine, theirs)
            elif field.name.endswith(("_max", "max_abs")):
                merged = max(mine, theirs)
            else:
                merged = mine + theirs
            setattr(self, field.name, merged)

    @property
    def rmse(self) -> float:
        """Root of the mean squared error, in the units of the tensor; NaN without a finite pair."""
        return math.sqrt(self.error_square_sum / self.finite) if self.finite else math.nan

    @property
    def nrmse(self) -> float:
        """RMSE over the larger of the two value ranges, as in ML-EXray (Qiu et al., MLSys 2022, section 3.4).

        0 where the two sides are equal; infinite where both are constant and differ; NaN without a finite pair.
        """
        if not self.finite or not self.error_square_sum:
            return 0.0 if self.finite else math.nan
        span = max(self.reference_max - self.reference_min, self.edge_max - self.edge_min)
        return self.rmse / span if span else math.inf

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
        """Cosine of the angle between the two sides; NaN where one of them is all zero."""
        norm = math.sqrt(self.reference_square_sum) * math.sqrt(self.edge_square_sum)
        return self.product_sum / norm if norm else math.nan

    @property
    def mean_bias(self) -> float:
        """Mean of e - r, in the units of the tensor; NaN without a finite pair."""
        return self.error_sum / self.finite if self.finite else math.nan

    @property
    def saturated_share(self) -> float:
        """Share of edge values at a limit of their integer dtype; NaN for a tensor that is not quantised."""
        return self.saturated / self.quantized if self.quantized else math.nan

    @property
    def clipped_share(self) -> float:
        """Share of reference values that the edge tensor cannot represent; NaN when it is not quantised."""
        return self.clipped / self.quantized if self.quantized else math.nan

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
            "reference_nonfinite": self.reference_nonfinite,
            "edge_nonfinite": self.edge_nonfinite,
            "saturated_share": self.saturated_share,
            "clipped_share": self.clipped_share,
        }
