"""The `exray` command as a process: what it prints, and its exit status."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

MODULE = """
def reference_inputs_fn(example):
    return {"image": example["image"]}

def edge_inputs_fn(example):
    return {"image": example["image"][..., ::-1]}
"""


def exray(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_exray.cli.main", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What stderr says beyond LiteRT's announcement of its delegate."""
    return [line for line in result.stderr.splitlines() if line and not line.startswith("INFO: Created")]


@pytest.fixture
def validate(conv_net, edge_models, eval_examples, tmp_path):
    def run(*options, edge=edge_models["int8"], examples=eval_examples):
        fixed = ("--out", tmp_path / "out", "--float-edge", edge_models["none"], "--signature", "serving_dense")
        return exray("validate", conv_net, edge, "--examples", examples, *fixed, *options)

    return run


def test_a_healthy_model_ends_with_0(validate, tmp_path):
    result = validate("--profile")
    assert result.returncode == 0, result.stderr
    assert complaints(result) == []
    assert re.search(r"all \d+ checks passed on 60 frames", " ".join(result.stdout.split()))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["kernels"]["models"][0]["ops"]
    assert str(tmp_path / "out" / "report.html") in result.stdout.replace("\n", "")


def test_a_bug_ends_with_2_and_its_name(validate, tmp_path):
    module = tmp_path / "app.py"
    module.write_text(MODULE)
    result = validate("--module", module)
    assert result.returncode == 2
    assert "reversed channels (BGR instead of RGB)" in " ".join(result.stdout.split())


def test_too_few_frames_end_with_3(validate, eval_examples, tmp_path):
    few = tmp_path / "few.npz"
    np.savez(few, **{name: array[:10] for name, array in np.load(eval_examples).items()})
    assert validate(examples=few).returncode == 3


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
    result = exray("--debug", "profile", "missing.tflite")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


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
    assert "validation spec is not valid JSON" in result.stderr


def test_help_and_version():
    assert "validate" in exray("--help").stdout
    assert exray("--version").stdout.startswith("exray 0.")
