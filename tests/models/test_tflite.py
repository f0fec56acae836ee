import hashlib
import pathlib

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models import flatbuffer
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8", "int8_float_io"])
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_same_as_the_interpreter_of_tensorflow(mode, edge_models, images):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(edge_models[mode], num_threads=1)
    interpreter.allocate_tensors()
    given, told = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    step, zero_point = told["quantization"]
    model = EdgeModel(edge_models[mode])
    for image in images:
        value = image[None]
        if given["dtype"] == np.int8:
            scale, zero = given["quantization"]
            value = np.clip(np.round(value / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], value)
        interpreter.invoke()
        expected = interpreter.get_tensor(told["index"])
        if told["dtype"] == np.int8:
            expected = (expected.astype(np.float32) - zero_point) * step
        got = model.infer({"image": image[None]})["probabilities"]
        # The two runtimes are of different versions; an int8 kernel of theirs may round to the neighbour.
        np.testing.assert_allclose(got, expected, atol=max(1e-6, 1.01 * (step if "int8" in mode else 0)))


def test_real_and_stored_values_of_a_quantised_input_are_the_same_frame(edge_models, images):
    model = EdgeModel(edge_models["int8"])
    spec = model.inputs["image"]
    assert spec.dtype == np.int8
    stored = spec.quantization.quantize(images[:1], spec.dtype)
    expected = model.infer({"image": stored})["probabilities"]
    for real in (images[:1], images[:1].astype(np.float64), spec.real(stored)):
        np.testing.assert_array_equal(model.infer({"image": real})["probabilities"], expected)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected.sum(), 1, atol=0.02)


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, r"has the inputs \['image'\], was given \[\]"),
        ({"picture": np.zeros((1, 16, 16, 3), np.float32)}, r"was given \['picture'\]: .* paired by name"),
        (
            {"image": np.zeros((1, 16, 8, 3), np.float32)},
            r"image .* shape \[-1, 16, 16, 3\], was given \[1, 16, 8, 3\]",
        ),
        ({"image": np.zeros((16, 16, 3), np.float32)}, r"image .* was given \[16, 16, 3\]"),
        ({"image": np.full((1, 16, 16, 3), 200, np.uint8)}, "image .* is uint8, the model stores int8"),
        ({"image": np.zeros((1, 16, 16, 3), np.complex64)}, "image .* is complex64"),
    ],
)
def test_feed_that_does_not_fit_is_refused_and_the_model_goes_on(feed, words, edge_models, images):
    model = EdgeModel(edge_models["int8"])
    with pytest.raises(errors.DataError, match=words) as caught:
        model.infer(feed)
    assert edge_models["int8"] in str(caught.value)
    assert model.infer({"image": images[:1]})["probabilities"].shape == (1, 4)


@pytest.mark.parametrize("size", [0, 6, 8, 500, -4])
def test_damaged_file_is_one_sentence(size, edge_models, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(pathlib.Path(edge_models["none"]).read_bytes()[:size])
    with pytest.raises(errors.ModelError, match=r"model\.tflite (is not a \.tflite|does not load)") as caught:
        EdgeModel(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "words"), [("nothing.tflite", "No such file"), ("", "a folder")])
def test_path_without_a_file_is_one_sentence(name, words, tmp_path):
    with pytest.raises(errors.ModelError, match=rf"{tmp_path / name}(:| is) {words}"):
        EdgeModel(tmp_path / name)


def test_unknown_kernels_are_refused(edge_models):
    with pytest.raises(errors.ModelError, match="'gpu': choose from xnnpack, builtin, reference"):
        EdgeModel(edge_models["none"], kernels="gpu")


def test_layers_are_only_readable_when_they_were_kept(edge_models, images):
    kept, plain = EdgeModel(edge_models["none"], preserve_tensors=True), EdgeModel(edge_models["none"])
    for model in (kept, plain):
        model.infer({"image": images[:1]})
    convolution = kept.graph.ops[0].outputs[0]
    assert 0 < kept.tensor(convolution).max() <= 6
    with pytest.raises(errors.ModelError, match="without preserve_tensors"):
        plain.tensor(convolution)


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_kernels_agree_layer_by_layer(mode, edge_models, images):
    models = [
        EdgeModel(edge_models[mode], kernels=k, preserve_tensors=True) for k in ("xnnpack", "builtin", "reference")
    ]
    for image in images:
        for model in models:
            model.infer({"image": image[None]})
        for op in models[0].graph.ops:
            first, *others = (model.tensor(op.outputs[0]).astype(np.float64) for model in models)
            for other in others:
                # One step an op in int8, which the ops behind it may pass on.
                np.testing.assert_allclose(other, first, atol=3 if mode == "int8" else 1e-5)


def test_batch_of_any_size_gives_what_its_frames_give(edge_models, images):
    model = EdgeModel(edge_models["none"], preserve_tensors=True)
    one_by_one = [model.infer({"image": image[None]})["probabilities"] for image in images]
    together = model.infer({"image": images})["probabilities"]
    assert model.tensor(model.graph.ops[0].outputs[0]).shape == (len(images), 8, 8, 8)
    np.testing.assert_allclose(together, np.concatenate(one_by_one), atol=1e-6)
    np.testing.assert_array_equal(model.infer({"image": images[:1]})["probabilities"], one_by_one[0])


def test_inputs_and_outputs_go_by_their_signature_names(two_input_net, two_input_feeds):
    model, cloud = EdgeModel(two_input_net["none"]), CloudModel(two_input_net["cloud"])
    assert {n: (s.shape, s.dtype.name) for n, s in model.inputs.items()} == {
        "zebra": ((-1, 5), "float32"),
        "apple": ((-1, 4), "float32"),
        "ids": ((-1, 1), "int32"),
    }
    for feed in two_input_feeds[:5]:
        expected, _ = cloud.infer(feed)
        got = model.infer(dict(sorted(feed.items())))
        assert set(got) == {"a", "m", "z"}
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_kernel_that_fails_is_one_sentence(two_input_net, two_input_feeds):
    model = EdgeModel(two_input_net["none"])
    with pytest.raises(errors.ModelError, match="failed while running: gather index out of bounds") as caught:
        model.infer({**two_input_feeds[0], "ids": np.array([[4]], np.int32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("signature", "words"),
    [(None, r"several signatures, \['double', 'triple'\]"), ("half", "no signature 'half'")],
)
def test_signature_that_is_not_one_of_several_is_refused(signature, words, two_signatures_net):
    with pytest.raises(errors.ModelError, match=words):
        EdgeModel(two_signatures_net["none"], signature=signature)


@pytest.mark.parametrize(("signature", "answer"), [("double", [2, 4]), ("triple", [4, 7])])
def test_each_of_several_signatures_runs_and_shows_its_layers(signature, answer, two_signatures_net):
    path = pathlib.Path(two_signatures_net["none"])
    model = EdgeModel(path, signature=signature, preserve_tensors=True)
    assert model.infer({"x": np.array([[1, 2]], np.float32)})["y"].tolist() == [answer]
    assert [model.tensor(op.outputs[0]).tolist() for op in model.graph.ops][-1] == [answer]
    assert model.graph.signatures == (signature,)
    assert (model.bytes, model.fingerprint) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_model_without_signatures_goes_by_tensor_names(two_signatures_net):
    content = pathlib.Path(two_signatures_net["none"]).read_bytes()
    document = flatbuffer.unpack(content)
    document.signatureDefs = []
    model = EdgeModel(flatbuffer.pack(document, len(content)))
    assert model.path == "<bytes>"
    (input_name,), (output_name,) = model.inputs, model.outputs
    assert {input_name, output_name} == {
        model.graph.tensors[i].spec.name for i in (*model.graph.inputs, *model.graph.outputs)
    }
    assert model.infer({input_name: np.ones((1, 2), np.float32)})[output_name].tolist() == [[2, 2]]


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("custom", "does not load in LiteRT: Encountered unresolved custom op: StringLower"),
        ("flex", "has ops that LiteRT does not run, FlexStringLower: they are TensorFlow's own"),
    ],
)
def test_op_that_no_kernel_runs_is_named(kind, words, kernels, lowercase_net):
    """Flex too, although TensorFlow's kernels are at hand in this process: a device has none."""
    with pytest.raises(errors.ModelError, match=words) as caught:
        EdgeModel(lowercase_net[kind], kernels=kernels)
    assert "\n" not in str(caught.value)
