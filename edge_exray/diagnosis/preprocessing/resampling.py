"""Resizing as a product of matrices: the conventions of TensorFlow, Pillow and OpenCV in one formula.

Output pixel i of an axis reads the input around a centre c(i) with weights k((j - c) / width), normalised to sum 1.
Conventions differ in the centre (half-pixel, legacy, aligned corners), in the kernel k, and in whether the kernel
widens with the shrinking (antialias).
"""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Resampler:
    """One way to resize.

    Attributes:
        description: For example `"bilinear"`.
        kernel: `nearest`, `area`, `box`, `bilinear`, `bicubic` (a = -0.5), `bicubic75` (a = -0.75) or `lanczos`.
        antialias: The kernel widens when the picture shrinks.
        centres: `half_pixel`, `legacy` (no half-pixel shift) or `align_corners`.
        code: How it is called; `picture` is the raw picture, `size` height and width.
    """

    description: str
    kernel: str
    antialias: bool
    centres: str
    code: str


def _tf(method: str, antialias: bool = False) -> str:
    return _as_float(f"tf.image.resize(picture, size, '{method}'{', antialias=True' if antialias else ''})", method)


def _tf1(method: str, align: bool = False) -> str:
    option = ", align_corners=True" if align else ""
    return _as_float(f"tf.compat.v1.image.resize(picture, size, '{method}'{option})", method)


def _as_float(call: str, method: str) -> str:
    # TensorFlow leaves bytes as they are where it only picks pixels.
    return f"np.float32({call})" if method == "nearest" else call


def _pil(method: str) -> str:
    return f"np.asarray(Image.fromarray(picture).resize(size[::-1], Image.{method}))"


RESAMPLERS = (
    Resampler("bilinear", "bilinear", False, "half_pixel", _tf("bilinear")),
    Resampler("bilinear with antialias", "bilinear", True, "half_pixel", _tf("bilinear", True)),
    Resampler("bilinear without half-pixel centres", "bilinear", False, "legacy", _tf1("bilinear")),
    Resampler("bilinear with aligned corners", "bilinear", False, "align_corners", _tf1("bilinear", True)),
    Resampler("nearest", "nearest", False, "half_pixel", _tf("nearest")),
    Resampler("nearest without half-pixel centres", "nearest", False, "legacy", _tf1("nearest")),
    Resampler("nearest with aligned corners", "nearest", False, "align_corners", _tf1("nearest", True)),
    Resampler("area", "area", False, "half_pixel", _tf("area")),
    Resampler("bicubic", "bicubic", False, "half_pixel", _tf("bicubic")),
    Resampler("bicubic with antialias", "bicubic", True, "half_pixel", _tf("bicubic", True)),
    Resampler(
        "bicubic of OpenCV",
        "bicubic75",
        False,
        "half_pixel",
        "cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC)",
    ),
    Resampler("bicubic without half-pixel centres", "bicubic75", False, "legacy", _tf1("bicubic")),
    Resampler("Lanczos", "lanczos", True, "half_pixel", _pil("LANCZOS")),
    Resampler("Lanczos without antialias", "lanczos", False, "half_pixel", _tf("lanczos3")),
    Resampler("box", "box", True, "half_pixel", _pil("BOX")),
)


def _cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys' kernel (1981), radius 2."""

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t < 1, near, np.where(t < 2, far, 0.0))

    return kernel


# Kernel to its radius and function.
_KERNELS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "bilinear": (1.0, lambda t: np.maximum(0.0, 1 - np.abs(t))),
    "bicubic": (2.0, _cubic(-0.5)),
    "bicubic75": (2.0, _cubic(-0.75)),
    "lanczos": (3.0, lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0.0)),
    # Half-open, as Pillow has it.
    "box": (0.5, lambda t: ((t > -0.5) & (t <= 0.5)).astype(float)),
}


def weights(
    resampler: Resampler,
    size: int,
    out: int,
    box: tuple[float, float] | None = None,
    limits: tuple[int, int] | None = None,
) -> np.ndarray:
    """Returns the weights of one axis.

    Args:
        resampler: How to resize.
        size: Input pixels.
        out: Output pixels.
        box: First and last input coordinate that the output shows (borders of pixels); all by default.
        limits: The input pixels that may be read, where the picture is cropped before; all by default.

    Returns:
        [out, size] float32; each row sums to 1. What lies outside the picture reads its border.
    """
    low, high = box or (0.0, float(size))
    first, end = limits or (0, size)
    scale = (high - low) / out
    i = np.arange(out)
    if resampler.centres == "align_corners" and out > 1:
        centre = low + i * ((high - low - 1) / (out - 1))
    elif resampler.centres == "legacy":
        centre = low + i * scale
    else:
        centre = low + (i + 0.5) * scale - 0.5
    j = np.arange(size)
    # The sliver keeps a half that rounding put below from falling to the other side.
    if resampler.kernel == "nearest":
        offset = {"half_pixel": 0.5, "legacy": 0.0, "align_corners": 0.5}[resampler.centres]
        picked = np.clip(np.floor(centre + offset + 1e-6).astype(int), first, end - 1)
        return (j[None, :] == picked[:, None]).astype(np.float32)
    # A centre beyond the border reads the border pixel.
    centre = np.clip(centre, first, end - 1) if not resampler.antialias else centre
    if resampler.kernel == "area":
        start, stop = low + i * scale, low + (i + 1) * scale
        overlap = np.minimum(stop[:, None], j + 1.0) - np.maximum(start[:, None], j)
        matrix = np.maximum(overlap, 0.0)
    else:
        _, kernel = _KERNELS[resampler.kernel]
        width = max(1.0, scale) if resampler.antialias else 1.0
        matrix = kernel((j[None, :] - centre[:, None]) / width)
    matrix[:, :first] = 0
    matrix[:, end:] = 0
    total = matrix.sum(1, keepdims=True)
    empty = np.abs(total[:, 0]) < 1e-9
    if empty.any():
        border = np.clip(np.round(centre[empty]).astype(int), first, end - 1)
        matrix[empty] = j[None, :] == border[:, None]
        total[empty] = 1
    return (matrix / total).astype(np.float32)


def resample(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Resizes [h, w, C] with the weights [H, h] of the rows and [W, w] of the columns; returns [H, W, C] float32."""
    _, w, c = picture.shape
    # Few output pixels or a small kernel read few rows: zero weights cost time.
    used = np.flatnonzero(rows.any(0))
    lines = rows[:, used] @ np.ascontiguousarray(picture[used], np.float32).reshape(len(used), w * c)
    used = np.flatnonzero(columns.any(0))
    narrow = lines.reshape(len(rows), w, c)[:, used].transpose(0, 2, 1).reshape(len(rows) * c, len(used))
    return np.ascontiguousarray((narrow @ columns[:, used].T).reshape(len(rows), c, len(columns)).transpose(0, 2, 1))
