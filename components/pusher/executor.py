"""Executor of Pusher."""

import contextlib
import os
import pathlib
import platform
import uuid
from collections.abc import Iterator
from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from edge_exray import files


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
        if destination.WhichOneof("destination") != "filesystem" or not self.CheckBlessing(input_dict):
            # TFX says what is wrong with the destination, and marks what is not pushed.
            super().Do(input_dict, output_dict, exec_properties)
            return
        base = destination.filesystem.base_directory
        with _hidden_folder(base) as hidden:
            destination.filesystem.base_directory = hidden
            hidden_push = {**exec_properties, "push_destination": proto_utils.proto_to_json(destination)}
            super().Do(input_dict, output_dict, hidden_push)
            version = pushed.get_string_custom_property("pushed_version")
            target = os.path.join(base, version)
            # Like TFX's own, which takes a version that is there for the one to push.
            if not fileio.exists(target):
                fileio.rename(os.path.join(hidden, version), target)
        pushed.set_string_custom_property("pushed_destination", target)


@contextlib.contextmanager
def _hidden_folder(base: str) -> Iterator[str]:
    """Yields a folder of this run alone, since another may push there at this moment; it is gone in the end.

    What a killed push left in a folder is removed too. In a bucket nothing tells that from what is being copied.
    """
    if "://" not in base:
        folder = pathlib.Path(base)
        folder.mkdir(parents=True, exist_ok=True)
        # Of a folder that several machines share, each may know its own locks only.
        with files.scratch(f".pushing-{platform.node()}-", folder) as hidden:
            yield str(hidden)
        return
    remote = os.path.join(base, f".pushing-{uuid.uuid4().hex}")
    try:
        yield remote
    finally:
        if fileio.exists(remote):
            fileio.rmtree(remote)
