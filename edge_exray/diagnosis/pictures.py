"""Inputs of a model as small pictures."""

import base64

import numpy as np

MAX_SIDE = 128
"""Longest side of a picture in pixels; a report holds a few of them as text."""
_MIN_SIDE = 8


def is_image(value: np.ndarray) -> bool:
    """Returns whether an input looks like an image: [1, height, width, 1, 3 or 4 channels], numbers."""
    return (
        value.ndim == 4
        and min(value.shape[1:3]) >= _MIN_SIDE
        and value.shape[3] in (1, 3, 4)
        and value.dtype.kind in "fiu"
    )


def picture(value: np.ndarray, black: float, white: float) -> str:
    """Makes a PNG of an input.

    Args:
        value: What `is_image` accepts.
        black, white: The values that become the darkest and the brightest pixel; what is beyond is clipped, NaN black.

    Returns:
        A data URI.
    """
    import tensorflow as tf

    image = np.asarray(value[0], np.float32)
    shrunk = min(1.0, MAX_SIDE / max(image.shape[:2]))
    if shrunk < 1:
        size = [max(1, round(side * shrunk)) for side in image.shape[:2]]
        image = tf.image.resize(image, size, method="area").numpy()
    levels = np.nan_to_num((image - black) / ((white - black) or 1.0))
    png = tf.io.encode_png(np.round(255 * np.clip(levels, 0, 1)).astype(np.uint8)).numpy()
    return "data:image/png;base64," + base64.b64encode(png).decode()
