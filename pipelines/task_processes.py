"""Processes for tasks that all run Python modules of TFX, without each paying 20 s for importing it.

`TaskProcesses` starts one process that imports what the tasks need, and each task runs in a fork of that one: with its
own memory, arguments, folder, log and death, as in a container.
"""

import contextlib
import importlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import traceback
import types
from collections.abc import Mapping, Sequence

from edge_exray import errors, processes


class TaskProcesses:
    """Runs Python modules as `python -m` does, each in a process of its own. It is a context manager.

    Args:
        modules: What to import once for all; what fails to import is left to the tasks.
        folder: Where to start, empty but for the log: what lies in the current folder is not to be importable.

    Attributes:
        log: Output of the imports.
    """

    def __init__(self, modules: Sequence[str], folder: str | os.PathLike[str]) -> None:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        self._imported = False
        self.log = pathlib.Path(folder, "imports.log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, *modules],
                cwd=folder,
                env=processes.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )

    def __enter__(self) -> "TaskProcesses":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        assert self._process.stdin
        # Its end of input tells it to end.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def wait_for_imports(self) -> None:
        """Waits until the modules are imported.

        Raises:
            TaskError: The importing process died.
        """
        if not self._imported:
            self._answer()
            self._imported = True

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        folder: str | os.PathLike[str],
        log: str | os.PathLike[str],
        environment: Mapping[str, str],
    ) -> int:
        """Runs a module to its end.

        Args:
            module: What would stand behind `python -m`.
            arguments: Its command line.
            folder: Its current folder, the first place that it imports from.
            log: File that its output is appended to.
            environment: Further environment variables.

        Returns:
            Its exit status; negative the signal that killed it.

        Raises:
            TaskError: The importing process died.
        """
        self.wait_for_imports()
        assert self._process.stdin
        task = {
            "module": module,
            "arguments": list(arguments),
            "folder": os.fspath(folder),
            "log": os.fspath(log),
            "environment": dict(environment),
        }
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise errors.TaskError(f"the process that imports TFX for all tasks died; see {self.log}")
        return int(line)


def _serve(modules: Sequence[str]) -> None:
    """Forks for every line of the standard input and answers with the exit status of the fork."""
    requests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What the modules print is no answer.
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:
            traceback.print_exc()
    print(0, file=answers, flush=True)
    for line in requests:
        task = json.loads(line)
        server = os.getpid()
        process = os.fork()
        if not process:
            processes.end_with_parent(server)
            _work(**task)
            return
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _work(module: str, arguments: Sequence[str], folder: str, log: str, environment: Mapping[str, str]) -> None:
    with open(log, "ab", buffering=0) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv[1:] = arguments
    # A module that runs is executed anew.
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    processes.end_with_parent()
    _serve(sys.argv[1:])
