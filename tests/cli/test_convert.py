"""`exray convert`."""

import json
import re

import pytest
from exray_command import REVERSING_MODULE, complaints, exray

from edge_exray import schemas
from edge_exray.contract import InputContract
from edge_exray.errors import ArtifactError
from edge_exray.models.metadata import read_contract
from edge_exray.models.tflite import EdgeModel


def convert(saved_model, *options):
    return exray("convert", saved_model, *options)


def test_what_was_asked_for_is_written_and_told(conv_net, eval_examples, tmp_path):
    contract = tmp_path / "contract.json"
    contract.write_text('{"inputs": {"image": {"channels": "RGB", "height": 16, "width": 16}}}')
    module = tmp_path / "app.py"
    module.write_text(REVERSING_MODULE)
    result = convert(
        conv_net,
        *("--out", tmp_path / "edge.tflite", "--report", tmp_path / "conversion.json", "--examples", eval_examples),
        *("--module", module, "--signature", "serving_dense", "--num-examples", 12, "--input-contract", contract),
        *("--keep-float-layer", "depthwise/.*"),
    )
    assert result.returncode == 0, result.stderr
    assert complaints(result) == []
    record = json.loads((tmp_path / "conversion.json").read_text())
    schemas.check(record, "conversion", ArtifactError)
    assert (record["quantization"], record["calibration"]["frames"]) == ("int8", 12)
    [kept] = record["kept_layers"]
    text = " ".join(result.stdout.split())
    assert f"kept in float: {kept}" in text
    assert "input image: int8 [-1, 16, 16, 3]" in text
    edge = EdgeModel(tmp_path / "edge.tflite")
    assert edge.bytes == record["bytes"]
    assert edge.inputs["image"].dtype.name == "int8"
    assert read_contract(edge.path) == InputContract.from_json(contract.read_text())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--signature", "serving_dense"], "quantization 'int8' measures .*--examples"),
        (["--quantization", "int7"], "unknown quantization 'int7'"),
        (["--examples", "nowhere.npz"], "nowhere.npz"),
        (["--quantization", "recipe"], "recipe"),
        (["--input-contract", "nowhere.json"], "cannot read the input contract nowhere.json"),
    ],
)
def test_what_cannot_be_is_one_line_and_no_file(options, words, conv_net, tmp_path):
    result = convert(conv_net, "--out", tmp_path / "edge.tflite", *options)
    assert result.returncode == 1
    [line] = complaints(result)
    assert re.search(words, line)
    assert list(tmp_path.iterdir()) == []
