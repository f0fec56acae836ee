import base64

import numpy as np
import pytest
import tensorflow as tf

from edge_exray.diagnosis import pictures


def pixels(uri: str) -> np.ndarray:
    return tf.io.decode_png(base64.b64decode(uri.removeprefix("data:image/png;base64,"))).numpy()


def test_values_become_levels_between_black_and_white():
    value = np.zeros((1, 8, 8, 3), np.float32)
    value[0, 0, :5, 0] = -1, 1, 0, 300, np.nan
    shown = pixels(pictures.picture(value, -1, 1))
    assert shown.shape == (8, 8, 3)
    assert shown[0, :5, 0].tolist() == [0, 255, 128, 255, 0]


def test_large_pictures_shrink_and_keep_their_proportions():
    value = np.ones((1, 400, 200, 1), np.float32)
    shown = pixels(pictures.picture(value, 0, 1))
    assert shown.shape == (pictures.MAX_SIDE, pictures.MAX_SIDE // 2, 1)
    assert (shown == 255).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((1, 16, 16, 3), np.float32, True),
        ((1, 16, 16, 1), np.uint8, True),
        ((1, 16, 16, 32), np.float32, False),
        ((1, 4, 4, 3), np.float32, False),
        ((1, 40), np.float32, False),
        ((1, 16, 16, 3), object, False),
    ],
)
def test_only_images_are_images(shape, dtype, image):
    assert pictures.is_image(np.zeros(shape, dtype)) is image
