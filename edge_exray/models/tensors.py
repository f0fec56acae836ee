"""Descriptions of tensors, and affine quantisation."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Quantization:
    """Affine quantisation `real = scale * (stored - zero_point)`, see the LiteRT quantisation specification.

    Attributes:
        scale: One float for the tensor, or one for each index of `axis`.
        zero_point: As many integers.
        axis: The quantised dimension; only meaningful with more than one scale.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0

    def _broadcast(self, values: tuple[float, ...] | tuple[int, ...], ndim: int, dtype: type) -> np.ndarray:
        shape = [1] * ndim
        if len(values) > 1:
            shape[self.axis] = len(values)
        return np.array(values, dtype).reshape(shape)

    def broadcast(self, ndim: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns scale and zero point as float64, in a shape that fits an array of that many dimensions."""
        return self._broadcast(self.scale, ndim, np.float64), self._broadcast(self.zero_point, ndim, np.float64)

    def quantize(self, real: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Rounds to the nearest stored value and clips to the range of `dtype`.

        Args:
            real: Real values.
            dtype: Integer dtype of the tensor.

        Returns:
            Array of the same shape and of `dtype`. NaN has no stored value and becomes the zero point;
            the drift statistics count NaN in the real values.
        """
        limits = np.iinfo(dtype)
        stored = np.round(real / self._broadcast(self.scale, real.ndim, np.float32))
        stored = np.nan_to_num(stored.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
        # float64 from here on: float32 has no room for the limits of int32, and the cast would wrap around.
        stored += self._broadcast(self.zero_point, real.ndim, np.float64)
        return np.clip(stored, limits.min, limits.max).astype(dtype)

    def dequantize(self, stored: np.ndarray) -> np.ndarray:
        """Returns the float32 real values of stored integers, of the same shape."""
        # Differences of int32 biases from their zero point do not fit float32 exactly; float64 keeps them.
        wide = np.float64 if stored.dtype.itemsize > 2 else np.float32
        shifted = stored.astype(wide) - self._broadcast(self.zero_point, stored.ndim, wide)
        return (shifted * self._broadcast(self.scale, stored.ndim, wide)).astype(np.float32)

    def range(self, dtype: np.dtype) -> tuple[float, float]:
        """Returns the smallest and the largest real value that a tensor of `dtype` can hold (over all channels)."""
        limits = np.iinfo(dtype)
        pairs = list(zip(self.scale, self.zero_point, strict=True))
        return min(s * (limits.min - z) for s, z in pairs), max(s * (limits.max - z) for s, z in pairs)


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """What a model says about one of its tensors.

    Attributes:
        name: Name of the tensor, or of the signature's input or output.
        shape: Dimensions including the batch axis; -1 is unknown.
        dtype: NumPy dtype of the stored values; `object` for strings.
        quantization: How stored integers map to real values, or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    quantization: Quantization | None = None

    @property
    def elements(self) -> int:
        """Number of values of one frame: an unknown dimension counts as one."""
        return math.prod(max(size, 1) for size in self.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Returns whether an array of that shape can be the value of the tensor."""
        return len(shape) == len(self.shape) and all(w in (-1, g) for w, g in zip(self.shape, shape, strict=True))

    def cast(self, value: np.ndarray) -> np.ndarray:
        """Returns an array in the dtype of the tensor; floats may be rounded, integers never wrap around.

        Raises:
            ValueError: The dtype is of another kind, an integer does not fit, or integers of another dtype are meant
                for a quantised tensor, where nobody can tell real from stored values.
        """
        if value.dtype == self.dtype:
            return value
        if self.quantization and self.dtype.kind in "iu":
            raise ValueError(f"is {value.dtype}, the model stores {self.dtype}: give real values as float32")
        if not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise ValueError(f"is {value.dtype}, the model needs {self.dtype}")
        cast = value.astype(self.dtype)
        if self.dtype.kind in "iu" and not np.array_equal(cast, value):
            raise ValueError(f"has values that do not fit {self.dtype}, from {value.min()} to {value.max()}")
        return cast

    def real(self, stored: np.ndarray) -> np.ndarray:
        """Returns the real values of a stored tensor: dequantised when the tensor is quantised, else itself."""
        return self.quantization.dequantize(stored) if self.quantization else stored

    def fed(self, value: np.ndarray) -> np.ndarray:
        """Returns the real values of what an app feeds: stored integers are dequantised, real values are themselves."""
        return self.real(value) if value.dtype == self.dtype else value
