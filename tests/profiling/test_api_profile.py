import json
import pathlib

import pytest

import edge_exray
from edge_exray import errors

FEW = {"runs": 10, "warmup_runs": 1, "precision": None}


def test_a_path_is_the_edge_model_and_out_receives_every_form(int8_net, tmp_path):
    found = edge_exray.profile(pathlib.Path(int8_net), spec=json.dumps(FEW), out=tmp_path)
    assert [(model.role, model.path) for model in found.models] == [("edge", int8_net)]
    names = ["chrome_trace.json", "model_explorer", "profile.html", "profile.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert edge_exray.Profile.load(tmp_path) == found

    # What was written is a baseline in each of its forms.
    spec = {**FEW, "max_latency_growth": 1e6}
    for baseline in (found, tmp_path, str(tmp_path / "profile.json")):
        again = edge_exray.profile(int8_net, spec=spec, baseline=baseline)
        assert [check.name for check in again.checks] == ["regression"]


def test_several_paths_and_roles(int8_net, float_net):
    several = edge_exray.profile([int8_net, float_net], spec=FEW)
    assert [model.role for model in several.models] == ["edge", float_net]
    roles = edge_exray.profile({"float_edge": float_net, "edge": int8_net}, spec=FEW)
    assert [model.role for model in roles.models] == ["edge", "float_edge"]


@pytest.mark.parametrize("models", [[], [3], 3, ["a.tflite", "b.tflite", "b.tflite"]])
def test_what_names_no_models_is_refused(models):
    with pytest.raises(errors.ProfilingError, match="give"):
        edge_exray.profile(models)


def test_what_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ArtifactError, match="is a file"):
        edge_exray.profile("missing.tflite", out=tmp_path / "file")


def test_the_document_and_the_artifact_have_a_name_each():
    from edge_exray.components import types

    assert edge_exray.KernelProfile is types.KernelProfile
    assert edge_exray.KernelProfile.TYPE_NAME == "edge_exray.KernelProfile"
    assert edge_exray.Profile.__name__ == "Profile"
