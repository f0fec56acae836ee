"""The values of one tensor in one run of one frame, as a comparison of two runs reads them."""

import functools

import numpy as np

from edge_exray.drift.constants import Scans
from edge_exray.models.tensors import Quantization, TensorSpec

_UNCHANGED = np.float32(1), np.float32(0)
_UNLIMITED = -np.inf, np.inf


class Values:
    """Stored values of a tensor and what they mean.

    The array is not copied: where it is a view of a model's memory, the instance must be dropped before the model runs
    again.

    Args:
        stored: Array of any shape, as the model stores it.
        spec: Description of the tensor, by which quantised values are dequantised; None takes them as real values.

    Attributes:
        stored: The array.
        spec: The description.
        size: Number of values.
        is_quantized: True for quantised integers of 8 or 16 bits; wider ones hold accumulators and do not saturate.
        is_single: True when the real values are float32, or become so by `affine`: what the model computes with.
        affine: Scale s and zero point z when `is_single`: a stored value q means (q - z) * s.
        limits: Smallest and largest value of the integer dtype of quantised values; else infinite.
        representable: Smallest and largest real value, give or take one step, that quantised values can mean; else
            infinite. They are float32 numbers.
        scans: What was looked for in the channels so far, see `ConstantChannels.update`.
    """

    __slots__ = ("affine", "is_quantized", "is_single", "limits", "representable", "scans", "size", "spec", "stored")

    def __init__(self, stored: np.ndarray, spec: TensorSpec | None = None) -> None:
        self.stored = np.asarray(stored)
        self.spec = spec
        self.size = self.stored.size
        self.scans: Scans = []
        dtype = self.stored.dtype
        self.is_quantized = False
        self.affine, self.limits, self.representable = _UNCHANGED, _UNLIMITED, _UNLIMITED
        if spec is None or spec.quantization is None:
            self.is_single = dtype == np.float32
        elif dtype.kind in "iu" and dtype.itemsize <= 2:
            self.is_quantized = True
            self.is_single = len(spec.quantization.scale) == 1
            self.affine, self.limits, self.representable = _meaning(spec.quantization, dtype)
        else:
            self.is_single = False

    def is_like(self, other: "Values") -> bool:
        """True when the same stored value has the same meaning in both, for values that are quantised and single."""
        return self.stored.dtype == other.stored.dtype and self.affine == other.affine

    def real(self) -> np.ndarray:
        """Returns all real values as float64 in one dimension."""
        real = self.spec.real(self.stored) if self.spec else self.stored
        return np.asarray(real, np.float64).reshape(-1)

    def flat(self) -> np.ndarray:
        """Returns the stored values in one dimension, side by side in memory; not copied where they are so already."""
        return np.ascontiguousarray(self.stored).reshape(-1)


@functools.lru_cache(maxsize=1 << 14)
def _meaning(
    quantization: Quantization, dtype: np.dtype
) -> tuple[tuple[np.float32, np.float32], tuple[int, int], tuple[float, float]]:
    limits = np.iinfo(dtype)
    low, high = quantization.range(dtype)
    # The kernels of SOFTMAX and LOGISTIC fix a range that ends one step below 1.
    step = max(quantization.scale)
    representable = float(np.float32(low - step)), float(np.float32(high + step))
    affine = np.float32(quantization.scale[0]), np.float32(quantization.zero_point[0])
    return affine, (limits.min, limits.max), representable
