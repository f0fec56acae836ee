import numpy as np
import PIL.Image
import pytest
import skimage.data
import tensorflow as tf

from edge_exray.diagnosis.preprocessing.resampling import RESAMPLERS, resample, weights

# Odd sides: no centre falls between two pixels, where rounding decides which one is nearest.
PICTURE = skimage.data.coffee()[50:151, 100:231]
BY_WORDS = {resampler.description: resampler for resampler in RESAMPLERS}


def resized(words, size):
    resampler = BY_WORDS[words]
    rows, columns = (weights(resampler, n, out) for n, out in zip(PICTURE.shape[:2], size, strict=True))
    return resample(PICTURE, rows, columns)


def tensorflow(method, **options):
    return lambda size: tf.image.resize(PICTURE, size, method, **options).numpy()


def tensorflow_1(method, **options):
    picture = PICTURE[None].astype(np.float32)
    return lambda size: tf.compat.v1.image.resize(picture, size, method, **options).numpy()[0]


def pillow(method):
    def golden(size):
        channels = [PIL.Image.fromarray(PICTURE[..., c].astype(np.float32)) for c in range(3)]
        return np.stack([np.asarray(channel.resize(size[::-1], method)) for channel in channels], -1)

    return golden


@pytest.mark.parametrize("size", [(48, 48), (96, 60), (150, 192)], ids=["smaller", "near", "larger"])
@pytest.mark.parametrize(
    ("words", "golden"),
    [
        ("bilinear", tensorflow("bilinear")),
        ("bilinear with antialias", tensorflow("bilinear", antialias=True)),
        ("bilinear with antialias", pillow(PIL.Image.Resampling.BILINEAR)),
        ("bilinear without half-pixel centres", tensorflow_1("bilinear")),
        ("bilinear with aligned corners", tensorflow_1("bilinear", align_corners=True)),
        ("nearest", tensorflow("nearest")),
        ("nearest", pillow(PIL.Image.Resampling.NEAREST)),
        ("nearest without half-pixel centres", tensorflow_1("nearest")),
        ("nearest with aligned corners", tensorflow_1("nearest", align_corners=True)),
        ("area", tensorflow("area")),
        ("bicubic", tensorflow("bicubic")),
        ("bicubic with antialias", pillow(PIL.Image.Resampling.BICUBIC)),
        ("Lanczos", pillow(PIL.Image.Resampling.LANCZOS)),
        ("Lanczos without antialias", tensorflow("lanczos3")),
        ("box", pillow(PIL.Image.Resampling.BOX)),
    ],
)
def test_resizing_is_what_the_libraries_do(words, golden, size):
    found, expected = resized(words, size), golden(size)
    assert found.shape == expected.shape
    # Bicubic kernels differ in how they continue the picture beyond its border.
    inner = np.s_[3:-3, 3:-3] if "bicubic" in words else np.s_[:]
    assert np.abs(found - expected)[inner].mean() < 0.05
    assert np.quantile(np.abs(found - expected)[inner], 0.99) < 1


@pytest.mark.parametrize("resampler", RESAMPLERS, ids=lambda resampler: resampler.description)
def test_weights_sum_to_one(resampler):
    for size, out in ((100, 37), (37, 100), (50, 50)):
        np.testing.assert_allclose(weights(resampler, size, out).sum(1), 1, rtol=1e-5)


def test_a_picture_of_the_right_size_stays():
    for resampler in RESAMPLERS:
        np.testing.assert_allclose(weights(resampler, 20, 20), np.eye(20), atol=1e-6)
