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
    return Player([build(HERE / "player.cpp", folder / "player")], folder)


class TestCpp(WriterTests):
    pass


def test_the_example_writes_a_log(tmp_path):
    # As on devices whose apps are built so.
    program = build(ROOM / "example.cpp", tmp_path / "example", "-fno-exceptions", "-fno-rtti")
    told = subprocess.run([program, str(tmp_path / "run.exray")], check=True, capture_output=True, text=True).stdout
    frames = list(read_log(tmp_path / "run.exray"))
    assert told == f"100 frames, {len(frames)} logged, 0 lost\n"
    assert {f.sampled_by for f in frames} == {"every", "label_change"}


def test_an_interpreter_of_tensorflow_lite_is_logged(player, tmp_path):
    subprocess.run([*player.command, "tflite", str(tmp_path / "run.exray")], check=True)
    log = read_log(tmp_path / "run.exray")
    first, blind, failed, twice = log
    image, scores = first.inputs["image"], first.outputs["scores"]
    words, layer = first.layers["1/words"], first.layers["2/net/layer"]
    # Before the run, which overwrites it.
    assert image.value.tolist() == [[0, 1, 2, 3]]
    assert image.real().tolist() == [[1.5, 2, 2.5, 3]]
    assert words.value.tolist() == [b"hi", b"you"]
    assert layer.real().tolist() == [[0, 0.25, 0.25, 6]]
    assert scores.value.tolist() == [0, 6]
    assert list(first.layers) == ["1/words", "2/net/layer", "3/StatefulPartitionedCall:0"]
    assert len(first.spans["inference"]) == 1
    assert not blind.layers
    assert blind.outputs
    assert failed.error == "TfLiteStatus: 1"
    assert not failed.outputs
    assert len(twice.spans["inference"]) == 1
    assert twice.outputs["scores"].value.tolist() == [6, 12]
    (counts,) = log.report.counts.values()
    losses = {key: n for key, n in counts.items() if "/" in key}
    assert losses == {"dropped/encode": 1, "problems/layers": 1, "problems/run": 1}
