import pathlib

import models_zoo
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import edge_exray
from edge_exray import InputContract, errors
from edge_exray.models import flatbuffer
from edge_exray.models.metadata import attach, detach, read_contract
from edge_exray.models.tflite import EdgeModel

CONTRACT = InputContract.from_dict(
    {"inputs": {"image": {"channels": "RGB", "mean": 127.5, "std": 127.5}}, "labels": ["Kätzchen", "TFL3", "x" * 5000]}
)


def metadata(content: bytes) -> dict[str, bytes]:
    model = flatbuffer.unpack(content)
    return {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}


def repacked(content: bytes, change=lambda model: None) -> bytes:
    """What a tool does that unpacks a flatbuffer and packs it again."""
    model = flatbuffer.unpack(content)
    change(model)
    return flatbuffer.pack(model, len(content))


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8", "int8_float_io", "int16x8"])
def test_a_contract_is_carried_and_nothing_else_changes(edge_models, mode):
    content = pathlib.Path(edge_models[mode]).read_bytes()

    carrying = attach(content, CONTRACT)

    assert read_contract(carrying) == CONTRACT
    # Every byte of the model is there, at a place that keeps the alignment of its tensors.
    assert carrying.index(content) % 16 == 0
    entries = metadata(carrying)
    assert entries.pop("EDGE_EXRAY_INPUT_CONTRACT").decode() == CONTRACT.to_json()
    assert entries == metadata(content)
    assert entries  # the converter's own
    before, after = EdgeModel(content), EdgeModel(carrying)
    assert after.graph == before.graph
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    for image in models_zoo.make_frames(3, seed=8)[0]:
        feed = {"image": image[np.newaxis]}
        np.testing.assert_array_equal(after.infer(feed)["probabilities"], before.infer(feed)["probabilities"])


def test_other_readers_take_the_file(edge_models):
    import tensorflow as tf

    carrying = attach(pathlib.Path(edge_models["int8"]).read_bytes(), CONTRACT)
    interpreter = tf.lite.Interpreter(model_content=carrying)
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}}
    assert read_contract(repacked(carrying)) == CONTRACT


@pytest.mark.parametrize("cut", range(4))
def test_what_was_attached_can_be_replaced_and_detached(edge_models, cut):
    # Not every writer fills a file up to a multiple of 16.
    content = pathlib.Path(edge_models["int8"]).read_bytes() + b"\0" * cut
    other = InputContract.from_dict({"task": "regression"})

    carrying = attach(content, CONTRACT)

    assert detach(carrying) == content
    assert detach(content) == content
    assert attach(carrying, other) == attach(content, other)
    assert attach(content, CONTRACT) == carrying


def test_a_file_that_another_tool_packed_anew_keeps_its_bytes_and_its_contract_is_replaced(edge_models):
    carrying = repacked(attach(pathlib.Path(edge_models["int8"]).read_bytes(), CONTRACT))
    assert detach(carrying) == carrying
    other = InputContract.from_dict({"task": "regression"})
    assert read_contract(attach(carrying, other)) == other
    assert list(metadata(attach(carrying, other))).count("EDGE_EXRAY_INPUT_CONTRACT") == 1


def test_a_contract_is_read_from_a_path(edge_models, tmp_path):
    path = tmp_path / "edge.tflite"
    path.write_bytes(attach(pathlib.Path(edge_models["none"]).read_bytes(), CONTRACT))
    assert edge_exray.read_contract(path) == CONTRACT
    assert edge_exray.read_contract(edge_models["none"]) is None
    with pytest.raises(errors.ModelError, match=r"cannot read the edge model .*missing.tflite"):
        edge_exray.read_contract(tmp_path / "missing.tflite")


def test_a_damaged_file_or_contract_is_named(edge_models, tmp_path):
    carrying = attach(pathlib.Path(edge_models["none"]).read_bytes(), CONTRACT)
    path = tmp_path / "edge.tflite"
    path.write_bytes(carrying[:200])
    with pytest.raises(errors.ModelError, match=r"edge.tflite is damaged: its metadata cannot be read"):
        read_contract(path)
    path.write_bytes(carrying.replace(b'"mean"', b'"main"'))
    with pytest.raises(errors.SpecError, match=r"input contract of .*edge.tflite: inputs.image: .*'main'"):
        read_contract(path)


@pytest.mark.parametrize("outside", ["offset", "group"])
def test_a_model_whose_tensors_lie_elsewhere_is_refused(edge_models, outside):
    def move(model):
        if outside == "offset":
            model.buffers[3].offset, model.buffers[3].size = 4096, 16
        else:
            model.externalBuffers = [schema.ExternalBufferT()]

    content = repacked(pathlib.Path(edge_models["none"]).read_bytes(), move)
    with pytest.raises(errors.ModelError, match="weights lie outside the flatbuffer"):
        attach(content, CONTRACT)
