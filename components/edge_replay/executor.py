"""Executor of EdgeReplay."""

import pathlib
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from edge_exray.components import artifacts, buckets, device_logs, user_modules
from edge_exray.components.edge_replay import beam_replay
from edge_exray.components.edge_replay.sources import ExampleSource, LogSource, Source, try_read
from edge_exray.conversion.converter import convert
from edge_exray.frames.functions import load_functions
from edge_exray.replay import replay, result
from edge_exray.replay.device_logs import DeviceLogs
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.sampling import sample
from edge_exray.replay.tally import TallyOptions


class Executor(base_beam_executor.BaseBeamExecutor):
    """Replays examples or device logs on Beam and stores a `ReplayResult`."""

    _beam_pipeline_args: list[str]

    @buckets.as_files
    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
            input_dict: `model`, `edge_model`, `examples` or `device_logs`, and optionally `float_edge_model` and
                `transform_graph`.
            output_dict: `replay`.
            exec_properties: See `EdgeReplaySpec`.

        Raises:
            ExrayError: The models do not pair, or examples, logs or the user's module are unusable.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        edge_model = artifact_utils.get_single_instance(input_dict["edge_model"])
        replay_artifact = artifact_utils.get_single_instance(output_dict["replay"])
        directory = pathlib.Path(replay_artifact.uri)
        with (
            user_modules.installed(exec_properties) as module,
            # Beside the replay, where every worker can read it.
            device_logs.local(input_dict.get("device_logs", []), directory / "device_logs") as paths_of_logs,
        ):
            logs, source = _source(input_dict, artifacts.name_list(exec_properties, "splits"), paths_of_logs)
            if logs is not None:
                logs.require_model(artifacts.tflite_path(edge_model))
            paths = _model_paths(input_dict, exec_properties, directory)
            packages = [f"--extra_package={wheel}" for wheel in module.packages]
            self._beam_pipeline_args = [*self._beam_pipeline_args, *packages]
            self._replay(paths, source, logs, module.source, exec_properties, directory)
        # What the validator needs for a blessing that resolvers understand: the model that it blesses.
        replay_artifact.set_string_custom_property("edge_model", edge_model.uri)
        replay_artifact.set_int_custom_property("edge_model_id", edge_model.id)

    def _replay(
        self,
        paths: ModelPaths,
        source: Source,
        logs: DeviceLogs | None,
        module: str | None,
        exec_properties: dict[str, Any],
        directory: pathlib.Path,
    ) -> None:
        functions = source.functions(load_functions(module))
        sampling = sample(
            lambda: try_read(source),
            functions,
            exec_properties["layer_frames"],
            exec_properties["kernel_frames"],
        )
        options = TallyOptions(
            tuple(artifacts.name_list(exec_properties, "slice_keys")),
            exec_properties["max_failed_frames"],
            exec_properties["worst_frames"],
            exec_properties["input_samples"],
            tuple(artifacts.name_list(exec_properties, "environments")),
            sampling,
        )
        shared_replayer = beam_replay.SharedReplayer(paths)
        replayer = shared_replayer.acquire()
        frames = replay.head_frames(replayer, functions, try_read(source), options)
        alignment = replayer.align(frames)
        with beam_replay.fresh(directory), self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Parts" >> beam.Create(source.parts)
                | "Replay" >> beam_replay.Replay(shared_replayer, alignment, source, module, options, directory)
            )
        failures = beam_replay.take_failures(directory, options)
        # Last, because a directory without it is no result.
        replayer.sampling = sampling
        statistics = result.ReplayResult(directory).statistics
        result.write_head(directory, replay.summary(paths, replayer, failures, statistics, logs), alignment)


def _source(
    input_dict: dict[str, list[types.Artifact]], splits: list[str], paths_of_logs: list[str]
) -> tuple[DeviceLogs | None, Source]:
    if not paths_of_logs:
        return None, ExampleSource.of(input_dict, splits)
    logs = DeviceLogs(*paths_of_logs)
    return logs, LogSource.of(logs)


def _model_paths(
    input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any], directory: pathlib.Path
) -> ModelPaths:
    cloud = artifacts.saved_model_path(artifact_utils.get_single_instance(input_dict["model"]))
    edge = artifacts.tflite_path(artifact_utils.get_single_instance(input_dict["edge_model"]))
    signature = exec_properties.get("signature_name") or None
    if input_dict.get("float_edge_model"):
        float_edge = artifacts.tflite_path(artifact_utils.get_single_instance(input_dict["float_edge_model"]))
    else:
        # Beside the replay, where every worker can read it.
        float_edge = str(directory / "float_edge.tflite")
        convert(cloud, float_edge, quantization="none", signature=signature)
    return ModelPaths(cloud, float_edge, edge, signature)
