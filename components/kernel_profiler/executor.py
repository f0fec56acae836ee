"""Executor of KernelProfiler."""

import json
import os
from collections.abc import Sequence
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from edge_exray import errors
from edge_exray.components import artifacts, buckets, transforms, user_modules
from edge_exray.components.resolvers import DEVICES_KEY
from edge_exray.diagnosis.report import Verdict
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import feeds
from edge_exray.profiling.budget import EDGE
from edge_exray.profiling.profile import FILENAME, Profile, profile
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.reporting.profile_writer import render_files

# The names that TFX's InfraValidator uses.
BLESSED_FILENAME = "INFRA_BLESSED"
NOT_BLESSED_FILENAME = "INFRA_NOT_BLESSED"


class Executor(base_executor.BaseExecutor):
    """Profiles the edge model and blesses it when it keeps its budgets."""

    @buckets.as_files
    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
            input_dict: `edge_model`, and optionally `float_edge_model`, `examples`, `transform_graph` and
                `baseline_profile`.
            output_dict: `blessing` and `profile`.
            exec_properties: See `KernelProfilerSpec`.

        Raises:
            ExrayError: A model cannot be profiled, or examples or the user's module are unusable.
            NotBlessedError: A budget is not kept and `fail_on_not_blessed` is set.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        profile_artifact = artifact_utils.get_single_instance(output_dict["profile"])

        models = {"edge": _tflite_path(input_dict["edge_model"])}
        if input_dict.get("float_edge_model"):
            models["float_edge"] = _tflite_path(input_dict["float_edge_model"])
        devices = json.loads(exec_properties.get("device_profiles") or "{}")
        real_inputs = None
        if input_dict.get("examples"):
            try:
                real_inputs = _read_feeds(input_dict, models["edge"], exec_properties)
            except errors.ModelError as e:
                # Other machines may judge a model that does not even open here.
                if not devices:
                    raise
                logging.warning("KernelProfiler does not read the examples: %s", e)
        spec = ProfileSpec.from_json(exec_properties["profile_spec"])
        result = profile(
            models,
            spec,
            real_inputs,
            signature=exec_properties.get("signature_name") or None,
            baseline=_read_baseline(input_dict),
            device_profiles={name: io_utils.ensure_local(uri) for name, uri in devices.items()},
        )
        passes = result.verdict is Verdict.INCONCLUSIVE and spec.on_inconclusive == "pass"
        blessed = bool(result) or passes

        for name, content in render_files(result).items():
            io_utils.write_bytes_file(os.path.join(profile_artifact.uri, name), content)
        profile_artifact.set_string_custom_property("verdict", str(result.verdict))
        profile_artifact.set_float_custom_property("latency_p50_ms", result.models[0].latency_ms.p50)
        profile_artifact.set_int_custom_property("size_bytes", result.models[0].bytes)
        profile_artifact.set_int_custom_property("blessed", int(blessed))
        edge_model = artifact_utils.get_single_instance(input_dict["edge_model"])
        profile_artifact.set_int_custom_property("current_model_id", edge_model.id)
        measured_on = sorted(m.role.partition("@")[2] for m in result.models if m.role.startswith(f"{EDGE}@"))
        profile_artifact.set_string_custom_property(DEVICES_KEY, ",".join(measured_on))
        _bless(blessing, blessed, result, profile_artifact.uri)
        if passes:
            logging.warning("KernelProfiler blesses %s, as on_inconclusive says: %s", models["edge"], result.summary)
        if not blessed:
            reason = f"KernelProfiler does not bless {models['edge']}: {result.summary}"
            logging.warning(reason)
            if exec_properties["fail_on_not_blessed"]:
                raise errors.NotBlessedError(reason)


def _tflite_path(models: list[types.Artifact]) -> str:
    return io_utils.ensure_local(artifacts.tflite_path(artifact_utils.get_single_instance(models)))


def _read_feeds(
    input_dict: dict[str, list[types.Artifact]], model_path: str, exec_properties: dict[str, Any]
) -> Sequence[feeds.Feed]:
    split = exec_properties["split"]
    files = artifacts.example_files(input_dict["examples"], [split])[split]
    records = transforms.decoder(input_dict).read(files)
    inputs = EdgeModel(model_path, signature=exec_properties.get("signature_name") or None).inputs
    with user_modules.user_functions(exec_properties) as functions:
        return feeds.example_feeds(records, functions, inputs, exec_properties["num_examples"])


def _read_baseline(input_dict: dict[str, list[types.Artifact]]) -> Profile | None:
    """Returns the profile of the last blessed model; there is none before the first blessing."""
    if not input_dict.get("baseline_profile"):
        return None
    uri = artifact_utils.get_single_uri(input_dict["baseline_profile"])
    return Profile.load(io_utils.ensure_local(os.path.join(uri, FILENAME)))


def _bless(blessing: types.Artifact, blessed: bool, result: Profile, profile_uri: str) -> None:
    io_utils.write_string_file(os.path.join(blessing.uri, BLESSED_FILENAME if blessed else NOT_BLESSED_FILENAME), "")
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property("verdict", str(result.verdict))
    blessing.set_string_custom_property("failed_checks", ",".join(check.name for check in result.failed_checks))
    blessing.set_string_custom_property("reason", result.summary)
    blessing.set_string_custom_property("profile", profile_uri)
