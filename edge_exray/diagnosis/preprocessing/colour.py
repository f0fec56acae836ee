"""What an app may do to the colours of pixels: functions of pixels in 0..255, with the line of NumPy that does it."""

import dataclasses
from collections.abc import Callable

import numpy as np

from edge_exray.diagnosis.preprocessing.channel_fit import ChannelFit
from edge_exray.diagnosis.preprocessing.value_ranges import LIMITED

Pixels = np.ndarray
"""[n, height, width, C] float32 in 0..255."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """A function of pixels.

    Attributes:
        kind, description: See `edge_exray.diagnosis.preprocessing.hypothesis.Change`.
        expression: The same as NumPy expression of pixels `x`.
        apply: The function.
        whole: It needs whole images, not single pixels.
    """

    kind: str
    description: str
    expression: str
    apply: Callable[[Pixels], Pixels]
    whole: bool = False


def _luma(red: float, blue: float) -> np.ndarray:
    return np.array([red, 1 - red - blue, blue])


# Name to the luma weights: ITU-R BT.601 and BT.709.
_LUMA = {"BT.601": _luma(0.299, 0.114), "BT.709": _luma(0.2126, 0.0722)}


def operations(channels: int) -> list[Operation]:
    """Returns the operations that need no fit, for images of 1, 3 or 4 channels."""
    found = [
        Operation("gamma", "gamma removed (linear light instead of sRGB)", _TO_LINEAR, _srgb_to_linear),
        Operation("gamma", "gamma applied twice (sRGB)", _TO_SRGB, _linear_to_srgb),
        power(2.2),
        power(1 / 2.2),
        Operation(
            "wrap",
            "uint8 pixels read as int8, which wraps around at 128",
            "np.where(x < 128, x, x - 256)",
            lambda p: np.where(np.round(p) < 128, p, p - 256),
        ),
    ]
    return found + (_of_colours() if channels == 3 else [])


def power(exponent: float) -> Operation:
    """Returns the gamma curve with this exponent."""
    if exponent > 1:
        words = f"gamma removed (to the power {exponent:.3g})"
    else:
        words = f"gamma applied twice (to the power 1/{1 / exponent:.3g})"
    return Operation(
        "gamma",
        words,
        f"255 * (x / 255) ** {exponent:.4g}",
        lambda p: (255 * (np.clip(p, 0, None) / 255) ** exponent).astype(np.float32),
    )


def fitted(pixels: Pixels, edge: np.ndarray, fit: ChannelFit) -> list[Operation]:
    """Returns the operations whose constants follow from the values.

    Args:
        pixels: [n, height, width, C].
        edge: The app's values for them, written as the reference's: one scale for all channels.
        fit: The best permutation and affine maps between the two.
    """
    matched = pixels[..., fit.permutation]
    found = []
    clip = _clipped(matched, edge)
    if clip:
        found.append(clip)
    wrapped = _wrapped(matched, edge)
    if wrapped:
        found.append(wrapped)
    return found


def jpeg(quality: int) -> Operation:
    """Returns a recompression."""

    def apply(pixels: Pixels) -> Pixels:
        import tensorflow as tf

        def once(image: np.ndarray) -> np.ndarray:
            stored = tf.io.encode_jpeg(np.round(np.clip(image, 0, 255)).astype(np.uint8), quality=quality)
            return tf.io.decode_jpeg(stored, dct_method="INTEGER_ACCURATE").numpy()

        return np.stack([once(image) for image in pixels]).astype(np.float32)

    return Operation(
        "jpeg",
        f"JPEG recompression of quality {quality}",
        f"np.float32(tf.io.decode_jpeg(tf.io.encode_jpeg(np.uint8(np.round(x)), quality={quality}), "
        "dct_method='INTEGER_ACCURATE'))",
        apply,
        whole=True,
    )


def _srgb_to_linear(p: Pixels) -> Pixels:
    u = np.clip(p, 0, None) / 255
    return (255 * np.where(u <= 0.04045, u / 12.92, ((u + 0.055) / 1.055) ** 2.4)).astype(np.float32)


def _linear_to_srgb(p: Pixels) -> Pixels:
    u = np.clip(p, 0, None) / 255
    return (255 * np.where(u <= 0.0031308, 12.92 * u, 1.055 * u ** (1 / 2.4) - 0.055)).astype(np.float32)


_TO_LINEAR = "255 * np.where(x <= 10.3, x / 3294.6, ((x / 255 + 0.055) / 1.055) ** 2.4)"
_TO_SRGB = "255 * np.where(x <= 0.798, x / 255 * 12.92, 1.055 * (x / 255) ** (1 / 2.4) - 0.055)"


def _of_colours() -> list[Operation]:
    found = [_grey(f"grey instead of colour ({name} weights)", luma) for name, luma in _LUMA.items()]
    found.append(_grey("grey instead of colour (mean of the channels)", np.full(3, 1 / 3)))
    found += [
        _grey(f"the {name} channel instead of colour", np.eye(3)[i]) for i, name in enumerate(("red", "green", "blue"))
    ]
    to_yuv = {name: _to_yuv(luma) for name, luma in _LUMA.items()}
    for stored, read in (("BT.601", "BT.709"), ("BT.709", "BT.601")):
        matrix = np.linalg.inv(to_yuv[read]) @ to_yuv[stored]
        words = f"YUV of {stored} decoded with the matrix of {read}"
        found.append(_linear("yuv_matrix", words, matrix, np.zeros(3)))
    for name, matrix in to_yuv.items():
        # White is grey: only the chroma leaves it, by its own factor.
        scales = np.array([LIMITED[0], 224 / 255, 224 / 255])
        for words, scale, black in (
            ("limited-range YUV taken for full range", scales, LIMITED[1]),
            ("full-range YUV decoded as limited range", 1 / scales, -LIMITED[1] / LIMITED[0]),
        ):
            back = np.linalg.inv(matrix) @ np.diag(scale) @ matrix
            found.append(_linear("yuv_range", f"{words} ({name})", back, np.full(3, black)))
        found.append(
            _linear("colour_space", f"YUV ({name}) fed in the place of RGB", matrix, np.array([0.0, 128, 128]))
        )
        limited = _linear(
            "colour_space",
            f"limited-range YUV ({name}) fed in the place of RGB",
            np.diag(scales) @ matrix,
            np.array([16.0, 128, 128]),
        )
        found.append(limited)
    return found


def _to_yuv(luma: np.ndarray) -> np.ndarray:
    """Returns the full-range matrix of RGB to Y, Cb and Cr without their offset of 128."""
    blue, red = np.eye(3)[2], np.eye(3)[0]
    return np.stack([luma, (blue - luma) / (2 * (1 - luma[2])), (red - luma) / (2 * (1 - luma[0]))])


def _grey(words: str, luma: np.ndarray) -> Operation:
    numbers = [round(float(v), 4) for v in luma]
    return Operation(
        "grey",
        words,
        f"np.stack([x @ np.array({numbers})] * 3, -1)",
        lambda p: np.repeat((p @ luma.astype(np.float32))[..., None], 3, -1),
    )


def _linear(kind: str, words: str, matrix: np.ndarray, offset: np.ndarray) -> Operation:
    numbers = np.round(matrix, 4).tolist()
    shift = f" + np.array({np.round(offset, 4).tolist()})" if np.any(offset) else ""
    return Operation(
        kind,
        words,
        f"np.clip(x @ np.array({numbers}).T{shift}, 0, 255)",
        lambda p: np.clip(p @ matrix.T.astype(np.float32) + offset.astype(np.float32), 0, 255),
    )


# Less than this share of pixels at one end is no clipping.
_CLIPPED = 2e-3


def _clipped(pixels: Pixels, edge: np.ndarray) -> Operation | None:
    """Finds brightness or contrast that ran into the ends of the range: the same ends for all channels."""
    p, e = pixels.reshape(-1).astype(np.float64), edge.reshape(-1).astype(np.float64)
    span = np.ptp(e)
    if not span:
        return None
    low, high = e.min(), e.max()
    margin = 2e-3 * span
    at_low, at_high = e <= low + margin, e >= high - margin
    if at_low.mean() + at_high.mean() < _CLIPPED:
        return None
    between = ~(at_low | at_high)
    if between.sum() < 100 or not np.ptp(p[between]):
        return None
    slope, shift = np.polyfit(p[between], e[between], 1)
    if slope <= 0:
        return None
    darkest, brightest = (low - shift) / slope, (high - shift) / slope
    ends = max(0.0, float(darkest)), min(255.0, float(brightest))
    if (ends[0] < 1 and ends[1] > 254) or ends[0] >= ends[1]:
        return None
    return Operation(
        "value_range",
        f"brightness or contrast that clips pixels beyond [{ends[0]:.4g}, {ends[1]:.4g}]",
        f"np.clip(x, {ends[0]:.4g}, {ends[1]:.4g})",
        lambda q: np.clip(q, *ends),
    )


def _wrapped(pixels: Pixels, edge: np.ndarray) -> Operation | None:
    """Finds arithmetic modulo 256: a straight tone curve that falls back by 256 levels somewhere."""
    levels = np.clip(np.round(pixels), 0, 255).astype(int).reshape(-1)
    values = edge.reshape(-1).astype(np.float64)
    counts = np.bincount(levels, minlength=256)
    if np.count_nonzero(counts) < 32:
        return None
    known = np.flatnonzero(counts >= 5)
    curve = np.bincount(levels, values, 256)[known] / counts[known]
    steps = np.diff(curve) / np.diff(known)
    slope = np.median(steps)
    falls = np.diff(curve) - slope * np.diff(known)
    at = int(np.argmin(falls))
    if slope <= 0 or falls[at] > -0.4 * np.ptp(values):
        return None
    unit = -falls[at] / 256
    gain = slope / unit
    gain = round(gain) if abs(gain - round(gain)) < 0.03 and round(gain) else gain
    edge_level = (known[at] + known[at + 1]) / 2
    shift = -(gain * edge_level) % 256
    # The fall is at 256 exactly where gain and shift are whole, as in integer arithmetic.
    if gain == round(gain):
        shift = float(np.ceil(shift - gain / 2 + 1e-9)) % 256 if gain > 1 else float(round(shift - 0.5)) % 256
    return Operation(
        "wrap",
        f"8-bit arithmetic that wraps around: ({gain:.4g} * pixel + {shift:.4g}) modulo 256",
        f"(np.round(x) * {gain:.4g} + {shift:.4g}) % 256",
        lambda q: ((np.round(q) * gain + shift) % 256).astype(np.float32),
    )
