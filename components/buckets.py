"""Artifacts in buckets, and where they are files.

The components read and write files. The launcher of the open-source Kubeflow Pipelines copies the artifacts of a task
from their buckets to `/gcs`, `/s3` or `/minio` before it, and back after it; Vertex AI mounts Cloud Storage at `/gcs`.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from tfx import types

from edge_exray import errors

Artifacts = dict[str, list[types.Artifact]]
Do = Callable[[Any, Artifacts, Artifacts, dict[str, Any]], None]

COPIED = "device_logs"
"""Channel whose artifacts `edge_exray.components.device_logs` copies where no launcher did: apps upload to buckets, and
the pipeline may run elsewhere."""
MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}


def as_files(do: Do) -> Do:
    """Makes the `Do` of an executor see artifacts in buckets as the files that the launcher has of them.

    Afterwards their URIs are what they were, in custom properties of the outputs too.

    Raises:
        ArtifactError: An artifact is in a bucket that is not there as files.
    """

    @functools.wraps(do)
    def with_files(self: Any, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        outputs = [artifact for artifacts in output_dict.values() for artifact in artifacts]
        inputs = [artifact for artifacts in input_dict.values() for artifact in artifacts]
        copied = {id(artifact) for artifact in input_dict.get(COPIED, [])}
        uris = {id(artifact): artifact.uri for artifact in [*inputs, *outputs]}
        places = {}
        for artifact in [*inputs, *outputs]:
            place = _place(artifact.uri, is_copied=id(artifact) in copied)
            if place != artifact.uri:
                places[place] = artifact.uri
                artifact.uri = place
        try:
            do(self, input_dict, output_dict, exec_properties)
        finally:
            for artifact in [*inputs, *outputs]:
                artifact.uri = uris[id(artifact)]
        for artifact in outputs:
            for name, value in artifact.mlmd_artifact.custom_properties.items():
                if value.string_value in places:
                    artifact.set_string_custom_property(name, places[value.string_value])

    return with_files


def _place(uri: str, is_copied: bool) -> str:
    scheme, separator, path = uri.partition("://")
    if not separator:
        return uri
    mount = MOUNTS.get(scheme + separator)
    # An image may have an empty mount. Of a bucket that a task reads or writes, the launcher makes the folder.
    bucket = f"{mount}{path.partition('/')[0]}"
    if mount is None or not pathlib.Path(bucket).is_dir():
        if is_copied:
            return uri
        where = f"and there is no {bucket} here" if mount else f"and only {', '.join(MOUNTS)} have a place for files"
        raise errors.ArtifactError(
            f"artifact {uri}: edge-exray's components read and write files, {where}; run them under the launcher of "
            "Kubeflow Pipelines or on Vertex AI, mount the bucket there, or take a pipeline root that is a folder"
        )
    return mount + path
