import pathlib
import subprocess

import pytest
from writer_tests import Player, WriterTests, compiler

from edge_exray.monitor import read_log

HERE = pathlib.Path(__file__).parent
ROOM = HERE.parent.parent / "monitor_cpp"
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{ROOM}"]


def build(source: pathlib.Path, program: pathlib.Path, *flags: str) -> str:
    subprocess.run([compiler("g++"), *FLAGS, *flags, str(source), "-o", str(program)], check=True, timeout=120)
    return str(program)


@pytest.fixture(scope="module")
def player(tmp_path_factory) -> Player:
    folder = tmp_path_factory.mktemp("player")
    return Player([build(HERE / "player.cpp", folder / "player", "-O1")], folder)


class TestCpp(WriterTests):
    pass


def test_the_example_writes_a_log(tmp_path):
    # As on devices whose apps are built so.
    program = build(ROOM / "example.cpp", tmp_path / "example", "-fno-exceptions", "-fno-rtti")
    told = subprocess.run([program, str(tmp_path / "run.exray")], check=True, capture_output=True, text=True).stdout
    frames = list(read_log(tmp_path / "run.exray"))
    assert told == f"100 frames, {len(frames)} logged, 0 lost\n"
    assert {f.sampled_by for f in frames} == {"every", "label_change"}
