"""EdgeReplay: runs cloud and edge model on the same examples and compares every layer."""

from collections.abc import Sequence

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from edge_exray import errors
from edge_exray.components import artifacts, fingerprints, user_modules
from edge_exray.components.edge_replay import executor
from edge_exray.components.types import EdgeLogs, EdgeReplayResult
from edge_exray.replay import sampling
from edge_exray.replay.tally import TallyOptions
from edge_exray.version import __version__


class EdgeReplaySpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of EdgeReplay."""

    INPUTS = {  # noqa: RUF012
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "edge_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "float_edge_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "device_logs": component_spec.ChannelParameter(type=EdgeLogs, optional=True),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "replay": component_spec.ChannelParameter(type=EdgeReplayResult),
    }
    PARAMETERS = {  # noqa: RUF012
        "splits": component_spec.ExecutionParameter(type=str),
        "signature_name": component_spec.ExecutionParameter(type=str, optional=True),
        "slice_keys": component_spec.ExecutionParameter(type=str),
        "max_failed_frames": component_spec.ExecutionParameter(type=int),
        "worst_frames": component_spec.ExecutionParameter(type=int),
        "input_samples": component_spec.ExecutionParameter(type=int),
        "layer_frames": component_spec.ExecutionParameter(type=int),
        "kernel_frames": component_spec.ExecutionParameter(type=int),
        "environments": component_spec.ExecutionParameter(type=str),
        "module_file": component_spec.ExecutionParameter(type=str, optional=True),
        "module_path": component_spec.ExecutionParameter(type=str, optional=True),
        "module_content": component_spec.ExecutionParameter(type=str, optional=True),
        "library_version": component_spec.ExecutionParameter(type=str),
        "package_versions": component_spec.ExecutionParameter(type=str),
    }


class EdgeReplay(base_beam_component.BaseBeamComponent):
    """Runs cloud, float edge and edge model on every example of some splits and compares every layer.

    ## Example

    ```python
    replay = EdgeReplay(
        model=trainer.outputs["model"],
        edge_model=edge_converter.outputs["edge_model"],
        float_edge_model=edge_converter.outputs["float_edge_model"],
        examples=example_gen.outputs["examples"],
        module_file="preprocessing.py",
    )
    ```

    What devices logged with `edge_exray.EdgeMonitor`, instead of examples:

    ```python
    content = {"content": fingerprint("field/logs")}  # of edge_exray.components: new logs are new to TFX's cache
    logs = tfx.dsl.Importer("field/logs", edge_exray.EdgeLogs, custom_properties=content).with_id("logs")
    replay = EdgeReplay(..., device_logs=logs.outputs["result"])
    ```

    Component `outputs` contains:

    - `replay`: Channel of type `edge_exray.EdgeReplayResult`, which LayerValidator judges.

    Args:
        model: Channel of type `Model` with the Trainer's SavedModel: the truth.
        edge_model: Channel of type `Model` with the .tflite to push.
        float_edge_model: The same conversion without quantization. It is made anew when it is not given, as for an
            edge model that came from elsewhere.
        examples: Channel of type `Examples` to replay; or instead
        device_logs: Channel of type `edge_exray.EdgeLogs`: the functions of the module are given the raw inputs that a
            device logged, and what it logged of the model takes the place of the edge side. The first device is judged;
            the answers of the others to frames of the same ids give the instability across devices. Logs of another
            model are refused. Every worker must be able to read the files.
        splits: The splits of `examples` to replay.
        signature_name: The signature of the SavedModel that the device runs; None takes the only one with dense
            inputs.
        slice_keys: Features with one value an example; statistics and predictions are also kept by their values.
        max_failed_frames: How many frames may fail, as their record cannot be decoded, a function of the module raises
            or a shape does not fit. They are counted and named in the report; one more, and the component fails.
        worst_frames: How many of the frames with the most different answers are kept with all their tensors.
        input_samples: Of how many frames the inputs of both sides are kept, where the module has an `edge_inputs_fn`;
            what the app does differently is searched on these.
        layer_frames: How many frames the layers are compared on, chosen by their ids, which is the same choice however
            many workers there are; 0 takes all. The outputs are compared for every frame.
        kernel_frames: How many frames each op of the edge model is also run on by built-in and reference kernels, in a
            child process of each worker, chosen likewise; 0 takes none.
        environments: What the edge model also answers on in child processes, as `"reference"` or `"xnnpack:4"` (kernels
            and threads). How often that decides whether it is right is its instability, which LayerValidator judges;
            the variants of the app's preprocessing that `edge_variants_fn` makes count as environments too.
        module_file: Python file with any of `reference_inputs_fn` (what training fed), `edge_inputs_fn` (what the
            app feeds), `edge_variants_fn` (variants of that), `label_fn` and `frame_id_fn`; each takes one example, a
            mapping of feature name to array. Default: the features that are named like the inputs, and the feature
            `label`.
        module_path: Importable module with the same, instead of `module_file`.
        transform_graph: Channel of type `TransformGraph`, when `examples` are raw: the functions are then given what
            it makes of them, see `edge_exray.components.transforms`. Leave it out when `examples` are Transform's own.

    Raises:
        SpecError: `module_file` and `module_path` are both given, or `examples` and `device_logs`, or neither; logs
            come with a `transform_graph`; there is no split, or a number is negative.
    """

    SPEC_CLASS = EdgeReplaySpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        edge_model: types.BaseChannel,
        examples: types.BaseChannel | None = None,
        float_edge_model: types.BaseChannel | None = None,
        splits: Sequence[str] = ("eval",),
        signature_name: str | None = None,
        slice_keys: Sequence[str] = (),
        max_failed_frames: int = 0,
        worst_frames: int = 5,
        input_samples: int = 16,
        layer_frames: int = 0,
        kernel_frames: int = 0,
        environments: Sequence[str] = (),
        module_file: str | None = None,
        module_path: str | None = None,
        transform_graph: types.BaseChannel | None = None,
        device_logs: types.BaseChannel | None = None,
    ) -> None:
        if (examples is None) == (device_logs is None):
            raise errors.SpecError("EdgeReplay: give either examples or device_logs, one of the two")
        if device_logs is not None and transform_graph is not None:
            raise errors.SpecError(
                "EdgeReplay: a transform_graph takes tf.Examples, not device_logs: call what it does in "
                "reference_inputs_fn"
            )
        user_modules.require_one("EdgeReplay", module_file, module_path)
        environments_json = artifacts.names_json("EdgeReplay", "environments", environments)
        sampling.require_counts(layer_frames, kernel_frames)
        options = TallyOptions(
            max_failed_frames=max_failed_frames,
            worst_frames=worst_frames,
            input_samples=input_samples,
            environments=tuple(environments),
        )
        super().__init__(
            spec=EdgeReplaySpec(
                model=model,
                edge_model=edge_model,
                float_edge_model=float_edge_model,
                examples=examples,
                device_logs=device_logs,
                transform_graph=transform_graph,
                splits=artifacts.names_json("EdgeReplay", "splits", splits, at_least=1),
                signature_name=signature_name,
                slice_keys=artifacts.names_json("EdgeReplay", "slice_keys", slice_keys),
                max_failed_frames=options.max_failed_frames,
                worst_frames=options.worst_frames,
                input_samples=options.input_samples,
                layer_frames=layer_frames,
                kernel_frames=kernel_frames,
                environments=environments_json,
                module_file=module_file,
                module_path=module_path,
                # For the cache key alone, which knows nothing of the executor's code.
                module_content=fingerprints.of_module(module_file, module_path),
                library_version=__version__,
                package_versions=fingerprints.of_packages("tensorflow", "ai-edge-litert"),
                replay=types.Channel(type=EdgeReplayResult),
            )
        )
        if udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(self, "module_file", "module_path")
