import json

import numpy as np
import pytest

from edge_exray import InputContract, InputFormat, errors

PHOTO = {"channels": "RGB", "height": 4, "width": 6, "mean": 127.5, "std": 127.5}


def contract(**declared) -> InputContract:
    return InputContract.from_dict({"inputs": {"image": declared}})


def pixels(shape=(1, 4, 6, 3)) -> np.ndarray:
    """All pixels from 0 to 255 are equally likely; 0 and 255 are among them in every channel."""
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    image[..., 0, 0, :], image[..., 0, 1, :] = 0, 255
    return image


@pytest.mark.parametrize(
    ("declared", "prepare"),
    [
        (PHOTO, lambda x: x / 127.5 - 1),
        (PHOTO, lambda x: (x / 127.5 - 1)[0]),
        (PHOTO | {"mean": 0, "std": 255}, lambda x: x / 255),
        (PHOTO | {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}, lambda x: imagenet(x)),
        (PHOTO | {"layout": "NCHW"}, lambda x: np.moveaxis(x / 127.5 - 1, -1, 1)),
        (
            PHOTO | {"layout": "NCHW", "mean": [0, 100, 200], "std": [1, 2, 3]},
            lambda x: np.moveaxis((x - [0, 100, 200]) / [1, 2, 3], -1, 1),
        ),
        (PHOTO | {"channels": "GRAY", "layout": "NHW"}, lambda x: x[..., 0] / 127.5 - 1),
        (PHOTO | {"mean": 0, "std": 1}, lambda x: x.astype(np.uint8)),
        # What bicubic resizing overshoots by is no other normalisation; a step of int8 is none either.
        (PHOTO | {"resize": "bicubic"}, lambda x: (x / 127.5 - 1) * 1.4),
        (PHOTO, lambda x: (x / 127.5 - 1) * 1.008),
        ({"min": [0, -5], "max": [10, 5]}, lambda x: np.array([[10, -5]], np.float32)),
        ({"mean": 3, "std": 2}, lambda x: np.array([[1e6]], np.float32)),
        ({"channels": "RGB", "resize": "area", "fit": "center_crop"}, lambda x: x),
        ({}, lambda x: np.float32(7)),
        ({}, lambda x: np.array(["text"])),
    ],
)
def test_inputs_as_declared_keep_the_contract(declared, prepare):
    assert contract(**declared).check({"image": prepare(pixels())}) == []


def imagenet(x: np.ndarray) -> np.ndarray:
    return ((x - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]).astype(np.float32)


@pytest.mark.parametrize(
    ("declared", "prepare", "broken", "words"),
    [
        (PHOTO, lambda x: x, "mean, std", "reaches [0, 255], mean 127.5 and std 127.5 allow [-1, 1]: feed (x - mean)"),
        (PHOTO, lambda x: x.astype(np.uint8), "mean, std", "reaches [0, 255]"),
        (PHOTO, lambda x: (x / 127.5 - 1) * 1.4, "mean, std", "reaches [-1.4, 1.4]"),
        (PHOTO | {"mean": 0, "std": 255}, lambda x: x / 127.5 - 1, "mean, std", "reaches [-1, 1], mean 0 and std 255"),
        # Within the range of all channels, but not of each: the order of mean and std is that of the channels.
        (
            PHOTO | {"mean": [0, 100, 200], "std": [1, 2, 3]},
            lambda x: ((x - [0, 100, 200]) / [1, 2, 3])[..., ::-1],
            "mean, std",
            "mean [0, 100, 200] and std [1, 2, 3] allow [-66.67, 255], each channel its own part of it: feed (x",
        ),
        (PHOTO, lambda x: np.where(x == 0, np.nan, x / 127.5 - 1), "finite", "holds NaN or inf"),
        (PHOTO, lambda x: np.where(x == 255, np.inf, x / 127.5 - 1), "finite", "holds NaN or inf"),
        (PHOTO, lambda x: x[:, :, :5] / 255, "width", "has width 5 (shape [1, 4, 5, 3]), 6 is declared"),
        (PHOTO, lambda x: x[:, :3] / 255, "height", "has height 3 (shape [1, 3, 6, 3]), 4 is declared"),
        (PHOTO, lambda x: x[..., :1] / 255, "channels", "has channels 1 (shape [1, 4, 6, 1]), RGB is declared"),
        (PHOTO, lambda x: x[0, :, :, 0] / 255, "layout", "layout NHWC needs an axis for each"),
        (PHOTO, lambda x: x.astype(str), "dtype", "the model reads numbers"),
        ({"min": [0, -5], "max": [10, 5]}, lambda x: np.array([[-5.0, 10]]), "min, max", "min [0, -5] and max [10, 5]"),
        ({"min": 0}, lambda x: np.array([[-1.0]]), "min, max", "reaches [-1, -1], min 0 allow [0, inf]"),
    ],
)
def test_a_broken_property_is_named(declared, prepare, broken, words):
    [violation] = contract(**declared).check({"image": prepare(pixels())})
    assert (violation.input, violation.property) == ("image", broken)
    assert words in violation.message


def test_an_input_that_is_not_fed_is_named():
    [violation] = contract(**PHOTO).check({"picture": pixels()})
    assert str(violation) == "input image is declared and not fed, only ['picture']"


def test_the_document_is_canonical_and_holds_what_is_declared_only():
    text = '{"labels": ["cat", "dog"], "inputs": {"image": {"std": [127.5], "mean": 127.5, "channels": "RGB"}}}'
    read = InputContract.from_json(text)
    assert read.inputs["image"] == InputFormat(channels="RGB", mean=(127.5,), std=(127.5,))
    assert json.loads(read.to_json()) == {
        "inputs": {"image": {"channels": "RGB", "mean": 127.5, "std": 127.5}},
        "labels": ["cat", "dog"],
    }
    one, other = ({"inputs": {name: {"width": 4, "height": 6} for name in names}} for names in ("ab", "ba"))
    assert InputContract.from_dict(one).to_json() == InputContract.from_dict(other).to_json()
    assert InputContract.from_json(read.to_json()) == read
    assert InputContract.from_json(read.to_json()).to_json() == read.to_json()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"input": {}}, "unknown key input; did you mean inputs"),
        ({"task": "sorting"}, "task: 'sorting' is not one of"),
        ({"inputs": {"image": {"colour": "RGB"}}}, "inputs.image: .*'colour' was unexpected"),
        ({"inputs": {"image": {"channels": "RBG"}}}, "inputs.image.channels: 'RBG' is not one of"),
        ({"inputs": {"image": {"mean": 127.5}}}, "inputs.image: 'std' is a dependency of 'mean'"),
        ({"inputs": {"image": {"mean": 0, "std": 0}}}, "inputs.image.std"),
        ({"inputs": {"image": {"channels": "RGB", "mean": [1, 2], "std": 1}}}, "RGB needs 1 or 3"),
        ({"inputs": {"image": {"min": [1, 2], "max": [1, 2, 3]}}}, "all that are not 1 must be equal"),
        ({"inputs": {"image": {"min": 1, "max": 0}}}, "min 1 and max 0 leave no range"),
        ({"inputs": {"image": {"channels": "RGB", "layout": "NHW"}}}, "layout NHW has no axis for RGB"),
        ({"inputs": {"image": {"min": [0, 1], "layout": "NHW"}}}, "layout NHW has no axis for several channels"),
    ],
)
def test_a_contract_that_cannot_be_meant_is_refused(document, words):
    with pytest.raises(errors.SpecError, match=words):
        InputContract.from_dict(document)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"channels": "rgb"}, r"inputs\.NAME\.channels: 'rgb' is not one of \['RGB'"),
        ({"layout": "nhwc"}, r"inputs\.NAME\.layout: 'nhwc' is not one of"),
        ({"mean": (127.5,)}, "'std' is a dependency of 'mean'"),
        ({"mean": (0,), "std": (0,)}, r"inputs\.NAME\.std"),
    ],
)
def test_a_format_that_is_built_in_python_is_checked_as_well(properties, words):
    with pytest.raises(errors.SpecError, match=words):
        InputFormat(**properties)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"inputs": {"photo": {}}}, "declares photo, the inputs of the model are image"),
        ({"inputs": {"image": {"height": 8}}}, "does not fit the model: input image has height 4"),
        ({"inputs": {"image": {"channels": "GRAY"}}}, "does not fit the model: input image has channels 3"),
        ({"inputs": {"image": {"min": [0, 0], "max": 1}}}, "has channels 3 .*min, max for 2 is declared"),
        ({"task": "classification", "labels": ["a", "b", "c"]}, "names 3 labels, no output .*'scores': \\[-1, 4\\]"),
    ],
)
def test_a_contract_that_the_model_cannot_keep_is_refused(document, words):
    with pytest.raises(errors.SpecError, match=words):
        InputContract.from_dict(document).check_model({"image": [-1, 4, -1, 3]}, {"scores": [-1, 4]})


@pytest.mark.parametrize(
    ("document", "outputs"),
    [
        ({"inputs": {"image": PHOTO}, "task": "classification", "labels": list("abcd")}, [-1, 4]),
        ({"task": "classification", "labels": ["no", "yes"]}, [-1, 1]),
        ({"task": "classification", "labels": ["no", "yes", "perhaps"]}, [-1, -1]),
        ({"task": "detection", "labels": ["cat"]}, [-1, 4]),
    ],
)
def test_a_contract_that_the_model_can_keep_is_taken(document, outputs):
    InputContract.from_dict(document).check_model({"image": [-1, 4, -1, 3]}, {"scores": outputs})
