"""The usual ways to write the pixels 0..255 of an image into a tensor, and what a map between two of them is called."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing.hypothesis import Change

# Name to the map from 0..255: scale and offset.
CONVENTIONS = {
    "[0, 255]": (1.0, 0.0),
    "[0, 1]": (1 / 255, 0.0),
    "[-1, 1]": (1 / 127.5, -1.0),
    "[-128, 127]": (1.0, -128.0),
    "[-0.5, 0.5]": (1 / 255, -0.5),
}

# Near misses of the above, that have the same range at sight.
_NEAR_MISSES = {
    "pixels / 256": (1 / 256, 0.0),
    "pixels / 128 - 1": (1 / 128, -1.0),
    "(pixels - 127.5) / 128": (1 / 128, -127.5 / 128),
}

# Name to mean and standard deviation of each channel, of pixels in 0..255. torchvision's and Keras' figures.
_NORMALISATIONS = {
    "ImageNet mean/std": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "ImageNet means in 0..255": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
}

# ITU-R BT.601 and BT.709: black is 16 and white 235.
LIMITED = (219 / 255, 16.0)

_SAME = 1e-3
_NAMED = 2.5e-3


@dataclasses.dataclass(frozen=True)
class Convention:
    """How pixels became the values of a tensor: `value = scale * pixel + offset`, pixels in 0..255.

    Attributes:
        name: What it is called; empty where it has no name.
        scale, offset: [C].
    """

    name: str
    scale: np.ndarray
    offset: np.ndarray

    def to_pixels(self, values: np.ndarray) -> np.ndarray:
        """Returns [..., C] values as pixels, float32."""
        return ((values - self.offset) / self.scale).astype(np.float32)

    def around(self, expression: str) -> str:
        """Turns an expression of the pixels `x` into one of the values `x`."""
        inner = "x"
        if np.any(self.offset):
            inner = f"({inner}{signed_literal(-self.offset)})"
        if np.any(self.scale != 1):
            inner = f"({inner} * {literal(1 / self.scale)})"
        code = substitute(expression, inner)
        if inner == "x":
            return code
        return self.write(f"({code})")

    def write(self, pixels: str) -> str:
        """Returns the expression that writes an expression of pixels into the tensor."""
        scale = f" / {literal(1 / self.scale)}" if np.any(self.scale != 1) else ""
        return f"{pixels}{scale}{signed_literal(self.offset)}"


def substitute(expression: str, inner: str) -> str:
    """Puts `inner` in the place of each `x` of an expression."""
    return inner.join(re.split(r"\bx\b", expression))


def detect(values: np.ndarray) -> Convention:
    """Guesses the convention of [..., C] reference values: the tightest that holds them.

    Values on the lattice of whole pixels decide; others, as float resizing leaves, are judged by their range.
    """
    channels = values.shape[-1]
    flat = values.reshape(-1, channels)
    flat = flat[:: max(1, len(flat) // 20000)].astype(np.float64)
    low, high = flat.min(0), flat.max(0)
    fitting = []
    for known in _known(channels):
        black, white = known.offset, 255 * known.scale + known.offset
        slack = 0.01 * (white - black)
        if np.any(low < black - slack) or np.any(high > white + slack):
            continue
        pixels = (flat - known.offset) / known.scale
        on_lattice = float(np.abs(pixels - np.round(pixels)).mean()) < 0.02
        used = float(np.mean((high - low) / (white - black)))
        fitting.append((on_lattice and used > 0.05, used, known))
    if fitting:
        return max(fitting, key=lambda item: item[:2])[2]
    span = max(1e-12, float(high.max() - low.min()))
    return Convention("", np.full(channels, span / 255), np.full(channels, float(low.min())))


def nearest(scale: np.ndarray, offset: np.ndarray) -> Convention:
    """Returns the known convention that a fitted map from pixels means, or the map itself without a name."""
    best = min(_known(len(scale)), key=lambda known: _distance(scale, offset, known.scale, known.offset))
    if _distance(scale, offset, best.scale, best.offset) < _NAMED:
        return best
    return Convention("", scale, offset)


def range_changes(
    scale: np.ndarray, offset: np.ndarray, reference_range: Sequence[float], tolerance: float = _SAME
) -> list[Change]:
    """Names the map `x -> scale * x + offset` from the reference's values to the app's, [C] each.

    Args:
        scale, offset: The map.
        reference_range: Smallest and largest reference value.
        tolerance: Smaller deviations, as shares of the range, are none.

    Returns:
        A change of kind `value_range`, one of kind `yuv_range`, both, or none.
    """
    span = max(1e-12, reference_range[1] - reference_range[0])
    if not np.any(np.abs(scale - 1) > tolerance) and not np.any(np.abs(offset) > tolerance * span):
        return []
    code = f"x{_factor(scale)}{_summand(scale, offset)}"
    uniform = is_uniform(scale, offset, span, tolerance)
    if uniform:
        scale, offset = np.full_like(scale, scale.mean()), np.full_like(offset, offset.mean())
    found = _between_conventions(scale, offset, reference_range, max(_NAMED, tolerance))
    if found is not None:
        have, want, limited = found
        named = [Change("yuv_range", _LIMITED_WORDS[limited], code)] if limited else []
        if have.name != want.name:
            start = "wrong scale" if uniform else "another normalisation of each channel"
            words = f"{start}: {want.name} instead of {have.name}"
            # One expression does both: it stands with the last.
            named = [dataclasses.replace(change, code="x") for change in named]
            named.append(Change("value_range", words, code))
        return named
    if not uniform:
        words = (
            f"another normalisation of each channel: scale {np.round(scale, 5).tolist()}, "
            f"offset {np.round(offset, 5).tolist()}"
        )
        return [Change("value_range", words, code)]
    a, b = float(scale[0]), float(offset[0])
    scaled, shifted = abs(a - 1) > tolerance, abs(b) > tolerance * span
    if not scaled and not shifted:
        return []
    what = " and ".join(kind for kind, on in (("scale", scaled), ("offset", shifted)) if on)
    term = f"{a:.5g} * x" if scaled else "x"
    if shifted:
        term += f" {'-' if b < 0 else '+'} {abs(b):.5g}"
    return [Change("value_range", f"wrong {what}: {term}", code)]


def map_changes(
    permutation: Sequence[int],
    scale: np.ndarray,
    offset: np.ndarray,
    reference_range: Sequence[float],
    tolerance: float = _SAME,
) -> list[Change]:
    """Names a permutation of the channels with the affine map of each; the arguments are those of `range_changes`.

    Where channels have maps of their own, an app that permutes before it normalises is wrong in the order only.
    """
    order = channel_changes(permutation)
    rest = range_changes(scale, offset, reference_range, tolerance)
    if not order or not rest:
        return order + rest
    for have in _known(len(scale)):
        between = have.scale / have.scale[list(permutation)]
        shift = have.offset - between * have.offset[list(permutation)]
        span = reference_range[1] - reference_range[0]
        same = np.abs(scale - between).max() < 3 * tolerance and np.abs(offset - shift).max() < 3 * tolerance * span
        if np.ptp(have.scale) and _plausible(have, reference_range) and same:
            return [dataclasses.replace(order[0], code=have.around(order[0].code))]
    return order + rest


def channel_changes(permutation: Sequence[int]) -> list[Change]:
    """Names an order of channels; nothing for the given one."""
    order = list(permutation)
    if order == sorted(order):
        return []
    if order == [2, 1, 0]:
        return [Change("channel_order", "reversed channels (BGR instead of RGB)", "x[..., ::-1]")]
    code = "x[..., ::-1]" if order == sorted(order, reverse=True) else f"x[..., {order}]"
    return [Change("channel_order", f"channels in the order {order}", code)]


def is_uniform(scale: np.ndarray, offset: np.ndarray, span: float, tolerance: float = _SAME) -> bool:
    """Returns whether all channels have one map."""
    tolerance = max(5e-3, tolerance) * max(1e-12, np.abs(scale).max())
    return bool(np.ptp(scale) <= tolerance and np.ptp(offset) <= max(tolerance * span, 1e-12))


def literal(values: np.ndarray) -> str:
    """Writes [C] numbers as code: one where all are the same."""
    if np.ptp(values) <= 5e-3 * np.abs(values).max():
        return f"{values.mean():.6g}"
    return f"np.array({[float(f'{v:.6g}') for v in values]})"


def signed_literal(values: np.ndarray) -> str:
    """Writes [C] numbers as a summand; empty for zeros."""
    if not np.any(values):
        return ""
    # One sign for all channels reads better in front of the numbers.
    return f" - {literal(-values)}" if np.all(values < 0) else f" + {literal(values)}"


_LIMITED_WORDS = {
    "to": "full-range pixels written as limited range (16..235), or limited range taken for full",
    "from": "full-range pixels expanded as if they were limited range (16..235)",
}


def _factor(scale: np.ndarray) -> str:
    return "" if np.allclose(scale, 1, atol=1e-3) else f" * {literal(scale)}"


def _summand(scale: np.ndarray, offset: np.ndarray) -> str:
    return "" if np.allclose(offset, 0, atol=1e-6 * max(1.0, np.abs(scale).max())) else signed_literal(offset)


def _known(channels: int, near_misses: bool = False) -> list[Convention]:
    uniform = CONVENTIONS | (_NEAR_MISSES if near_misses else {})
    found = [Convention(n, np.full(channels, a), np.full(channels, b)) for n, (a, b) in uniform.items()]
    if channels == 3:
        for name, (mean, deviation) in _NORMALISATIONS.items():
            for label, order in (("", slice(None)), (" in BGR order", slice(None, None, -1))):
                m, d = np.array(mean)[order], np.array(deviation)[order]
                found.append(Convention(name + label, 1 / d, -m / d))
    return found


def _distance(scale: np.ndarray, offset: np.ndarray, want_scale: np.ndarray, want_offset: np.ndarray) -> float:
    """Largest difference of two maps from pixels over 0..255, as a share of the range."""
    black = np.abs(offset - want_offset)
    white = np.abs(255 * (scale - want_scale) + offset - want_offset)
    return float(np.max(np.maximum(black, white) / (255 * np.abs(want_scale))))


def _between_conventions(
    scale: np.ndarray, offset: np.ndarray, reference_range: Sequence[float], tolerance: float
) -> tuple[Convention, Convention, str] | None:
    """Returns the two conventions between which the map leads, and whether through limited range; the closest ones."""
    best, found = tolerance, None
    a, b = LIMITED
    through = {"": (1.0, 0.0), "to": (a, b), "from": (1 / a, -b / a)}
    for have in _known(len(scale)):
        if not _plausible(have, reference_range):
            continue
        edge_scale, edge_offset = scale * have.scale, scale * have.offset + offset
        for want in _known(len(scale), near_misses=True):
            for limited, (factor, shift) in through.items():
                if have.name == want.name and not limited:
                    continue
                far = _distance(edge_scale, edge_offset, want.scale * factor, want.scale * shift + want.offset)
                # Of equally good names the plainer one.
                if far < best - 1e-4:
                    best, found = far, (have, want, limited)
    return found


def _plausible(convention: Convention, span: Sequence[float]) -> bool:
    """True when values of this range may follow a convention: within it, and using more than a quarter of it."""
    low, high = convention.offset.min(), (255 * convention.scale + convention.offset).max()
    slack = 0.01 * (high - low)
    return bool(low - slack <= span[0] and span[1] <= high + slack and span[1] - span[0] > (high - low) / 4)
