"""The `exray` command, run as the tests of the command line need it."""

import contextlib
import io
import os
import subprocess
import sys

import pytest

from edge_exray.cli import main

REVERSING_MODULE = """
def reference_inputs_fn(example):
    return {"image": example["image"]}

def edge_inputs_fn(example):
    return {"image": example["image"][..., ::-1]}
"""


def exray(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs it in this process, which has imported TensorFlow already."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["exray", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())


def exray_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs it as a user does, who also sees what libraries write while they load."""
    command = [sys.executable, "-m", "edge_exray.cli.main", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stderr.splitlines() if line]
