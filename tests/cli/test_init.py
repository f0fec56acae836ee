import pathlib
import subprocess
import sys

import pytest
from exray_command import exray

from edge_exray.cli import init

FILES = {pathlib.Path(name) for name in init.FILES}


def files(folder: pathlib.Path) -> set[pathlib.Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_a_project_is_named_after_its_folder(tmp_path):
    result = exray("init", tmp_path / "new" / "My Model 2")
    assert result.returncode == 0
    project = tmp_path / "new" / "My Model 2"
    assert f"cd '{project}' && python run_local.py" in result.stdout
    assert files(project) == FILES
    assert 'PIPELINE_NAME = "my-model-2"' in (project / "pipeline.py").read_text()
    assert (project / "README.md").read_text().startswith("# my-model-2\n")
    assert [path.name for path in project.parent.iterdir()] == [project.name]


def test_its_code_is_clean_where_it_stands_alone(tmp_path):
    init.write_project(tmp_path / "demo")
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--extend-select=I", "--no-cache"]
    result = subprocess.run(ruff, cwd=tmp_path / "demo", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_an_empty_folder_is_taken_and_stays_the_same(tmp_path, monkeypatch):
    folder = tmp_path / "demo"
    folder.mkdir()
    before = folder.stat().st_ino
    monkeypatch.chdir(folder)
    assert exray("init", ".", "--name", "other").returncode == 0
    assert folder.stat().st_ino == before
    assert files(folder) == FILES
    assert 'PIPELINE_NAME = "other"' in (folder / "pipeline.py").read_text()


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_a_folder_with_anything_in_it_is_left_alone(tmp_path, name):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / name).write_text("mine")
    result = exray("init", tmp_path / "demo")
    assert result.returncode == 1
    assert "has files in it: nothing was written; name a new or an empty folder" in result.stderr
    assert files(tmp_path) == {pathlib.Path("demo", name)}


def test_a_file_in_the_way_and_an_impossible_name_are_errors(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in exray("init", tmp_path / "file").stderr
    assert "is a file" in exray("init", tmp_path / "file" / "demo").stderr
    assert "cannot be called 'Demo!'" in exray("init", tmp_path / "demo", "--name", "Demo!").stderr
    assert "cannot be called '2024'" in exray("init", tmp_path / "2024").stderr
    assert files(tmp_path) == {pathlib.Path("file")}


def test_a_failure_midway_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(init, "FILES", (*init.FILES, "missing.py"))
    assert exray("init", tmp_path / "demo").returncode == 1
    assert list(tmp_path.iterdir()) == []
