"""Executor of Pusher."""

import hashlib
import os
from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils


class Executor(executor.Executor):
    """Pushes to a hidden folder in the destination, and renames what is whole."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component; see `tfx.components.pusher.executor.Executor.Do`."""
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = destination.filesystem.base_directory
        hidden = os.path.join(base, f".pushing-{_pipeline(pushed)}")
        destination.filesystem.base_directory = hidden
        # Of a run that was killed.
        _remove(hidden)
        hidden_push = {**exec_properties, "push_destination": proto_utils.proto_to_json(destination)}
        super().Do(input_dict, output_dict, hidden_push)
        if not pushed.get_int_custom_property("pushed"):
            return
        version = pushed.get_string_custom_property("pushed_version")
        target = os.path.join(base, version)
        # Like TFX's own, which takes a version that is there for the one to push.
        if not fileio.exists(target):
            fileio.rename(os.path.join(hidden, version), target)
        pushed.set_string_custom_property("pushed_destination", target)
        _remove(hidden)


def _pipeline(pushed: types.Artifact) -> str:
    """Returns what differs between pipelines, but not between the runs of one: others may push there at this moment."""
    return hashlib.sha256(os.path.dirname(pushed.uri).encode()).hexdigest()[:8]


def _remove(folder: str) -> None:
    if fileio.exists(folder):
        fileio.rmtree(folder)
