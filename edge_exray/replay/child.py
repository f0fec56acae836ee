"""Child processes that run kernels which may abort: pickled questions go in, pickled answers come out."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

from edge_exray import processes

ENDED = (EOFError, BrokenPipeError, pickle.UnpicklingError)
"""What `Child.ask` raises when the process has ended."""


class Child:
    """A running worker.

    Args:
        module: Name of the module that it runs; the module ends with `serve`.
        request: The first question.

    Raises:
        ENDED: The process ended before it answered.

    Attributes:
        first: The answer to `request`.
    """

    def __init__(self, module: str, request: Any) -> None:
        # Open as long as the process: `close` reads what it wrote.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = processes.start(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        try:
            self.first = self.ask(request)
        except ENDED as e:
            raise EOFError(self.close()) from e

    def ask(self, question: Any) -> Any:
        """Returns the answer to a question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(question, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def close(self) -> str:
        """Ends the process and returns the last line that it wrote."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # it had not read all of the last question
            self._process.stdin.close()
        with self._errors as stream:
            stream.seek(0)
            lines = stream.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def serve(main: Callable[[BinaryIO, BinaryIO], None]) -> None:
    """Runs the worker in this process: `main` reads questions from one stream and writes answers to the other."""
    processes.end_with_parent()
    # Kernels print to the standard output; the answers have a copy of it, and what is printed goes to the error output.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    main(sys.stdin.buffer, channel)


def answer(answers: BinaryIO, value: Any) -> None:
    """Writes one answer."""
    pickle.dump(value, answers)
    answers.flush()
