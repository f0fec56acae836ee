"""Executor of EdgeConverter."""

import itertools
import json
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from edge_exray import files
from edge_exray.components import artifacts, buckets, transforms, user_modules
from edge_exray.contract import InputContract
from edge_exray.conversion import calibration, converter, modes
from edge_exray.frames.functions import Inputs
from edge_exray.models.saved_model import CloudModel

CONVERSION_FILE = "conversion.json"


class Executor(base_executor.BaseExecutor):
    """Converts the Trainer's model, and makes its float twin."""

    @buckets.as_files
    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
            input_dict: `model`, and `examples`, optionally with `transform_graph`, when the quantization needs a
                calibration.
            output_dict: `edge_model`, `float_edge_model` and `conversion_report`.
            exec_properties: See `EdgeConverterSpec`.

        Raises:
            ExrayError: The model cannot be converted, or examples or the user's module are unusable.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        saved_model = artifacts.saved_model_path(artifact_utils.get_single_instance(input_dict["model"]))
        signature = exec_properties.get("signature_name")
        frames = None
        recipe = exec_properties.get("recipe")
        entries = json.loads(recipe) if recipe else None
        if modes.find(exec_properties["quantization"], entries).needs_calibration:
            frames = _calibration_frames(saved_model, signature, input_dict, exec_properties)
        memory_limit = exec_properties.get("memory_limit_mb")
        contract = exec_properties.get("input_contract")
        edge_model = artifact_utils.get_single_instance(output_dict["edge_model"])
        float_edge_model = artifact_utils.get_single_instance(output_dict["float_edge_model"])
        conversions = converter.convert_many(
            saved_model,
            {
                _serving_file(edge_model, artifacts.TFLITE_FILE): exec_properties["quantization"],
                _serving_file(float_edge_model, artifacts.TFLITE_FILE): "none",
            },
            signature=signature,
            calibration=frames,
            timeout=exec_properties["timeout_seconds"],
            memory_limit=None if memory_limit is None else memory_limit * 2**20,
            select_tf_ops=bool(exec_properties["select_tf_ops"]),
            input_contract=InputContract.from_json(contract) if contract else None,
            quantizer=exec_properties["quantizer"],
            recipe=entries,
            keep_float_layers=artifacts.name_list(exec_properties, "keep_float_layers"),
        )
        report = artifact_utils.get_single_instance(output_dict["conversion_report"])
        files.write_atomically(os.path.join(report.uri, CONVERSION_FILE), conversions[0].to_json().encode())
        for artifact, conversion in zip((edge_model, float_edge_model), conversions, strict=True):
            files.write_atomically(_serving_file(artifact, CONVERSION_FILE), conversion.to_json().encode())
            artifact.set_string_custom_property("quantization", conversion.quantization)
            artifact.set_string_custom_property("signature_name", conversion.signature)
            artifact.set_string_custom_property("source_fingerprint", conversion.source_fingerprint)
            artifact.set_int_custom_property("size_bytes", conversion.bytes)


def _calibration_frames(
    saved_model: str,
    signature: str | None,
    input_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
) -> list[Inputs]:
    splits = artifacts.name_list(exec_properties, "calibration_splits")
    inputs = input_dict["examples"]
    shards = artifacts.example_files(inputs, splits)
    decode = transforms.decoder(input_dict)
    with user_modules.user_functions(exec_properties) as functions:
        return calibration.sample(
            decode.read(itertools.chain.from_iterable(shards.values())),
            functions,
            CloudModel(saved_model, signature).inputs,
            exec_properties["num_calibration_examples"],
            exec_properties["seed"],
            source=f"split {' and '.join(splits)} of {inputs[0].uri}",
        )


def _serving_file(model: types.Artifact, name: str) -> str:
    return os.path.join(path_utils.serving_model_dir(model.uri), name)
