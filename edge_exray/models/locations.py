"""What lies at the path of a model, told without loading it: mistakes in a path show before anything heavy starts."""

import os
import pathlib

from edge_exray import errors

_GRAPH = "saved_model.pb"
_IDENTIFIER = b"TFL3"
_IDENTIFIER_END = 8


def is_remote(path: str) -> bool:
    """Returns whether only TensorFlow's file systems can look at a path, such as `gs://bucket/model`."""
    return "://" in path


def check_saved_model(path: str | os.PathLike[str]) -> None:
    """Makes sure that a folder of this machine may be a SavedModel; remote paths are left to TensorFlow.

    Raises:
        ModelError: There is none; the message tells what is there instead.
    """
    path = os.fspath(path)
    if is_remote(path):
        return
    place = pathlib.Path(path)
    if place.name == _GRAPH and place.is_file():
        raise errors.ModelError(f"{path} is the graph of a SavedModel: give the folder that it is in, {place.parent}")
    if place.is_file():
        raise errors.ModelError(f"{path} is a file: a SavedModel is a folder with a {_GRAPH}")
    if not (place / _GRAPH).is_file():
        raise no_saved_model(path)


def no_saved_model(path: str) -> errors.ModelError:
    """Returns the error that a folder is missing or is no SavedModel."""
    return errors.ModelError(f"there is no SavedModel in {path}: it has no {_GRAPH}")


def check_tflite(path: str | os.PathLike[str]) -> None:
    """Makes sure that a file can be read and begins like a .tflite.

    Raises:
        ModelError: It does not; the message tells what is there instead.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        what = "a SavedModel: convert it first" if (pathlib.Path(path) / _GRAPH).exists() else "give the .tflite in it"
        raise errors.ModelError(f"{path} is a folder, not a .tflite file ({what})")
    try:
        with open(path, "rb") as file:
            head = file.read(_IDENTIFIER_END)
    except OSError as e:
        raise errors.ModelError(f"cannot read the edge model {path}: {e.strerror}") from e
    check_identifier(head, path)


def check_identifier(content: bytes, path: str) -> None:
    """Makes sure that the content of a file begins like a .tflite.

    Raises:
        ModelError: It does not.
    """
    if content[_IDENTIFIER_END - len(_IDENTIFIER) : _IDENTIFIER_END] != _IDENTIFIER:
        raise errors.ModelError(f"{path} is not a .tflite file: it lacks the identifier TFL3; convert it first")
