import pathlib
import re

import pytest
import tampering

import edge_exray
from edge_exray import InputContract, errors
from edge_exray.models.metadata import attach

CONV, DENSE = 0, 4


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8"])
def test_constants_of_the_cloud_model_are_found_in_every_mode(mode, conv_net, edge_models):
    result = edge_exray.lint(
        edge_models[mode], cloud=conv_net, float_edge=edge_models["none"], signature="serving_dense"
    )
    assert not result.findings


def test_changed_constant_is_named_with_its_factor(conv_net, edge_models, tmp_path):
    path = tmp_path / "changed.tflite"
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    path.write_bytes(tampering.scale_filter_step(content, DENSE, 1.5))
    assert edge_exray.lint(path)
    # The float edge model is made here.
    result = edge_exray.lint(path, cloud=conv_net, signature="serving_dense")
    assert not result
    [finding] = result.findings
    assert (finding.rule, finding.op, finding.op_name) == ("changed_constant", DENSE, "FULLY_CONNECTED")
    assert re.match(r"1\.(49|50)\d times what they were; reference: .* of the cloud model", finding.value)


def test_file_that_production_kernels_refuse_is_told(edge_models, tmp_path):
    path = tmp_path / "changed.tflite"
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    path.write_bytes(tampering.replace_op(content, DENSE, "CONV_3D"))
    [finding] = [f for f in edge_exray.lint(path).findings if f.rule == "does_not_load"]
    assert "CONV_3D" in finding.value
    assert finding.severity == "error"


def test_damaged_input_contract_is_told(edge_models, tmp_path):
    path = tmp_path / "changed.tflite"
    contract = InputContract.from_dict({"inputs": {"image": {"channels": "RGB"}}})
    content = attach(pathlib.Path(edge_models["int8"]).read_bytes(), contract)
    path.write_bytes(content)
    assert not edge_exray.lint(path).findings
    path.write_bytes(content.replace(b'"channels"', b'"chonnels"'))
    [finding] = edge_exray.lint(path).findings
    assert finding.rule == "damaged_contract"
    assert "chonnels" in finding.value


def test_another_model_is_refused(edge_models, conv_net, tmp_path):
    with pytest.raises(errors.ModelError):
        edge_exray.lint(edge_models["int8"], cloud=tmp_path / "absent", float_edge=edge_models["none"])
