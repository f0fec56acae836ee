import sys
import textwrap

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.frames.examples import fingerprint
from edge_exray.frames.functions import UserFunctions, load_functions
from edge_exray.models.tensors import Quantization, TensorSpec

FLOAT = {"image": TensorSpec("image", (-1, 2, 3), np.dtype(np.float32))}
INT8 = {"image": TensorSpec("image", (1, 2, 3), np.dtype(np.int8), Quantization((0.5,), (0,)))}
IDS = {"ids": TensorSpec("ids", (-1, -1), np.dtype(np.int32))}

IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)
EXAMPLE = {"image": IMAGE, "label": np.array([2]), "place": np.array([b"k\xc3\xb6ln"], object)}


def returns(value):
    return lambda example: value


def raises(example):
    raise KeyError("image/encoded")


def test_defaults_take_features_by_name():
    frame = UserFunctions().frame(EXAMPLE, FLOAT, FLOAT)
    assert frame.id == fingerprint(EXAMPLE)
    assert frame.label == 2
    assert frame.edge is frame.reference
    np.testing.assert_array_equal(frame.reference["image"], IMAGE[None])
    for inputs in (UserFunctions().edge_inputs(EXAMPLE, FLOAT), UserFunctions().calibration_inputs(EXAMPLE, FLOAT)):
        np.testing.assert_array_equal(inputs["image"], IMAGE[None])


@pytest.mark.parametrize(
    ("example", "specs", "expected"),
    [
        ({"image": IMAGE.ravel()}, FLOAT, IMAGE),
        ({"image": IMAGE.astype(np.uint8)}, FLOAT, IMAGE),
        ({"input": IMAGE}, FLOAT, IMAGE),
        ({"input": IMAGE.ravel(), "label": np.array(1)}, FLOAT, IMAGE),
        ({"ids": np.array([1, 2, 3])}, IDS, [1, 2, 3]),
        ({"ids": np.array([], np.int64)}, IDS, []),
        ({"x": np.array([3.0])}, {"x": TensorSpec("x", (-1,), np.dtype(np.float32))}, 3.0),
        ({"x": np.float32(3)}, {"x": TensorSpec("x", (-1, 1), np.dtype(np.float32))}, [3.0]),
    ],
    ids=["flat", "pixels", "unnamed", "unnamed and labelled", "any length", "no length", "scalar", "column"],
)
def test_feature_takes_shape_and_dtype_of_the_input(example, specs, expected):
    ((name, value),) = UserFunctions().frame(example, specs, specs).reference.items()
    assert value.dtype == specs[name].dtype
    assert value.flags.c_contiguous
    np.testing.assert_array_equal(value, np.asarray(expected)[None])


@pytest.mark.parametrize(
    ("example", "specs", "words"),
    [
        (
            {"picture": IMAGE},
            FLOAT,
            r"no feature named like .* input image \(they have \['picture'\]\): name it so, or",
        ),
        ({"image": IMAGE.ravel()[:5]}, FLOAT, r"feature image has 5 values, .* shape \[2, 3\]"),
        ({"image": IMAGE.T}, FLOAT, r"input image has shape \[3, 2\], the model needs \[2, 3\]"),
        ({"ids": np.array([1.5])}, IDS, "input ids is float64, the model needs int32"),
        ({"ids": np.array([2**40])}, IDS, "input ids has values that do not fit int32"),
    ],
)
def test_feature_that_does_not_fit_is_an_error_of_the_data(example, specs, words):
    with pytest.raises(errors.DataError, match=words):
        UserFunctions().frame(example, specs, specs)


def test_each_function_has_its_side():
    functions = UserFunctions(
        reference_inputs_fn=lambda example: {"image": example["image"] + 1},
        edge_inputs_fn=lambda example: {"image": example["image"] + 2},
        calibration_inputs_fn=lambda example: {"image": example["image"] + 3},
    )
    frame = functions.frame(EXAMPLE, FLOAT, INT8)
    np.testing.assert_array_equal(frame.reference["image"], IMAGE[None] + 1)
    np.testing.assert_array_equal(frame.edge["image"], IMAGE[None] + 2)
    np.testing.assert_array_equal(functions.edge_inputs(EXAMPLE, INT8)["image"], IMAGE[None] + 2)
    np.testing.assert_array_equal(functions.calibration_inputs(EXAMPLE, FLOAT)["image"], IMAGE[None] + 3)


@pytest.mark.parametrize("name", ["edge_inputs", "calibration_inputs"])
def test_reference_function_stands_in_for_a_missing_one(name):
    functions = UserFunctions(reference_inputs_fn=lambda example: {"image": example["image"] + 1})
    np.testing.assert_array_equal(getattr(functions, name)(EXAMPLE, FLOAT)["image"], IMAGE[None] + 1)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(IMAGE.astype(np.float64), np.float32), (IMAGE.astype(np.int8), np.int8)],
    ids=["real", "stored"],
)
def test_quantised_input_takes_real_and_stored_values(value, dtype):
    frame = UserFunctions(edge_inputs_fn=returns({"image": value})).frame(EXAMPLE, FLOAT, INT8)
    assert frame.edge["image"].dtype == dtype
    np.testing.assert_array_equal(frame.edge["image"], IMAGE[None])


@pytest.mark.parametrize("name", ["reference_inputs_fn", "edge_inputs_fn"])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raises, r"failed: KeyError: 'image/encoded' \(line \d+; the example has the features"),
        (returns(IMAGE), r": must return the model's inputs \['image'\], returned ndarray"),
        (returns({"picture": IMAGE}), r": must return .* \['image'\], returned \['picture'\]"),
        (
            returns({"image": IMAGE[None]}),
            r": input image has shape \[1, 2, 3\], .* \[2, 3\] \(without batch axis",
        ),
        (returns({"image": np.array([["a"] * 3] * 2)}), ": input image is <U1, the model needs float32"),
    ],
)
def test_function_that_fails_or_does_not_fit_is_named(name, function, words):
    functions = UserFunctions(**{name: function}, frame_id_fn=returns("f1"), source="app.py")
    with pytest.raises(errors.ModuleError, match=f"frame f1: {name} of app.py.*{words}"):
        functions.frame(EXAMPLE, FLOAT, FLOAT)


def test_pixels_for_a_quantised_input_are_not_guessed_at():
    functions = UserFunctions(edge_inputs_fn=returns({"image": np.full((2, 3), 200, np.uint8)}))
    with pytest.raises(errors.ModuleError, match="image is uint8, the model stores int8: give real values as float32"):
        functions.frame(EXAMPLE, FLOAT, INT8)


@pytest.mark.parametrize(
    ("returned", "label"), [(3, 3), (np.int64(3), 3), (np.array([3]), 3), (3.0, 3), (True, 1), (None, None)]
)
def test_label_is_a_class_index(returned, label):
    assert UserFunctions(label_fn=returns(returned)).frame(EXAMPLE, FLOAT, FLOAT).label == label


@pytest.mark.parametrize("returned", ["cat", b"3", 1.5, float("nan"), [0, 1], []])
def test_label_that_is_no_class_index_is_refused(returned):
    functions = UserFunctions(label_fn=returns(returned), source="app.py")
    with pytest.raises(
        errors.ModuleError, match=r"label_fn of app.py must return the index of a class or None, returned"
    ):
        functions.frame(EXAMPLE, FLOAT, FLOAT)


@pytest.mark.parametrize(
    ("feature", "label"), [(np.int64(5), 5), (np.array([5.0]), 5), (np.array([0, 1]), None), (None, None)]
)
def test_label_is_taken_from_a_feature_of_one_value(feature, label):
    example = {"image": IMAGE} if feature is None else {"image": IMAGE, "label": feature}
    assert UserFunctions().frame(example, FLOAT, FLOAT).label == label


def test_label_feature_of_text_asks_for_a_function():
    example = {"image": IMAGE, "label": np.array([b"cat"], object)}
    with pytest.raises(errors.DataError, match=r"feature label is .*b'cat'.*: give a module with label_fn"):
        UserFunctions().frame(example, FLOAT, FLOAT)


@pytest.mark.parametrize(("returned", "frame_id"), [("a/1", "a/1"), (b"a/1", "a/1"), (np.str_("a"), "a"), (7, "7")])
def test_frame_id_is_text(returned, frame_id):
    assert UserFunctions(frame_id_fn=returns(returned)).frame(EXAMPLE, FLOAT, FLOAT).id == frame_id


@pytest.mark.parametrize("function", [returns(None), returns(np.array([b"a"], object)), raises])
def test_frame_id_that_is_none_is_refused(function):
    with pytest.raises(errors.ModuleError, match=r"frame_id_fn of app.py"):
        UserFunctions(frame_id_fn=function, source="app.py").frame(EXAMPLE, FLOAT, FLOAT)


def test_slices_are_features_as_text():
    frame = UserFunctions().frame(EXAMPLE, FLOAT, FLOAT, slice_keys=["place", "label"])
    assert frame.slices == {"place": "köln", "label": "2"}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("city", r"slice key city is not a feature of the examples. They have \['image', "),
        ("image", "one value .* has 6"),
    ],
)
def test_slice_without_one_value_is_refused(key, words):
    with pytest.raises(errors.DataError, match=words):
        UserFunctions().frame(EXAMPLE, FLOAT, FLOAT, slice_keys=[key])


SOURCE = """
    import dataclasses

    @dataclasses.dataclass
    class Tile:
        label: "int"

    def label_fn(example):
        return Tile(int(example["label"][0]) + 1).label
"""


def test_module_is_loaded_from_a_file_without_hiding_another(tmp_path):
    import random

    path = tmp_path / "random.py"
    path.write_text(textwrap.dedent(SOURCE))
    functions = load_functions(str(path))
    assert functions.frame(EXAMPLE, FLOAT, FLOAT).label == 3
    assert functions.source == str(path)
    assert functions.reference_inputs_fn is None
    assert sys.modules["random"] is random


@pytest.mark.parametrize(
    "source",
    [
        "from neighbour import LABEL\n\ndef label_fn(example):\n    return LABEL\n",
        "def label_fn(example):\n    from neighbour import LABEL\n    return LABEL\n",
    ],
    ids=["at its top", "when called"],
)
def test_module_imports_what_lies_beside_it_and_not_beside_the_one_before(tmp_path, source):
    for label in (5, 6):
        folder = tmp_path / str(label)
        folder.mkdir()
        (folder / "neighbour.py").write_text(f"LABEL = {label}\n")
        (folder / "module.py").write_text(source)
        assert load_functions(str(folder / "module.py")).label_fn({}) == label


def test_module_is_loaded_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "app_of_a_test.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(tmp_path)
    assert load_functions("app_of_a_test").label_fn({"label": [1]}) == 2


def test_no_module_means_the_defaults():
    assert load_functions(None) == load_functions("") == UserFunctions()


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("missing.py", None, r"there is no module file .*missing\.py"),
        ("broken.py", "import no_such_module", r"broken\.py does not import: ModuleNotFoundError: .*no_such_module"),
        ("syntax.py", "def label_fn(", r"syntax\.py does not import: SyntaxError"),
        ("other.py", "def label(example): ...", r"other\.py defines none of the functions reference_inputs_fn, "),
        ("no_such.module", None, r"module .*no_such\.module does not import: ModuleNotFoundError"),
    ],
)
def test_module_that_does_not_load_is_refused(name, source, words, tmp_path):
    if source:
        (tmp_path / name).write_text(source)
    with pytest.raises(errors.ModuleError, match=words):
        load_functions(str(tmp_path / name) if name.endswith(".py") else name)


def test_function_that_raises_is_told_with_its_line_and_the_features_of_the_example(tmp_path):
    path = tmp_path / "prep.py"
    path.write_text(
        "import json\n\ndef parse(example):\n    return json.loads(example['picture'])\n\n"
        "def reference_inputs_fn(example):\n    return parse(example)\n\n"
        "def label_fn(example):\n    return json.loads('{')\n"
    )
    functions = load_functions(str(path))
    words = r"^frame \w+: reference_inputs_fn of .*prep\.py failed: KeyError: 'picture' \(line 4; the example has the "
    with pytest.raises(errors.ModuleError, match=words + r"features image, label, place\)"):
        functions.frame(EXAMPLE, FLOAT, FLOAT)
    with pytest.raises(errors.ModuleError, match=r"label_fn of .* failed: JSONDecodeError: .* \(line 10; "):
        UserFunctions(label_fn=functions.label_fn, source="prep.py").frame(EXAMPLE, FLOAT, FLOAT)
    with pytest.raises(errors.ModuleError, match=r"label_fn of app\.py failed: TypeError: "):
        UserFunctions(label_fn=int, source="app.py").frame(EXAMPLE, FLOAT, FLOAT)
