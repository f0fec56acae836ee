"""Pusher: TFX's, whose pushed models appear whole."""

from tfx.components.pusher import component
from tfx.dsl.components.base import executor_spec

from edge_exray.components.pusher import executor


class Pusher(component.Pusher):
    """TFX's Pusher, but a model appears at its destination whole or not at all, also when the run is killed.

    TFX's own copies file by file into the folder that a server or an app looks at: after a kill a part of a model
    stays there, with the newest version number. This one copies to a hidden folder beside it and renames that.

    ## Example

    ```python
    pusher = Pusher(
        model=edge_converter.outputs["edge_model"],
        model_blessing=layer_validator.outputs["blessing"],
        infra_blessing=kernel_profiler.outputs["blessing"],
        push_destination=PushDestination(filesystem=PushDestination.Filesystem(base_directory="serving")),
    )
    ```

    Component `outputs` and `Args` are those of `tfx.components.Pusher`. On storage whose folders cannot be renamed in
    one step, such as buckets, a model may still be seen in parts. What a killed push left in a folder is removed by the
    next push of a blessed model from the same machine; `.pushing-*` in buckets, on NFS and of other machines stays.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
