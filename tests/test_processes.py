"""Child processes when the one that started them is killed, or only its thread ends."""

import os
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from edge_exray import files

CHILD = """
import time
from edge_exray import processes
processes.end_with_parent()
print("ready", flush=True)
print(input(), flush=True)
time.sleep(1000)
"""
# Starts a child from a thread that ends when it is ready, and tells its number if it answers after that.
PARENT = f"""
import subprocess, sys, threading, time
from edge_exray import processes
def start():
    global child
    pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}}
    child = processes.start([sys.executable, "-c", {CHILD!r}], **pipes)
    child.stdout.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(0.2)
child.stdin.write("alive\\n")
child.stdin.flush()
print(child.pid if child.stdout.readline() else 0, flush=True)
child.wait()
"""
# Converts, which takes long enough to be killed meanwhile.
CONVERT = """
import sys
from edge_exray.conversion import converter
converter.convert(sys.argv[1], sys.argv[2], quantization="none")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")


def wait_for(condition) -> None:
    """Waits until something is the case; the limit is for what never happens."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_outlives_the_thread_that_started_it_but_not_the_process():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        assert child, "it did not answer"
    wait_for(lambda: not is_running(child))


def test_a_child_whose_parent_is_gone_already_ends():
    environment = {**os.environ, "EDGE_EXRAY_PARENT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, check=False, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_a_killed_conversion_leaves_no_process_no_model_and_a_folder_that_the_next_one_removes(
    conv_net, tmp_path, monkeypatch
):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    out = tmp_path / "out" / "edge.tflite"
    parent = subprocess.Popen([sys.executable, "-c", CONVERT, conv_net, str(out)], env=environment)
    wait_for(lambda: list(tmp_path.glob("exray-convert-*/step")))
    (worker,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(worker.pid))
    assert not out.parent.exists()

    (left,) = tmp_path.glob("exray-convert-*")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with files.scratch("exray-convert-") as folder:
        assert not left.exists()
        with files.scratch("exray-convert-") as other:
            assert set(tmp_path.glob("exray-convert-*")) == {folder, other}
    assert not list(tmp_path.glob("exray-convert-*"))


def test_a_folder_that_another_process_takes_for_a_left_one_is_made_anew(tmp_path, monkeypatch):
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**where: str) -> str:
        made.append(make(**where))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with files.scratch("exray-x-", tmp_path) as folder:
        assert [str(folder)] == made[1:]
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())
