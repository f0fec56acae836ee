import dataclasses
import io

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import skimage.color
import skimage.data
import tensorflow as tf

from edge_exray.diagnosis.preprocessing.diagnosis import diagnose
from edge_exray.diagnosis.preprocessing.hypothesis import Pair
from edge_exray.diagnosis.preprocessing.search import search
from edge_exray.drift.channels import ChannelStatistics

SIZE = 64
PHOTOGRAPHS = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
PICTURES = [p[y : y + 130, x : x + 170] for p in PHOTOGRAPHS for y, x in ((20, 60), (120, 200))]


def resized(picture, method=PIL.Image.Resampling.BILINEAR):
    return np.asarray(PIL.Image.fromarray(picture).resize((SIZE, SIZE), method), np.float64)


def normalised(pixels):
    return pixels / 127.5 - 1


def right(picture):
    return normalised(resized(picture))


def encoded(picture):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "PNG")
    return np.array([file.getvalue()], object)


def compressed(picture, quality):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def pairs_of(app, reference=right, source=True):
    found = []
    for picture in PICTURES:
        example = {"label": np.array([3]), "image/encoded": encoded(picture)} if source else {}
        sides = (np.asarray(side(picture), np.float32) for side in (reference, app))
        found.append(Pair(*sides, example))
    return found


def best(app, **kwargs):
    found = search(pairs_of(app, **kwargs))
    assert found
    assert found[0].explains
    return found[0]


def as_bytes(picture):
    return resized(picture).astype(np.uint8)


def through_ycbcr(picture):
    return np.asarray(PIL.Image.fromarray(as_bytes(picture)).convert("YCbCr"), np.float64)


def bt709_of_bt601(picture):
    y, cb, cr = np.moveaxis(through_ycbcr(picture) - [0, 128, 128], -1, 0)
    return np.clip(np.stack([y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb], -1), 0, 255)


def limited_as_full(picture):
    limited = np.clip(np.round(skimage.color.rgb2ycbcr(as_bytes(picture))), 0, 255).astype(np.uint8)
    return np.asarray(PIL.Image.fromarray(limited, "YCbCr").convert("RGB"), np.float64)


def centre(picture):
    return picture[:, (picture.shape[1] - picture.shape[0]) // 2 :][:, : picture.shape[0]]


@pytest.mark.parametrize(
    ("app", "kinds", "words"),
    [
        (lambda p: right(p)[..., [1, 2, 0]], ["channel_order"], "channels in the order [1, 2, 0]"),
        (lambda p: resized(p) / 255, ["value_range"], "[0, 1] instead of [-1, 1]"),
        (lambda p: resized(p) / 128 - 1, ["value_range"], "pixels / 128 - 1 instead of [-1, 1]"),
        (
            lambda p: (resized(p) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
            ["value_range"],
            "ImageNet mean/std instead of [-1, 1]",
        ),
        (lambda p: np.rot90(right(p)), ["rotation"], "90 degrees counter-clockwise"),
        (lambda p: right(p)[:, ::-1], ["flip"], "left to right"),
        (lambda p: right(p).transpose(1, 0, 2), ["transposed_axes"], "height and width"),
        (lambda p: right(p).transpose(2, 0, 1).reshape(SIZE, SIZE, 3), ["layout"], "NCHW"),
        (lambda p: normalised(255 * (resized(p) / 255) ** 2.2), ["gamma"], "2.2"),
        (lambda p: normalised(255 * (resized(p) / 255) ** 1.5), ["gamma"], "1.5"),
        (lambda p: normalised(bt709_of_bt601(p)), ["yuv_matrix"], "BT.601 decoded with the matrix of BT.709"),
        (lambda p: normalised(limited_as_full(p)), ["yuv_range"], "limited"),
        (lambda p: right(p) @ np.full((3, 3), 1 / 3), ["grey"], "mean"),
        (lambda p: normalised(as_bytes(p).astype(np.int8)), ["wrap"], "int8"),
        (lambda p: normalised(as_bytes(p) + np.uint8(40)), ["wrap"], "40"),
        (lambda p: normalised(compressed(as_bytes(p), 70)), ["jpeg"], "quality 70"),
        (lambda p: normalised(resized(compressed(p, 55))), ["jpeg"], "quality 55"),
        (
            lambda p: normalised(resized(p, PIL.Image.Resampling.NEAREST)),
            ["resize"],
            "with nearest instead of bilinear",
        ),
        (lambda p: normalised(resized(centre(p))), ["crop"], "central crop"),
        (lambda p: normalised(resized(p[1:])), ["crop"], "without the first row"),
        (
            lambda p: normalised(resized(centre(p), PIL.Image.Resampling.NEAREST))[..., ::-1],
            ["crop", "resize", "channel_order"],
            "BGR",
        ),
        (lambda p: np.rot90(255 * (resized(p) / 255) ** 2.2), ["gamma", "value_range", "rotation"], "[0, 255]"),
    ],
)
def test_what_an_app_does_to_an_image_is_named(app, kinds, words):
    found = best(app)
    assert found.kinds == kinds
    assert words in found.description


@pytest.mark.parametrize(
    "app",
    [
        lambda p: right(p)[..., ::-1],
        lambda p: resized(p),
        lambda p: np.rot90(right(p), -1)[..., [2, 0, 1]],
        lambda p: right(p).transpose(2, 0, 1).reshape(SIZE, SIZE, 3),
        lambda p: 2 * (resized(p) / 255) ** 2.2 - 1,
        lambda p: normalised(compressed(as_bytes(p), 70)),
        lambda p: np.repeat(tf.image.rgb_to_grayscale(right(p)).numpy(), 3, -1),
        lambda p: normalised(np.asarray(tf.image.resize(p, (SIZE, SIZE), "nearest"))),
    ],
)
def test_the_code_does_what_the_app_does(app):
    code = best(app).code
    for picture in PICTURES[:2]:
        names = {"np": np, "tf": tf, "x": right(picture), "picture": picture, "size": (SIZE, SIZE)}
        # Decoders of JPEG round differently, by a few levels at few pixels.
        assert np.abs(np.asarray(eval(code, names)) - app(picture)).mean() < 2e-3 * np.ptp(app(picture))


@pytest.mark.parametrize(
    "twin",
    [
        right,
        lambda p: right(p) * (1 + 1e-6),
        lambda p: normalised(np.asarray(tf.image.resize(p, (SIZE, SIZE), antialias=True))),
        lambda p: np.round(right(p) / 0.00785) * 0.00785,
    ],
)
def test_inputs_that_agree_up_to_rounding_are_left_in_peace(twin):
    assert search(pairs_of(twin)) == []


def test_steps_far_below_a_pixel_s_are_no_steps():
    with np.errstate(all="raise"):
        found = search(pairs_of(lambda picture: resized(picture) / 255, reference=resized))
    assert [change.kind for change in found[0].changes] == ["value_range"]


@pytest.mark.parametrize("cut", [np.floor, np.trunc])
def test_truncation_at_the_quantised_input_is_named(cut):
    def smooth(picture):
        return tf.image.resize(picture, (SIZE, SIZE)).numpy() / 127.5 - 1

    def app(picture):
        return (cut(smooth(picture) / 0.007843 - 0.5) + 0.5) * 0.007843

    assert best(app, reference=smooth).kinds == ["truncation"]
    assert search(pairs_of(lambda p: np.round(smooth(p) / 0.007843) * 0.007843, reference=smooth)) == []


def test_without_the_picture_kernel_and_crop_are_told_in_words():
    smoother = best(lambda p: normalised(resized(p, PIL.Image.Resampling.NEAREST)), source=False)
    assert smoother.kinds == ["resize"]
    assert "another resize kernel" in smoother.description
    cropped = best(lambda p: normalised(resized(centre(p))), source=False)
    assert cropped.kinds == ["crop"]


def test_channels_first_images_are_searched():
    found = search(
        [
            Pair(p.reference.transpose(2, 0, 1), p.edge.transpose(2, 0, 1))
            for p in pairs_of(lambda p: right(p)[..., ::-1])
        ]
    )
    assert found[0].kinds == ["channel_order"]
    x = right(PICTURES[0]).transpose(2, 0, 1)
    np.testing.assert_allclose(eval(found[0].code, {"np": np, "x": x}), x[::-1], atol=1e-6)


def test_flat_pixels_with_their_sides_are_a_source():
    def source(picture):
        height, width, _ = picture.shape
        return {"pixels": picture.ravel(), "image/height": np.array([height]), "image/width": np.array([width])}

    nearest = PIL.Image.Resampling.NEAREST
    app = [normalised(resized(p, nearest)).astype(np.float32) for p in PICTURES]
    found = search([Pair(np.float32(right(p)), edge, source(p)) for p, edge in zip(PICTURES, app, strict=True)])
    assert "resized with nearest" in found[0].description


def diagnosed(app):
    statistics, pairs = ChannelStatistics(), pairs_of(app)
    for pair in pairs:
        statistics.update(pair.reference[None], pair.edge[None])
    return diagnose(statistics, pairs)


def test_what_nothing_explains_is_called_unknown_with_what_came_closest():
    noise = np.random.default_rng(0).normal(size=(SIZE, SIZE, 3))
    found = diagnosed(lambda p: right(p) + noise * (1 + right(p)) ** 2)
    assert found.hypothesis.startswith("unknown difference: channel order, scale and offset leave")
    assert found.code is None


def through_another_size(picture):
    """Resized twice, which no single kernel does."""
    image = PIL.Image.fromarray(picture).resize((96, 96), PIL.Image.Resampling.NEAREST)
    return normalised(np.asarray(image.resize((SIZE, SIZE), PIL.Image.Resampling.BILINEAR), np.float64))


def test_what_explains_little_of_a_small_difference_is_not_its_cause():
    found = diagnosed(through_another_size)
    assert found.nrmse > 0.01
    assert found.code is None
    assert "unknown difference" in found.hypothesis or "fine detail" in found.hypothesis


def test_missing_detail_is_no_other_contrast():
    found = diagnosed(lambda p: scipy.ndimage.gaussian_filter(right(p), (1, 1, 0)))
    assert found.hypotheses[0].kinds == ["resize"]


def test_a_diagnosis_ranks_hypotheses():
    found = diagnosed(lambda p: normalised(resized(centre(p)))[..., ::-1])
    assert found.hypotheses[0].kinds == ["crop", "channel_order"]
    assert found.hypothesis == found.hypotheses[0].description
    assert found.code == found.hypotheses[0].code
    assert found.residual == found.hypotheses[0].residual < 2e-3


TURNS = {
    "a quarter where the camera was held upright": (
        (0, 1),
        ["rotated by 90 degrees counter-clockwise in 3 of 6 frames"],
    ),
    "as the camera was held": (
        (0, 1, 2),
        ["rotated by 90 degrees counter-clockwise in 2 of 6 frames", "rotated by 180 degrees in 2 of 6 frames"],
    ),
}


@pytest.mark.parametrize(("turns", "words"), TURNS.values(), ids=TURNS)
def test_an_orientation_that_changes_from_frame_to_frame_is_told(turns, words):
    """As of an app that ignores the orientation that a camera writes into the file."""
    pairs = [
        dataclasses.replace(pair, edge=np.rot90(pair.edge, turns[i % len(turns)]).copy())
        for i, pair in enumerate(pairs_of(right))
    ]
    hypothesis, *others = search(pairs)
    assert not others
    assert hypothesis.explains
    assert {change.kind for change in hypothesis.changes} == {"rotation"}
    assert [change.description for change in hypothesis.changes] == words
    assert hypothesis.code == "x"
