"""The values of one tensor in one run of one frame, as a comparison of two runs reads them."""

import dataclasses
import functools

import numpy as np

from edge_exray.models.tensors import TensorSpec

BLOCK = 1 << 16
"""Values that are worked on at a time, so that they stay in the processor's cache from one operation to the next."""

# Sums of squares of larger values may overflow in float32.
_LARGEST = 1e15


@dataclasses.dataclass
class Survey:
    """What one side of a comparison shows by itself.

    Attributes:
        low, high: Smallest and largest stored value.
        square_sum: Sum of the squared real values.
        saturated: Quantised values at a limit of their dtype.
    """

    low: float = np.inf
    high: float = -np.inf
    square_sum: float = 0.0
    saturated: int = 0


class Values:
    """Stored values of a tensor and what they mean.

    An instance that stands in several comparisons is surveyed once. The array is not copied: where it is a view of a
    model's memory, the instance must be dropped before the model runs again.

    Args:
        stored: Array of any shape, as the model stores it.
        spec: Description of the tensor, by which quantised values are dequantised; None takes them as real values.

    Attributes:
        stored: The array.
        spec: The description.
        size: Number of values.
        is_quantized: True for quantised integers of 8 or 16 bits; wider ones hold accumulators and do not saturate.
        is_single: True when `block` gives the real values, in float32, as the model computes with them.
        survey: Made by the first comparison of blocks.
    """

    __slots__ = (
        "_flat",
        "_limits",
        "_scale",
        "_zero_point",
        "is_quantized",
        "is_single",
        "size",
        "spec",
        "stored",
        "survey",
    )

    def __init__(self, stored: np.ndarray, spec: TensorSpec | None = None) -> None:
        self.stored = np.asarray(stored)
        self.spec = spec
        self.size = self.stored.size
        self.survey: Survey | None = None
        self._flat = self.stored.reshape(-1)
        quantization = spec.quantization if spec else None
        dtype = self.stored.dtype
        self.is_quantized = quantization is not None and dtype.kind in "iu" and dtype.itemsize <= 2
        self._scale: np.float32 | None = None
        # Scales of every sane model; float32 has no room for the squares of others.
        if self.is_quantized and quantization and len(quantization.scale) == 1 and 1e-12 < quantization.scale[0] < 1e10:
            self._scale, self._zero_point = np.float32(quantization.scale[0]), np.float32(quantization.zero_point[0])
            self._limits = _limits(dtype)
        self.is_single = self._scale is not None or (quantization is None and dtype == np.float32)

    def real(self) -> np.ndarray:
        """Returns all real values as float64 in one dimension."""
        real = self.spec.real(self.stored) if self.spec else self.stored
        return np.asarray(real, np.float64).reshape(-1)

    def block(self, start: int, scratch: np.ndarray) -> np.ndarray:
        """Returns the real values of one block as float32.

        Args:
            start: Index of its first value.
            scratch: [BLOCK] float32 array that the result may lie in.
        """
        stored = self._flat[start : start + BLOCK]
        if self._scale is None:
            return stored
        real = scratch[: stored.size]
        # The steps of `Quantization.dequantize`, so that equal values stay equal to the last bit.
        np.copyto(real, stored)
        if self._zero_point:
            np.subtract(real, self._zero_point, out=real)
        return np.multiply(real, self._scale, out=real)

    def add_to(self, survey: Survey, start: int, real: np.ndarray) -> bool:
        """Adds one block to a survey.

        Args:
            survey: The survey.
            start: Index of the first value of the block.
            real: What `block` returned for it.

        Returns:
            False when a value is not finite or so large that its square overflows; the survey is then of no use.
        """
        stored = self._flat[start : start + BLOCK]
        low, high = float(np.minimum.reduce(stored)), float(np.maximum.reduce(stored))
        if self._scale is None:
            if not -_LARGEST < low <= high < _LARGEST:
                return False
        else:
            for found, limit in zip((low, high), self._limits, strict=True):
                if found == limit:
                    survey.saturated += int(np.count_nonzero(stored == limit))
        survey.low, survey.high = min(survey.low, low), max(survey.high, high)
        survey.square_sum += float(np.dot(real, real))
        return True

    def extremes(self, survey: Survey) -> tuple[float, float]:
        """Returns the smallest and the largest real value of a survey."""
        if self._scale is None:
            return survey.low, survey.high
        low, high = np.float32(survey.low), np.float32(survey.high)
        return float((low - self._zero_point) * self._scale), float((high - self._zero_point) * self._scale)


@functools.cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return limits.min, limits.max
