import json
import pathlib

import models_zoo
import numpy as np
import pytest

import edge_exray
from edge_exray import InputContract, errors, schemas
from edge_exray.conversion import converter
from edge_exray.models.metadata import detach
from edge_exray.models.tflite import EdgeModel

CONTRACT = InputContract.from_dict(
    {
        "inputs": {"image": {"channels": "RGB", "height": 16, "width": 16, "mean": 127.5, "std": 127.5}},
        "task": "classification",
        "labels": list(models_zoo.CLASSES),
    }
)


def test_converted_models_carry_the_contract_and_are_else_the_same(conv_net, edge_models, tmp_path):
    outputs = {str(tmp_path / mode): mode for mode in ("int8", "none")}
    frames = [{"image": image[np.newaxis]} for image in models_zoo.make_frames(40, seed=5)[0]]

    made = converter.convert_many(
        conv_net, outputs, signature="serving_dense", calibration=frames, input_contract=CONTRACT
    )

    for conversion in made:
        assert edge_exray.read_contract(conversion.path) == CONTRACT
        content = pathlib.Path(conversion.path).read_bytes()
        # Those were converted from the same frames without a contract.
        assert detach(content) == pathlib.Path(edge_models[conversion.quantization]).read_bytes()
        record = json.loads(conversion.to_json())
        schemas.check(record, "conversion", errors.ArtifactError)
        assert record["input_contract"] == CONTRACT.to_dict()
        assert (record["bytes"], record["fingerprint"]) == (len(content), EdgeModel(content).fingerprint)


@pytest.mark.parametrize("form", [CONTRACT, CONTRACT.to_dict(), CONTRACT.to_json()], ids=["itself", "dict", "text"])
def test_any_form_of_a_contract_is_taken(form, conv_net, tmp_path):
    options = {"quantization": "none", "signature": "serving_dense"}
    made = converter.convert(conv_net, tmp_path / "edge.tflite", input_contract=form, **options)
    assert made.notes == []
    assert edge_exray.read_contract(made.path) == CONTRACT


def test_calibration_frames_that_break_the_contract_are_noted(conv_net, tmp_path):
    frames = [{"image": 127 * image[np.newaxis]} for image in models_zoo.make_frames(6, seed=5)[0]]
    made = converter.convert(
        conv_net, tmp_path / "edge.tflite", signature="serving_dense", calibration=frames, input_contract=CONTRACT
    )
    [note] = made.notes
    assert note.startswith("6 calibration frames break the input contract, which may be false: input image reaches")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((1, 16, 16, 3), np.float32), "calibration frame 1 is of type ndarray: give a mapping"),
        (
            {"image": np.zeros((16, 16, 3), np.float32)},
            r"frame 1: input .* needs shape \[-1, 16, 16, 3\], with batch axis",
        ),
        ({"image": np.zeros((1, 16, 16, 3), np.complex64)}, "frame 1: what was given for input .* is complex64"),
    ],
)
def test_calibration_frames_that_do_not_fit_are_named(frame, words, conv_net, tmp_path):
    with pytest.raises(errors.DataError, match=words):
        converter.convert(conv_net, tmp_path / "edge.tflite", signature="serving_dense", calibration=[frame])
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_without_a_contract_says_so(conversions):
    assert json.loads(conversions["int8"].to_json())["input_contract"] is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"inputs": {"photo": {}}}, "the input contract declares photo, the inputs of the model are image"),
        ({"inputs": {"image": {"width": 32}}}, r"input image has width 16 \(shape \[-1, 16, 16, 3\]\), 32 is declared"),
        ({"task": "classification", "labels": ["cat", "dog"]}, "names 2 labels, no output of the model has as many"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused_and_no_file_written(conv_net, tmp_path, document, words):
    contract = InputContract.from_dict(document)
    with pytest.raises(errors.SpecError, match=words):
        converter.convert(
            conv_net,
            tmp_path / "edge.tflite",
            quantization="none",
            signature="serving_dense",
            input_contract=contract,
        )
    assert list(tmp_path.iterdir()) == []
