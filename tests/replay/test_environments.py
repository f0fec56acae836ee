"""Environments of an edge model: other kernels and threads in child processes, and variants of its inputs."""

import pathlib

import numpy as np
import pytest
import tampering
from PIL import Image

from edge_exray import errors
from edge_exray.frames import variants
from edge_exray.frames.examples import read_examples
from edge_exray.frames.functions import UserFunctions, load_functions
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.environments import parse_all
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.tally import TallyOptions

FRAMES = 4
NAMES = ("reference", "xnnpack:2")


@pytest.fixture
def predictions(conv_net, edge_models, eval_examples, tmp_path):
    """Replays some frames; returns their images and predictions."""

    def run(functions=None, change=lambda content: content, names=NAMES):
        edge = tmp_path / "edge.tflite"
        edge.write_bytes(change(pathlib.Path(edge_models["int8"]).read_bytes()))
        examples = [example for example, _ in zip(read_examples(eval_examples), range(FRAMES), strict=False)]
        paths = ModelPaths(conv_net, edge_models["none"], str(edge), "serving_dense")
        options = TallyOptions(environments=names)
        stored = replay(paths, examples, tmp_path / "out", functions=functions, options=options)
        return [example["image"] for example in examples], list(stored.predictions())

    return run


def test_answers_are_those_of_the_model_in_its_environment(predictions, edge_models):
    def darker(image):
        return image * 0.6 - 0.4

    functions = UserFunctions(
        edge_inputs_fn=lambda e: {"image": e["image"][::-1]},
        edge_variants_fn=lambda e: {"dark": {"image": darker(e["image"])}},
    )
    images, found = predictions(functions)
    runs = {
        "env/reference": (EdgeModel(edge_models["int8"], kernels="reference"), lambda image: image[::-1]),
        "env/xnnpack:2": (EdgeModel(edge_models["int8"], num_threads=2), lambda image: image[::-1]),
        "env/dark": (EdgeModel(edge_models["int8"]), darker),
        "edge": (EdgeModel(edge_models["int8"]), lambda image: image[::-1]),
    }
    for image, prediction in zip(images, found, strict=True):
        assert {key for key in prediction if key.startswith("env/")} == {f"{k}/probabilities" for k in runs} - {
            "edge/probabilities"
        }
        for name, (model, prepare) in runs.items():
            answer = model.infer({"image": prepare(image)[None]})["probabilities"]
            np.testing.assert_array_equal(prediction[f"{name}/probabilities"], answer[0])


def test_an_environment_that_dies_leaves_the_others_whole(predictions):
    """The reference kernel of this softmax aborts its process."""
    _, found = predictions(change=lambda content: tampering.set_softmax_beta(content, 5, 1e-9))
    assert len(found) == FRAMES
    for prediction in found:
        assert prediction["env/reference"][0].startswith(b"its process ended")
        assert "env/reference/probabilities" not in prediction
        assert prediction["env/xnnpack:2/probabilities"].size == 4


@pytest.mark.parametrize("name", ["gpu", "xnnpack:0", "xnnpack:", "xnnpack:two", "refrence"])
def test_an_unknown_environment_is_refused(name):
    with pytest.raises(errors.SpecError, match=f"no environment '{name}'.*xnnpack:4"):
        TallyOptions(environments=(name,))


def test_an_environment_is_named_once():
    with pytest.raises(errors.SpecError, match=r"a list of names, not the text 'builtin': write \['builtin'\]"):
        TallyOptions(environments="builtin")
    with pytest.raises(errors.SpecError, match="twice: builtin, builtin"):
        parse_all(["builtin", "builtin"])


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([], "must return the name of each variant"),
        ({"a/b": {}}, r"without a slash.*returned \['a/b'\]"),
        ({"cloud": {}}, "none of them cloud or edge"),
        ({"dark": {"picture": 0}}, r"edge_variants_fn of .*, dark: must return the model's inputs \['image'\]"),
        ({"xnnpack:2": None}, r"variants like the environments \['xnnpack:2'\]"),
    ],
)
def test_variants_that_cannot_be_told_apart_or_do_not_fit_are_refused(returned, words, predictions):
    def edge_variants_fn(example):
        return (
            {k: v or {"image": example["image"]} for k, v in returned.items()} if "xnnpack:2" in returned else returned
        )

    with pytest.raises(errors.ModuleError, match=words):
        predictions(UserFunctions(edge_variants_fn=edge_variants_fn), names=("xnnpack:2",))


def test_a_module_may_have_variants_alone(tmp_path):
    module = tmp_path / "app.py"
    module.write_text("def edge_variants_fn(example):\n    return {}\n")
    assert load_functions(str(module)).edge_variants_fn({}) == {}


IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)


def test_jpeg_loses_more_at_a_lower_quality():
    def loss(quality: int) -> float:
        return float(np.abs(variants.jpeg(IMAGE, quality).astype(float) - IMAGE).mean())

    assert 0 < loss(95) < loss(50) < loss(5)
    assert variants.jpeg(IMAGE[..., 0], 50).shape == (32, 32)


def test_resizing_by_whole_steps_is_picking_or_averaging():
    np.testing.assert_array_equal(variants.resize(IMAGE, (8, 8), "nearest"), IMAGE[2::4, 2::4])
    np.testing.assert_array_equal(variants.resize(IMAGE, (8, 8), "area"), IMAGE[::4, ::4])
    assert variants.resize(IMAGE, (20, 10), "bicubic").shape == (20, 10, 3)
    assert Image.fromarray(variants.resize(IMAGE, (20, 10), "lanczos")).size == (10, 20)


def test_brightness_rounds_and_cuts():
    np.testing.assert_array_equal(variants.brightness(np.array([[0, 1, 99, 200]], np.uint8), 1.5), [[0, 2, 148, 255]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: variants.jpeg(IMAGE / 255.0, 90), r"uint8 pictures .*this is float64 \[32, 32, 3\]"),
        (lambda: variants.brightness(IMAGE[0, 0], 2), "uint8 pictures"),
        (lambda: variants.resize(IMAGE, (8, 8), "cubic"), "no resize kernel 'cubic'"),
    ],
)
def test_what_is_no_picture_is_refused(call, words):
    with pytest.raises(errors.DataError, match=words):
        call()
