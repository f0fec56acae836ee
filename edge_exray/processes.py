"""Child processes that do not outlive the process that started them, also when that is killed.

A killed process cannot end its children: they would compute on, for nobody, for as long as it takes. The parent hands
its number down (`environment`), and the child asks Linux to be killed with it (`end_with_parent`). Other systems do
without.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

_PARENT = "EDGE_EXRAY_PARENT"
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def environment() -> dict[str, str]:
    """Returns the environment of a child that calls `end_with_parent`.

    Linux takes the end of the *thread* that starts a process for that of its parent: a thread that does not wait for
    the child uses `start`.
    """
    return {**os.environ, _PARENT: str(os.getpid())}


def end_with_parent(parent: int | None = None) -> None:
    """Lets this process be killed when its parent ends; a child calls it as soon as it runs.

    Args:
        parent: The parent; None takes the one that `environment` names, and does nothing where it names none.
    """
    handed_down = os.environ.pop(_PARENT, None)
    if parent is None and handed_down is not None:
        parent = int(handed_down)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen:
    """Starts a child that calls `end_with_parent`, whichever threads come and go here.

    Args:
        command: Program and arguments.
        **options: Of `subprocess.Popen`, but `env`.
    """
    started: Future[subprocess.Popen] = Future()

    def keep() -> None:
        try:
            process = subprocess.Popen(command, env=environment(), **options)
        except BaseException as e:  # raised in the thread that waits
            started.set_exception(e)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=keep, name="keeper of a child process", daemon=True).start()
    return started.result()
