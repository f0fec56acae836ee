"""Pushes that are killed, and pushes at the same time."""

import itertools
import os
import pathlib
import types as python_types
from collections.abc import Callable

import pytest
from tfx import types
from tfx.components import Pusher as TfxPusher
from tfx.components.pusher import executor as tfx_executor
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from edge_exray.components import Pusher


def when_copied(count: int, act: Callable[[], object], monkeypatch) -> None:
    """Acts once, before the file number `count` is copied."""
    copies = []
    copy = fileio.copy

    def acting(*arguments, **options) -> None:
        copies.append(arguments)
        if len(copies) == count:
            act()
        copy(*arguments, **options)

    monkeypatch.setattr(fileio, "copy", acting)


def to(base: str) -> pusher_pb2.PushDestination:
    return pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=base))


def push(
    kind: type[TfxPusher],
    folder: pathlib.Path,
    run: int,
    blessed: bool = True,
    destination: pusher_pb2.PushDestination | None = None,
) -> types.Artifact:
    model, blessing, pushed = (
        standard_artifacts.Model(),
        standard_artifacts.ModelBlessing(),
        standard_artifacts.PushedModel(),
    )
    model.uri, pushed.uri = str(folder / "model"), str(folder / "pipeline" / str(run))
    blessing.set_int_custom_property("blessed", int(blessed))
    channel = types.Channel(type=standard_artifacts.Model)
    destination = to(str(folder / "serving")) if destination is None else destination
    component = kind(model=channel, push_destination=destination)
    inputs = {"model": [model], "model_blessing": [blessing]}
    component.EXECUTOR_SPEC.executor_class().Do(inputs, {"pushed_model": [pushed]}, component.exec_properties)
    return pushed


@pytest.fixture
def model(tmp_path) -> pathlib.Path:
    """The folder of a Model artifact with three files."""
    for name in ("conversion.json", "labels.txt", "tflite"):
        path = tmp_path / "model" / "Format-Serving" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def visible(folder: pathlib.Path) -> list[list[str]]:
    """The files of each version that a server sees: TensorFlow Serving takes folders named by a number."""
    versions = folder.glob("serving/[0-9]*")
    return [sorted(path.name for path in version.iterdir()) for version in versions]


@pytest.mark.parametrize(("kind", "seen"), [(TfxPusher, 1), (Pusher, 0)])
def test_of_a_push_that_is_killed_no_part_is_seen_and_the_next_one_is_whole(kind, seen, model, monkeypatch):
    child = os.fork()
    if not child:
        # Unlike an exception, the end of a process lets nothing tidy up.
        try:
            when_copied(2, lambda: os._exit(1), monkeypatch)
            push(kind, model, 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert [len(files) for files in visible(model)] == [1] * seen
    if kind is TfxPusher:
        return  # what this one is better than

    pushed = push(kind, model, 2)
    assert visible(model) == [["conversion.json", "labels.txt", "tflite"]]
    assert [str(path) for path in (model / "serving").iterdir()] == [
        pushed.get_string_custom_property("pushed_destination")
    ]
    assert pushed.get_int_custom_property("pushed") == 1
    # The archive in the pipeline is TFX's own.
    assert sorted(path.name for path in pathlib.Path(pushed.uri).iterdir()) == [
        "conversion.json",
        "labels.txt",
        "tflite",
    ]


def test_a_push_during_another_one_leaves_both_whole(model, monkeypatch):
    clock = itertools.count(1)
    monkeypatch.setattr(tfx_executor, "time", python_types.SimpleNamespace(time=lambda: next(clock)))
    when_copied(2, lambda: push(Pusher, model, 2), monkeypatch)
    push(Pusher, model, 1)
    assert sorted(path.name for path in (model / "serving").iterdir()) == ["1", "2"]
    assert visible(model) == [["conversion.json", "labels.txt", "tflite"]] * 2


def test_in_a_bucket_what_others_copy_stays(model, monkeypatch):
    base = "ram://serving"
    # Of a folder, TensorFlow's file system in memory renames the entry, and not what is in it.
    monkeypatch.setattr(fileio, "rename", io_utils.copy_dir)
    fileio.makedirs(f"{base}/.pushing-other/1")
    pushed = push(Pusher, model, 1, destination=to(base))
    destination = pushed.get_string_custom_property("pushed_destination")
    assert sorted(fileio.listdir(destination)) == ["conversion.json", "labels.txt", "tflite"]
    assert sorted(name.rstrip("/") for name in fileio.listdir(base)) == sorted(
        [".pushing-other", os.path.basename(destination)]
    )


def test_a_destination_that_names_nothing_is_refused(model, monkeypatch):
    monkeypatch.chdir(model)
    empty = pusher_pb2.PushDestination()
    with pytest.raises(NotImplementedError, match="Invalid push destination None"):
        push(Pusher, model, 1, destination=empty)
    assert sorted(path.name for path in model.iterdir()) == ["model"]


def test_what_is_not_blessed_is_not_pushed(model):
    push(Pusher, model, 1)
    (model / "serving" / "other").mkdir()
    pushed = push(Pusher, model, 2, blessed=False)
    assert pushed.get_int_custom_property("pushed") == 0
    assert len(visible(model)) == 1
    assert (model / "serving" / "other").exists()
