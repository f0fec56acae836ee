import numpy as np
import pytest
import skimage.data

from edge_exray.diagnosis.preprocessing.diagnosis import diagnose
from edge_exray.drift.channels import ChannelStatistics

IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def tiles() -> list[np.ndarray]:
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    corners = [(y, x) for y in range(0, 250, 60) for x in range(0, 250, 60)]
    return [p[y : y + 32, x : x + 32].astype(np.float32) / 127.5 - 1 for p in photographs for y, x in corners]


def diagnosed(app, references=None):
    statistics = ChannelStatistics()
    for tile in references or tiles():
        statistics.update(tile[None], np.asarray(app(tile), np.float32)[None])
    return diagnose(statistics)


@pytest.mark.parametrize(
    ("app", "named", "permutation"),
    [
        (lambda x: x[..., ::-1], "reversed channels (BGR instead of RGB)", [2, 1, 0]),
        (lambda x: x[..., [1, 0, 2]], "channels in the order [1, 0, 2]", [1, 0, 2]),
        (lambda x: (x + 1) / 2, "wrong scale: [0, 1] instead of [-1, 1]", [0, 1, 2]),
        (lambda x: (x + 1) * 127.5, "wrong scale: [0, 255] instead of [-1, 1]", [0, 1, 2]),
        (
            lambda x: (x[..., ::-1] + 1) / 2,
            "reversed channels (BGR instead of RGB) and wrong scale: [0, 1] instead of [-1, 1]",
            [2, 1, 0],
        ),
        (lambda x: x * 1.3, "wrong scale: 1.3 * x", [0, 1, 2]),
        (lambda x: x + 0.1, "wrong offset: x + 0.1", [0, 1, 2]),
        (lambda x: x - 0.1, "wrong offset: x - 0.1", [0, 1, 2]),
        (lambda x: 2 * x - 5, "wrong scale and offset: 2 * x - 5", [0, 1, 2]),
        (
            lambda x: ((x + 1) / 2 - IMAGENET_MEAN) / IMAGENET_STD,
            "another normalisation of each channel",
            [0, 1, 2],
        ),
    ],
)
def test_a_difference_is_named_and_its_code_reproduces_it(app, named, permutation):
    found = diagnosed(app)
    assert found.hypothesis.startswith(named)
    assert found.permutation == permutation
    assert "+ -" not in found.code
    x = tiles()[0]
    np.testing.assert_allclose(eval(found.code, {"np": np, "x": x}), app(x), rtol=1e-3, atol=1e-3)


def test_scale_is_named_by_the_range_that_training_used():
    bytes_in = [(tile + 1) * 127.5 for tile in tiles()]
    assert diagnosed(lambda x: x / 255, bytes_in).hypothesis == "wrong scale: [0, 1] instead of [0, 255]"
    assert diagnosed(lambda x: x / 127.5 - 1, bytes_in).hypothesis == "wrong scale: [-1, 1] instead of [0, 255]"


@pytest.mark.parametrize("app", [np.rot90, lambda x: np.roll(x, 3, 0), lambda x: x**2])
def test_what_no_permutation_or_scale_explains_is_called_unknown(app):
    found = diagnosed(app)
    assert "unknown difference" in found.hypothesis
    assert found.code is None


def test_equal_inputs_give_no_hypothesis():
    found = diagnosed(lambda x: x)
    assert (found.identical, found.hypothesis, found.nrmse) == (True, None, 0.0)


def test_rounding_to_bytes_is_called_tiny():
    found = diagnosed(lambda x: np.round((x + 1) * 127.5 + np.random.default_rng(0).uniform(-0.5, 0.5)) / 127.5 - 1)
    assert found.nrmse < 0.005


def test_grey_frames_do_not_accuse_the_channel_order():
    grey = [tile.mean(-1, keepdims=True).repeat(3, -1) for tile in tiles()]
    assert diagnosed(lambda x: x[..., ::-1], grey).identical
    assert diagnosed(lambda x: x * 0.5 + 0.5, grey).permutation == [0, 1, 2]


def test_a_constant_input_is_named():
    assert diagnosed(np.zeros_like).hypothesis == "the edge input is always 0"


def test_another_shape_is_named():
    found = diagnosed(lambda x: x[:16])
    assert found.hypothesis == "the edge input has another shape"


def test_nan_is_named():
    found = diagnosed(lambda x: x * np.nan)
    assert found.hypothesis == "the edge input has NaN or infinite values"
