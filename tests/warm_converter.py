"""Spares the tests of conversions what each child process of the converter begins with: importing TensorFlow.

The children are forks of one process that has imported it. All else is theirs alone, as it is of a child that starts
from nothing: the memory, the death, the folder and the output.
"""

import contextlib
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from typing import IO

import pytest

from edge_exray.conversion import converter

_MODULE = "edge_exray.conversion.worker"
_GENUINE = converter._WORKER
_PRELOADED = ["tensorflow", "tensorflow.lite.python.convert_phase", "ai_edge_quantizer.quantizer", _MODULE]
# What `converter` sets for a child, and what TensorFlow reads when it is imported.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@contextlib.contextmanager
def warm() -> Iterator[None]:
    """Has `converter` fork its children from one process that has imported TensorFlow."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)

    class Fork:
        """What the converter asks of `subprocess.Popen`."""

        def __init__(self, arguments: Sequence[str], cwd: pathlib.Path, stdout: IO[bytes]) -> None:
            self._process = context.Process(target=_work, args=(arguments, str(cwd), stdout.name), daemon=True)
            with pytest.MonkeyPatch.context() as patch:  # the first one starts the process that imports
                for name, value in _ENVIRONMENT.items():
                    patch.setenv(name, value)
                self._process.start()
            self.pid = self._process.pid

        @property
        def returncode(self) -> int | None:
            return self._process.exitcode

        def wait(self, timeout: float | None = None) -> None:
            self._process.join(timeout)
            if self.returncode is None:
                raise subprocess.TimeoutExpired(_MODULE, timeout or 0)

        def kill(self) -> None:
            self._process.kill()

    def popen(command: Sequence[str], **options) -> "Fork | subprocess.Popen[bytes]":
        if tuple(command[:-1]) != _GENUINE:
            return subprocess.Popen(command, **options)
        return Fork(command[-1:], options["cwd"], options["stdout"])

    forking = types.SimpleNamespace(**{**vars(subprocess), "Popen": popen})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converter, "subprocess", forking)
        yield


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Starts the children of the converter from nothing: what a test compares may depend on the process it is made in.

    Forks of one process have the same seed of hashes, for one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converter, "subprocess", subprocess)
        yield


def _work(arguments: list[str], folder: str, output: str) -> None:
    with open(output, "ab", buffering=0) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    os.chdir(folder)
    sys.argv[1:] = arguments
    try:
        runpy.run_module(_MODULE, run_name="__main__", alter_sys=True)
    except Exception:
        # The process that forks would print it, and not ask the hook that the worker sets.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
