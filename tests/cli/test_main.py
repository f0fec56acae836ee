"""The `exray` command: what it prints, and its exit status."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import models_zoo
import numpy as np
import pytest
import tampering
import typer.testing
from exray_command import REVERSING_MODULE, complaints, exray, exray_process

from edge_exray import errors
from edge_exray.cli import main
from edge_exray.models.tflite import EdgeModel
from edge_exray.monitor import EdgeMonitor


@pytest.fixture
def validate(conv_net, edge_models, eval_examples, tmp_path):
    def run(*options, edge=edge_models["int8"], examples=eval_examples, start=exray):
        fixed = ("--out", tmp_path / "out", "--float-edge", edge_models["none"], "--signature", "serving_dense")
        return start("validate", conv_net, edge, "--examples", examples, *fixed, *options)

    return run


def test_a_healthy_model_ends_with_0(validate, tmp_path):
    result = validate("--profile", "--environment", "xnnpack:2", start=exray_process)
    assert result.returncode == 0, result.stderr
    assert complaints(result) == []
    assert re.search(r"all \d+ checks passed on 140 frames", " ".join(result.stdout.split()))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["kernels"]["models"][0]["ops"]
    assert [environment["name"] for environment in report["instability"]["environments"]] == ["edge", "xnnpack:2"]
    assert str(tmp_path / "out" / "report.html") in result.stdout.replace("\n", "")


def test_a_bug_ends_with_2_and_its_name(validate, tmp_path):
    module = tmp_path / "app.py"
    module.write_text(REVERSING_MODULE)
    result = validate("--module", module)
    assert result.returncode == 2
    assert "reversed channels (BGR instead of RGB)" in " ".join(result.stdout.split())


def test_too_few_frames_end_with_3_or_are_let_go(validate, eval_examples, tmp_path):
    few = tmp_path / "few.npz"
    np.savez(few, **{name: array[:10] for name, array in np.load(eval_examples).items()})
    assert validate(examples=few).returncode == 3
    spec = tmp_path / "spec.json"
    spec.write_text('{"on_inconclusive": "pass"}')
    let_go = validate("--spec", spec, examples=few)
    assert let_go.returncode == 0
    assert "inconclusive" in let_go.stdout


def test_an_error_is_one_line_and_ends_with_1(validate, tmp_path):
    result = validate(edge="missing.tflite")
    assert result.returncode == 1
    assert complaints(result) == ["exray: cannot read the edge model missing.tflite: No such file or directory"]
    assert not pathlib.Path(tmp_path / "out").exists()


def test_frames_may_fail_when_told_so(validate, tmp_path):
    module = tmp_path / "app.py"
    module.write_text(
        "import numpy as np\ncalls = 0\n\n"
        "def label_fn(example):\n    global calls\n    calls += 1\n"
        "    if calls == 30:\n        raise KeyError('no such class')\n    return example['label']\n"
    )
    refused = validate("--module", module)
    assert refused.returncode == 1
    assert "label_fn of" in complaints(refused)[0]
    result = validate("--module", module, "--max-failed-frames", 1, "--worst-frames", 2)
    assert result.returncode == 0, result.stderr
    assert "1 more frames could not be replayed" in " ".join(result.stdout.split())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"]["failed"] == 1
    assert len(report["worst_frames"]) == 2


def test_debug_shows_where_an_error_arose():
    result = exray_process("--debug", "profile", "missing.tflite")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


UNEXPECTED = """
import sys
import {package}
from edge_exray import api
from edge_exray.cli import main

def fail(*arguments, **options):
    a_local_value = 1
    raise {error}

api.check_paths = fail
sys.argv = ["exray", "validate", "a", "b", "--examples", "c", "--out", "d"]
main.main()
"""


def run_unexpected(error: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", UNEXPECTED.format(package="edge_exray", error=error)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_an_error_of_the_system_is_one_line():
    result = run_unexpected("OSError(28, 'No space left on device', '/full/report.html')")
    assert result.returncode == 1
    assert complaints(result) == ["exray: /full/report.html: No space left on device"]


def test_a_bug_is_a_plain_traceback():
    result = run_unexpected("ZeroDivisionError('a bug')")
    assert result.returncode == 1
    assert result.stderr.endswith("ZeroDivisionError: a bug\n")
    assert "a_local_value = 1" not in result.stderr
    assert "╭" not in result.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"edge": "missing.tflite"}, "cannot read the edge model missing.tflite: No such file or directory"),
        ({"edge": "{folder}"}, "{folder} is a folder, not a .tflite file (give the .tflite in it)"),
        ({"edge": "{cloud}"}, "{cloud} is a folder, not a .tflite file (a SavedModel: convert it first)"),
        ({"edge": "{file}"}, "{file} is not a .tflite file: it lacks the identifier TFL3; convert it first"),
        ({"float_edge": "missing.tflite"}, "cannot read the edge model missing.tflite: No such file or directory"),
        ({"cloud": "nowhere"}, "there is no SavedModel in nowhere: it has no saved_model.pb"),
        (
            {"cloud": "{cloud}/saved_model.pb"},
            "{cloud}/saved_model.pb is the graph of a SavedModel: give the folder that it is in, {cloud}",
        ),
        ({"cloud": "{file}"}, "{file} is a file: a SavedModel is a folder with a saved_model.pb"),
        ({"examples": "evl.npz"}, "no examples at evl.npz: there is no such file; give an .npz, .npy or TFRecord file"),
        ({"examples": "*.tfrecord"}, "no examples at *.tfrecord: there is no such file"),
        ({"examples": "{folder}"}, "no examples at {folder}: the folder is empty; give"),
        ({"out": "{file}"}, "cannot write to the folder {file}: {file} is a file; name another folder"),
        ({"out": "{file}/out"}, "cannot write to the folder {file}/out: {file} is a file; name another folder"),
    ],
)
def test_a_wrong_path_is_told_before_tensorflow_is_imported(
    change, words, conv_net, edge_models, eval_examples, tmp_path, monkeypatch
):
    places = {"cloud": conv_net, "folder": str(tmp_path / "empty"), "file": str(tmp_path / "a.txt")}
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("a text")
    given = {"cloud": conv_net, "edge": edge_models["int8"], "examples": eval_examples, "out": tmp_path / "out"} | {
        name: value.format(**places) for name, value in change.items()
    }
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(errors.ExrayError) as caught:
        typer.testing.CliRunner().invoke(
            main.app,
            ["validate", given.pop("cloud"), given.pop("edge")]
            + [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))],
            standalone_mode=False,
            catch_exceptions=False,
        )
    assert str(caught.value).startswith(words.format(**places))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["validate", "profile"])
def test_the_help_has_one_default_an_option(command):
    text = exray(command, "--help").stdout
    assert "default: None" not in text
    assert "xnnpack" in text or command == "validate"


@pytest.mark.parametrize(
    "arguments", [["validate", "--bogus"], ["nonsense"], ["validate"], ["profile", "--top", "x", "m"]]
)
def test_a_misspelt_command_is_an_error_and_not_a_verdict(arguments):
    result = exray(*arguments)
    assert result.returncode == 1
    assert "Usage" in result.stderr


def test_a_spec_that_is_no_json_is_named(validate, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text('{"min_frames": }')
    result = validate("--spec", spec)
    assert result.returncode == 1
    assert f"validation spec {spec} is not valid JSON" in result.stderr


def test_logs_stand_in_the_place_of_examples(conv_net, edge_models, tmp_path):
    images, labels = models_zoo.make_frames(8, seed=2)
    model = EdgeModel(edge_models["none"], signature="serving_dense")
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", model=edge_models["none"], policy="block") as monitor:
        for image, label in zip(images, labels, strict=True):
            with monitor.frame(raw={"image": image}) as frame:
                frame.log(label=label)
                frame.run(model.interpreter, {"image": image[np.newaxis, ..., ::-1]})
    fixed = ("--logs", tmp_path / "run.exray", "--out", tmp_path / "out", "--signature", "serving_dense")
    edge = edge_models["none"]
    result = exray("validate", conv_net, edge, "--float-edge", edge, *fixed)
    assert result.returncode == 2, result.stderr
    assert "reversed channels (BGR instead of RGB)" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert 'id="devices"' in page
    assert "inference" in page[page.index('id="devices"') :]

    other = exray("validate", conv_net, edge_models["int8"], *fixed)
    assert other.returncode == 1
    assert model.fingerprint in complaints(other)[0]
    assert "one of the two" in complaints(exray("validate", conv_net, edge, "--examples", tmp_path, *fixed))[0]


def test_a_misspelt_limit_is_named_with_its_file(validate, tmp_path):
    spec = tmp_path / "limits.json"
    spec.write_text('{"max_label_flips": 0.1}')
    assert complaints(validate("--spec", spec))[0].startswith(
        f"exray: validation spec {spec} has the unknown key max_label_flips; did you mean max_label_flip_rate? Its keys"
    )


def test_lint_ends_with_2_where_a_finding_is_an_error(edge_models, tmp_path):
    assert exray("lint", edge_models["int8"]).returncode == 0
    broken, out = tmp_path / "broken.tflite", tmp_path / "lint.json"
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    broken.write_bytes(tampering.replace_op(content, 5, "FlexSoftmax"))
    result = exray("lint", broken, "--out", out)
    assert result.returncode == 2
    assert "error flex_op op 5 FlexSoftmax" in result.stdout
    assert "1 error, 0 warnings, 0 notes" in result.stdout
    assert json.loads(out.read_text())["counts"]["error"] == 1
    assert exray("lint", broken, "--expected-op", "Flex*").returncode == 0
    result = exray("lint", tmp_path / "absent.tflite")
    assert result.returncode == 1
    assert len(complaints(result)) == 1


def test_what_needs_tensorflow_names_the_extra_that_brings_it(monkeypatch, conv_net, edge_models):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    result = exray("lint", edge_models["int8"], "--cloud", conv_net)
    assert result.returncode == 1
    assert re.fullmatch(r"exray: .*tensorflow.*edge-exray\[convert\].*\n", result.stderr)


def test_help_and_version():
    assert "validate" in exray("--help").stdout
    assert exray("--version").stdout.startswith("exray 0.")
