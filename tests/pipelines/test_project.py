"""The project that `exray init` writes, run as its user runs it."""

import functools
import pathlib
import sys

import pytest
import yaml
from exray_command import exray

from edge_exray import errors
from edge_exray.pipelines import tiles

pytestmark = pytest.mark.pipeline

# Enough for a model that the thresholds fit, in a fraction of the time.
TRAIN_STEPS = 60
TILES_PER_CLASS = 60


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A new project; its modules can be imported while the tests run."""
    folder = tmp_path_factory.mktemp("empty") / "shop-cameras"
    assert exray("init", folder).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("pipeline", "run_local", "run_kubeflow"):
        sys.modules.pop(name, None)


def test_it_pushes_a_model_and_its_lineage_is_there(project, monkeypatch, capsys):
    import run_local

    write = functools.partial(tiles.write_tfrecords, tiles_per_class=TILES_PER_CLASS)
    monkeypatch.setattr(tiles, "write_tfrecords", write)
    monkeypatch.setattr(sys, "argv", ["run_local.py", "--train-steps", str(TRAIN_STEPS)])
    status = run_local.main()
    printed = capsys.readouterr().out.splitlines()[-3:]
    assert status == 0, printed
    destination, report, profile = (line.partition("to " if "pushed" in line else ": ")[2] for line in printed)
    assert pathlib.Path(destination).parent == project / "out/pushed"
    assert pathlib.Path(report).name == "report.html"
    assert all(pathlib.Path(path).exists() for path in (destination, report, profile))

    told = exray("lineage", project / "out/metadata.sqlite", destination).stdout
    assert "of shop-cameras)" in told
    assert "not in the metadata" not in told
    for channel in ("conversion_report", "float_edge_model", "replay", "profile", "examples", "report"):
        assert f"─ {channel} " in told or f"and {channel} " in told


def test_it_compiles_for_kubeflow(project, tmp_path, monkeypatch, capsys):
    import run_kubeflow

    monkeypatch.chdir(tmp_path)
    places = [f"--{name}={tmp_path / name}" for name in ("root", "data", "push-to")]
    monkeypatch.setattr(sys, "argv", ["run_kubeflow.py", "--image=registry.example/edge-exray:1", *places])
    run_kubeflow.main()
    assert capsys.readouterr().out.endswith("compiled to pipeline.yaml\n")
    compiled = yaml.safe_load((tmp_path / "pipeline.yaml").read_text("utf-8"))
    assert compiled["pipelineInfo"]["name"] == "shop-cameras"
    assert set(compiled["root"]["inputDefinitions"]["parameters"]) == {"data_root", "push_destination"}
    assert set(compiled["root"]["dag"]["tasks"]["Pusher"]["dependentTasks"]) == {
        "EdgeConverter",
        "LayerValidator",
        "KernelProfiler",
    }


def test_a_root_that_module_files_cannot_be_written_to_is_refused(project, tmp_path, monkeypatch):
    import run_kubeflow

    monkeypatch.chdir(tmp_path)
    places = [f"--{name}=minio://bucket/{name}" for name in ("root", "data", "push-to")]
    monkeypatch.setattr(sys, "argv", ["run_kubeflow.py", "--image=registry.example/edge-exray:1", *places])
    with pytest.raises(errors.SpecError, match=r"module files of .* root minio://bucket/root: .* gs:// bucket or"):
        run_kubeflow.main()
    assert list(tmp_path.iterdir()) == []
