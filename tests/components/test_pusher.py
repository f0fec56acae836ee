"""A push that is killed."""

import pathlib

import pytest
from tfx import types
from tfx.components import Pusher as TfxPusher
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from edge_exray.components import Pusher


class Killed(BaseException):
    """Ends what runs without letting it tidy up."""


def push(kind: type[TfxPusher], folder: pathlib.Path, run: int, blessed: bool = True) -> types.Artifact:
    model, blessing, pushed = (
        standard_artifacts.Model(),
        standard_artifacts.ModelBlessing(),
        standard_artifacts.PushedModel(),
    )
    model.uri, pushed.uri = str(folder / "model"), str(folder / "pipeline" / str(run))
    blessing.set_int_custom_property("blessed", int(blessed))
    channel = types.Channel(type=standard_artifacts.Model)
    filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(folder / "serving"))
    component = kind(model=channel, push_destination=pusher_pb2.PushDestination(filesystem=filesystem))
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
    copies = []
    copy = fileio.copy

    def die_later(*arguments, **options) -> None:
        copies.append(arguments)
        if len(copies) == 2:
            raise Killed
        copy(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fileio, "copy", die_later)
        with pytest.raises(Killed):
            push(kind, model, 1)
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


def test_what_is_not_blessed_is_not_pushed_and_the_rest_of_a_killed_push_goes(model):
    push(Pusher, model, 1)
    (model / "serving" / "other").mkdir()
    pushed = push(Pusher, model, 2, blessed=False)
    assert pushed.get_int_custom_property("pushed") == 0
    assert len(visible(model)) == 1
    assert (model / "serving" / "other").exists()
