"""Where things are inside the artifacts that the components exchange."""

import json
import os
from collections.abc import Sequence
from typing import Any

from tfx.components.util import examples_utils
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact, artifact_utils
from tfx.utils import path_utils

from edge_exray import errors

TFLITE_FILE = "tflite"
"""Name of an edge model inside `Format-Serving`, the one that TFMA and TFX's own rewriter use."""


def tflite_path(model: artifact.Artifact) -> str:
    """Returns the path of the .tflite in a Model artifact.

    Raises:
        ModelError: The artifact holds none.
    """
    path = os.path.join(path_utils.serving_model_dir(model.uri), TFLITE_FILE)
    if not fileio.exists(path):
        raise errors.ModelError(f"Model artifact {model.uri} holds no edge model: there is no {path}")
    return path


def saved_model_path(model: artifact.Artifact) -> str:
    """Returns the directory of the SavedModel in a Model artifact."""
    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))


def example_files(examples: Sequence[artifact.Artifact], splits: Sequence[str]) -> dict[str, list[str]]:
    """Lists the TFRecord files of splits.

    Args:
        examples: Examples artifacts.
        splits: Names of splits, each of which all artifacts must have.

    Returns:
        Split to its files, in a stable order.

    Raises:
        DataError: A split does not exist or has no files, or the examples are no tf.Examples.
    """
    files: dict[str, list[str]] = {split: [] for split in splits}
    for one in examples:
        payload = examples_utils.get_payload_format(one)
        if payload != example_gen_pb2.FORMAT_TF_EXAMPLE:
            name = example_gen_pb2.PayloadFormat.Name(payload)
            raise errors.DataError(f"Examples artifact {one.uri} holds {name}, only FORMAT_TF_EXAMPLE can be replayed")
        available = artifact_utils.decode_split_names(one.split_names)
        for split in splits:
            if split not in available:
                raise errors.DataError(f"Examples artifact {one.uri} has no split {split!r}, only {available}")
            directory = artifact_utils.get_split_uri([one], split)
            names = fileio.listdir(directory) if fileio.exists(directory) else []
            files[split] += [os.path.join(directory, name) for name in sorted(names)]
    for split, found in files.items():
        if not found:
            raise errors.DataError(f"split {split!r} of the examples has no files in {[e.uri for e in examples]}")
    return files


def names_json(component: str, parameter: str, names: Sequence[str], at_least: int = 0) -> str:
    """Returns the form in which a list of names travels as an execution property.

    Raises:
        SpecError: It is a single text instead of a list, or too short.
    """
    if isinstance(names, str):
        raise errors.SpecError(f"{component}: {parameter} is a list of names, write [{names!r}]")
    if len(names) < at_least:
        raise errors.SpecError(f"{component}: {parameter} needs at least {at_least} name")
    return json.dumps(list(names))


def name_list(exec_properties: dict[str, Any], key: str) -> list[str]:
    """Reads what `names_json` made; a missing property is empty."""
    return json.loads(exec_properties.get(key) or "[]")
