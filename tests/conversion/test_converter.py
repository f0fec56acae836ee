"""Conversions of real tiny models. Each child process imports TensorFlow, so the tests share as few as they can."""

import importlib.metadata
import json
import pathlib
import sys

import models_zoo
import numpy as np
import pytest
import warm_converter

from edge_exray import errors, schemas
from edge_exray.conversion import converter
from edge_exray.models import saved_model
from edge_exray.models.tflite import EdgeModel

_TENSORFLOW = tuple(map(int, importlib.metadata.version("tensorflow").split(".")[:2]))


def _frames(count: int = 40) -> list[dict[str, np.ndarray]]:
    return [{"image": image[np.newaxis]} for image in models_zoo.make_frames(count, seed=5)[0]]


@pytest.mark.parametrize(
    ("mode", "io", "tolerance"),
    [
        ("none", "float32", 1e-5),
        ("float16", "float32", 5e-3),
        ("dynamic_range", "float32", 0.1),
        ("int8", "int8", 0.1),
        ("int8_float_io", "float32", 0.1),
        ("int16x8", "int16", 0.05),
    ],
)
def test_mode_keeps_its_promise_and_the_clouds_outputs(conversions, conv_net, mode, io, tolerance):
    edge = EdgeModel(conversions[mode].path)
    cloud = saved_model.CloudModel(conv_net, "serving_dense")
    images, labels = models_zoo.make_frames(40, seed=6)

    wanted = cloud.infer({"image": images})[0]["probabilities"]
    got = np.concatenate([edge.infer({"image": image[np.newaxis]})["probabilities"] for image in images])

    assert edge.inputs["image"].dtype == edge.outputs["probabilities"].dtype == np.dtype(io)
    np.testing.assert_allclose(got, wanted, atol=tolerance)
    assert (got.argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize(
    ("mode", "types"), [("int8", {"INT8", "INT32"}), ("int16x8", {"INT8", "INT16", "INT32", "INT64"})]
)
def test_integer_modes_leave_no_float_arithmetic(mode, types, conversions):
    assert {t.type for t in EdgeModel(conversions[mode].path).graph.tensors} <= types
    assert conversions[mode].left_float == []


def test_quantized_weights_are_smaller_than_float(conversions):
    def weights(mode: str) -> int:
        tensors = EdgeModel(conversions[mode].path).graph.tensors
        return sum(np.prod(t.spec.shape) * t.spec.dtype.itemsize for t in tensors if t.is_constant)

    assert weights("float16") < 0.6 * weights("none")
    assert weights("int8") < 0.5 * weights("none")


def test_record_describes_the_files(conversions, conv_net):
    int8, none = conversions["int8"], conversions["none"]
    document = json.loads(int8.to_json())

    schemas.check(document, "conversion", errors.ArtifactError)
    assert document["signature"] == "serving_dense"
    assert document["source_fingerprint"] == saved_model.fingerprint(conv_net)
    assert document["bytes"] == pathlib.Path(int8.path).stat().st_size
    assert document["fingerprint"] == EdgeModel(int8.path).fingerprint
    assert document["inputs"]["image"]["dtype"] == "int8"
    assert document["source_bytes"] == saved_model.size(conv_net)
    assert document["left_float"] == document["notes"] == []
    assert document["calibration"]["frames"] == 40
    assert document["lint"] == {"counts": {"error": 0, "warning": 0, "note": 0}, "findings": []}
    assert document["ranges"]["frames"] == 40
    assert document["ranges"]["worst"]
    assert none.ranges is None
    assert none.calibration is None


def test_same_inputs_give_the_same_bytes(conversions, conv_net, tmp_path):
    with warm_converter.cold():
        again = converter.convert(
            conv_net, tmp_path / "new" / "model.tflite", signature="serving_dense", calibration=_frames()
        )

    assert again.fingerprint == conversions["int8"].fingerprint
    assert again.calibration == conversions["int8"].calibration
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model.tflite"]


def test_every_input_and_output_keeps_its_name(tmp_path):
    path = models_zoo.save_two_input_net(tmp_path / "net")
    rng = np.random.default_rng(1)

    def frame(i: int) -> dict[str, np.ndarray]:
        floats = {n: rng.normal(size=(1, w)).astype(np.float32) for n, w in (("zebra", 5), ("apple", 4))}
        return {**floats, "ids": np.array([[i % 4]], np.int32)}

    outputs = {str(tmp_path / f"{mode}.tflite"): mode for mode in ("none", "int8")}
    none, int8 = converter.convert_many(path, outputs, calibration=map(frame, range(50)))
    cloud, plain, quantized = saved_model.CloudModel(path), EdgeModel(none.path), EdgeModel(int8.path)

    assert int8.signature == "dense"
    assert {n: s.dtype.name for n, s in quantized.inputs.items()} == {"zebra": "int8", "apple": "int8", "ids": "int32"}
    assert {n: s.dtype.name for n, s in quantized.outputs.items()} == {"z": "int8", "a": "int64", "m": "int8"}
    for i in range(10):
        feed = frame(i)
        wanted = cloud.infer(feed)[0]
        for name, got in plain.infer(feed).items():
            np.testing.assert_allclose(got, wanted[name], atol=1e-5)
        np.testing.assert_allclose(quantized.infer(feed)["z"], wanted["z"], atol=0.3)


@pytest.mark.parametrize(
    ("save", "signature", "error", "words"),
    [
        (
            models_zoo.save_lowercase_net,
            None,
            errors.ConversionError,
            "ops without TensorFlow Lite kernels for none: StringLower at StringLower; move .* with select_tf_ops=True",
        ),
        (models_zoo.save_counting_net, None, errors.ConversionError, r"still has variables .*VAR_HANDLE"),
        (models_zoo.save_counting_net, "dance", errors.ModelError, r"no signature 'dance', only \['dense'\]"),
    ],
)
def test_unconvertible_model_is_one_error_and_no_file(save, signature, error, words, tmp_path):
    path = save(tmp_path / "net")

    with pytest.raises(error, match=words) as caught:
        converter.convert(path, tmp_path / "out" / "model.tflite", quantization="none", signature=signature)

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_loop_over_an_open_batch_is_converted_for_a_batch_of_one(tmp_path):
    path = models_zoo.save_sequence_net(tmp_path / "net")

    made = converter.convert(path, tmp_path / "model.tflite", quantization="none")

    [note] = made.notes
    assert note.endswith("fixed to 1")
    assert made.inputs["x"].shape == (1, 5, 4)
    cloud, edge = saved_model.CloudModel(path), EdgeModel(made.path)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    got = np.concatenate([edge.infer({"x": row[np.newaxis]})["y"] for row in x])
    np.testing.assert_allclose(got, cloud.infer({"x": x})[0]["y"], atol=1e-6)


def test_ops_of_tensorflow_are_kept_on_demand(tmp_path):
    path = models_zoo.save_lowercase_net(tmp_path / "net")

    made = converter.convert(path, tmp_path / "model.tflite", quantization="none", select_tf_ops=True)

    assert made.notes == ["needs TensorFlow's kernels in the app: FlexStringLower"]
    assert pathlib.Path(made.path).stat().st_size == made.bytes


def test_loop_is_not_calibrated(tmp_path):
    frame = {"x": np.zeros((1, 4), np.float32)}
    with pytest.raises(
        errors.ConversionError, match=r"cannot become int8: it has a loop.* choose dynamic_range, float16"
    ):
        converter.convert(
            models_zoo.save_recurrent_net(tmp_path / "net"), tmp_path / "model.tflite", calibration=[frame]
        )
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


@pytest.mark.skipif(_TENSORFLOW >= (2, 21), reason="this converter ends")
def test_fused_lstm_that_the_converter_never_ends_on_is_refused(tmp_path):
    path = models_zoo.save_lstm_net(tmp_path / "net")
    with pytest.raises(errors.ConversionError, match=r"never ends on a fused LSTM.* quantizer=\"ai_edge_quantizer\""):
        converter.convert(path, tmp_path / "model.tflite", quantization="float16", memory_limit=2**31)


@pytest.mark.parametrize(
    "quantizer",
    [
        "ai_edge_quantizer",
        pytest.param(
            "tensorflow", marks=pytest.mark.skipif(_TENSORFLOW < (2, 21), reason="this converter does not end")
        ),
    ],
)
def test_fused_lstm_becomes_float16(quantizer, tmp_path):
    path, out = models_zoo.save_lstm_net(tmp_path / "net"), tmp_path / "model.tflite"
    converter.convert(path, out, quantization="float16", quantizer=quantizer, memory_limit=2**31)
    assert "FLOAT16" in {tensor.type for tensor in EdgeModel(out).graph.tensors if tensor.is_constant}


def test_op_without_kernels_of_a_mode_is_named(tmp_path):
    frame = {
        "apple": np.ones((1, 4), np.float32),
        "zebra": np.ones((1, 5), np.float32),
        "ids": np.ones((1, 1), np.int32),
    }
    with pytest.raises(
        errors.ConversionError, match=r"quantizing to int16x8: .*'ARG_MAX'; choose another quantization"
    ):
        converter.convert(
            models_zoo.save_two_input_net(tmp_path / "net"),
            tmp_path / "model.tflite",
            quantization="int16x8",
            calibration=[frame],
        )


def test_memory_limit_stops_the_conversion(conv_net, tmp_path):
    # TensorFlow alone needs more.
    told = r"stopped at \d+ MiB of memory, the limit is 100 MiB, while importing"
    with warm_converter.cold(), pytest.raises(errors.ConversionError, match=told):
        converter.convert(conv_net, tmp_path / "model.tflite", quantization="none", memory_limit=100 * 2**20)
    assert not list(tmp_path.iterdir())


_SAYS_AND_ABORTS = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "step").write_text("quantizing to int8")
print("I0000 00:00:00 conv.cc:1] all is well", file=sys.stderr)
print("F0000 00:00:00 quantize.cc:7] Check failed: scale > 0 (0 vs. 0)", file=sys.stderr)
print("*** Check failure stack trace: ***", file=sys.stderr, flush=True)
os.abort()
"""

_FAILS_AT_A_RECIPE = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.joinpath("step").write_text("quantizing to recipe")
folder.joinpath("error.json").write_text('{"type": "TypeError", "message": "no such argument."}')
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            _SAYS_AND_ABORTS,
            r"killed by SIGABRT while quantizing to int8, .*conv_net: .*Check failed: scale > 0 \(0 vs. 0\)$",
        ),
        (
            _FAILS_AT_A_RECIPE,
            r"conv_net failed while quantizing to recipe: TypeError: no such argument; choose another recipe, or keep",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "killed by SIGKILL.*out of memory.* while starting",
        ),
        (
            "import os, sys; print('what():  std::bad_alloc', file=sys.stderr, flush=True); os.abort()",
            r"killed by SIGABRT: .*out of memory while starting, .*: what\(\):  std::bad_alloc$",
        ),
        ("raise SystemExit('no space left')", "ended with status 1 while starting, .*: no space left"),
        ("", "ended with status 0 while starting"),
        ("import time; time.sleep(60)", "stopped after 0.5 s while starting: allow it more time"),
    ],
    ids=["abort", "error", "kill", "allocation", "exit", "no result", "timeout"],
)
def test_death_of_the_child_is_one_error_and_no_file(program, words, conv_net, tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "_WORKER", (sys.executable, "-c", program))
    out = tmp_path / "model.tflite"
    out.write_bytes(b"the last good one")

    with pytest.raises(errors.ConversionError, match=words) as caught:
        converter.convert(conv_net, out, calibration=_frames(1), timeout=0.5 if "sleep" in program else 60)

    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    assert out.read_bytes() == b"the last good one"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"quantization": "int7"}, errors.SpecError, "unknown quantization 'int7': choose from none, float16"),
        ({"quantization": "int8"}, errors.SpecError, "quantization 'int8' needs a calibration"),
        ({"quantization": "int8", "calibration": []}, errors.DataError, "the calibration set has no frames"),
    ],
)
def test_impossible_request_is_refused_before_anything_runs(options, error, words, conv_net, tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "_WORKER", ("/bin/false",))
    with pytest.raises(error, match=words):
        converter.convert(conv_net, tmp_path / "model.tflite", **options)
    assert not list(tmp_path.iterdir())
