import pathlib
import subprocess

import pytest
from writer_tests import Player, WriterTests, compiler

from edge_exray.monitor import read_log

HERE = pathlib.Path(__file__).parent
ROOM = HERE.parent.parent / "monitor_java"
# Quick to start; no file of its own, which a limit on files would hit.
JAVA = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto"]


@pytest.fixture(scope="module")
def java(tmp_path_factory) -> list[str]:
    classes = tmp_path_factory.mktemp("classes")
    sources = [*ROOM.rglob("*.java"), HERE / "Player.java"]
    # That Java 8 is old is no fault of the sources.
    flags = ["--release", "8", "-Xlint:all,-options", "-Werror", "-encoding", "UTF-8"]
    subprocess.run([compiler("javac"), *flags, "-d", str(classes), *map(str, sources)], check=True, timeout=120)
    return [compiler("java"), *JAVA, "-cp", str(classes)]


@pytest.fixture(scope="module")
def player(java, tmp_path_factory) -> Player:
    return Player([*java, "Player"], tmp_path_factory.mktemp("player"))


class TestJava(WriterTests):
    pass


def test_the_example_writes_a_log(java, tmp_path):
    command = [*java, "Example", str(tmp_path / "run.exray")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    frames = list(read_log(tmp_path / "run.exray"))
    assert told == f"100 frames, {len(frames)} logged, 0 lost\n"
    assert {f.sampled_by for f in frames} == {"every", "label_change"}
