"""The raw picture in an example, from which both sides made the input."""

import math
from collections.abc import Mapping

import numpy as np

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")
_SMALLEST = 8


def find(source: Mapping[str, np.ndarray], input_shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the picture of an example as [height, width, 1 or 3] float32 pixels in 0..255, or None.

    Args:
        source: Feature name to array: a JPEG, PNG, GIF or BMP file, or the pixels themselves, flat or not; the sides
            of flat ones come from features whose names tell height and width, else from the input.
        input_shape: Height, width and channels of the input.
    """
    for value in source.values():
        picture = _decoded(value) if value.dtype.kind in "OS" else None
        if picture is None and value.dtype.kind in "fiu":
            picture = _shaped(value, source, input_shape)
        if picture is not None:
            return _as_pixels(picture)
    return None


def _decoded(value: np.ndarray) -> np.ndarray | None:
    if value.size != 1:
        return None
    content = value.ravel()[0]
    if not isinstance(content, bytes) or not content.startswith(_MAGIC):
        return None
    import tensorflow as tf

    try:
        return tf.io.decode_image(content, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:  # the start of a picture, and nothing more
        return None


def _shaped(value: np.ndarray, source: Mapping[str, np.ndarray], input_shape: tuple[int, ...]) -> np.ndarray | None:
    squeezed = value[0] if value.ndim == 4 and len(value) == 1 else value
    if squeezed.ndim == 3:
        if squeezed.shape[-1] in (1, 3, 4) and min(squeezed.shape[:2]) >= _SMALLEST:
            return squeezed
        return None
    if squeezed.ndim == 2 and min(squeezed.shape) >= _SMALLEST:
        return squeezed[..., None]
    if squeezed.ndim != 1 or squeezed.size < _SMALLEST**2:
        return None
    sides = [_number(source, word) for word in ("height", "width")]
    for shape in (sides if all(sides) else None, input_shape[:2], None):
        for channels in (3, 1, 4):
            if shape is None:
                side = math.isqrt(squeezed.size // channels)
                shape_here = (side, side)
            else:
                shape_here = (shape[0], shape[1])  # type: ignore[assignment]
            if min(shape_here) >= _SMALLEST and math.prod(shape_here) * channels == squeezed.size:
                return squeezed.reshape(*shape_here, channels)
    return None


def _number(source: Mapping[str, np.ndarray], word: str) -> int | None:
    for name, value in source.items():
        if word in name.lower() and value.size == 1 and value.dtype.kind in "iu":
            return int(value.ravel()[0])
    return None


def _as_pixels(picture: np.ndarray) -> np.ndarray:
    pixels = picture[..., :3].astype(np.float32)
    if picture.dtype.kind == "f" and pixels.max() <= 1.0:
        # Fractions of white, or around zero: the scale is fitted, the ends matter to nothing but gamma.
        return pixels * 255 if pixels.min() >= 0 else (pixels + 1) * 127.5
    return pixels
