"""EdgeConverter: converts the Trainer's SavedModel to .tflite."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from edge_exray import errors
from edge_exray.components import artifacts, fingerprints, user_modules
from edge_exray.components.edge_converter import executor
from edge_exray.components.types import ConversionReport
from edge_exray.contract import InputContract
from edge_exray.conversion import converter, modes, recipes
from edge_exray.version import __version__


class EdgeConverterSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of EdgeConverter."""

    INPUTS = {  # noqa: RUF012
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "edge_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "float_edge_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "conversion_report": component_spec.ChannelParameter(type=ConversionReport),
    }
    PARAMETERS = {  # noqa: RUF012
        "quantization": component_spec.ExecutionParameter(type=str),
        "signature_name": component_spec.ExecutionParameter(type=str, optional=True),
        "module_file": component_spec.ExecutionParameter(type=str, optional=True),
        "module_path": component_spec.ExecutionParameter(type=str, optional=True),
        "num_calibration_examples": component_spec.ExecutionParameter(type=int),
        "calibration_splits": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
        "timeout_seconds": component_spec.ExecutionParameter(type=int),
        "memory_limit_mb": component_spec.ExecutionParameter(type=int, optional=True),
        "select_tf_ops": component_spec.ExecutionParameter(type=int),
        "input_contract": component_spec.ExecutionParameter(type=str, optional=True),
        "quantizer": component_spec.ExecutionParameter(type=str),
        "recipe": component_spec.ExecutionParameter(type=str, optional=True),
        "keep_float_layers": component_spec.ExecutionParameter(type=str),
        "module_content": component_spec.ExecutionParameter(type=str, optional=True),
        "library_version": component_spec.ExecutionParameter(type=str),
        "package_versions": component_spec.ExecutionParameter(type=str),
    }


class EdgeConverter(base_component.BaseComponent):
    """Converts the Trainer's SavedModel to the .tflite to push, and to its float twin, in one child process.

    ## Example

    ```python
    edge_converter = EdgeConverter(
        model=trainer.outputs["model"],
        examples=example_gen.outputs["examples"],
        quantization="int8",
        module_file="preprocessing.py",  # with reference_inputs_fn(example) -> {input name: array}
    )
    ```

    Component `outputs` contains:

    - `edge_model`: Channel of type `Model` with `Format-Serving/tflite` and `Format-Serving/conversion.json`.
    - `float_edge_model`: The same, converted without quantization.
    - `conversion_report`: Channel of type `edge_exray.ConversionReport` with the edge model's `conversion.json`, see
      `schemas/conversion.schema.json`.

    Args:
        model: Channel of type `Model` with the SavedModel.
        examples: Channel of type `Examples` to calibrate on; needed by `int8`, `int8_float_io`, `int16x8` and recipes
            that quantise activations.
        quantization: `none`, `float16` (weights), `dynamic_range` (int8 weights), `int8` (integer in and out, on int8
            kernels), `int8_float_io` (the same with float32 in and out) or `int16x8` (int16 in, out and in between,
            int8 weights). `conversion.json` lists the ops that have no such kernels and stay in float32. `recipe` does
            what a `recipe` says.
        signature_name: The signature that the device runs. None takes the only one with dense inputs; where all parse
            tf.Examples, the features behind the parsing become the inputs.
        module_file: Python file with `calibration_inputs_fn` or `reference_inputs_fn`, which make the model's inputs
            of an example. Default: the features that are named like the inputs.
        module_path: Importable module with the same, instead of `module_file`.
        num_calibration_examples: Size of the random sample of the examples to calibrate on.
        calibration_splits: The splits to draw it from.
        seed: Seed of the sample.
        timeout_seconds: When to give the conversion up.
        memory_limit_mb: Resident memory of the converting process, in MiB, at which to give it up. None takes
            nine tenths of what is free.
        select_tf_ops: Keep ops without TensorFlow Lite kernels as TensorFlow's, which the app must link.
        input_contract: `InputContract`, or JSON of `schemas/input_contract.schema.json`: normalisation, channel order
            and size of the inputs, and labels. Both models carry it, for the app to read and for EdgeReplay to check.
        transform_graph: Channel of type `TransformGraph`, when `examples` are raw: the functions are then given what
            it makes of them, see `edge_exray.components.transforms`. Leave it out when `examples` are Transform's own.
        quantizer: `tensorflow`, its converter, or `ai_edge_quantizer` (extra `[quantizer]`).
        recipe: A recipe of ai-edge-quantizer: name, path of a JSON file, or entries. It is read when the pipeline is
            built, which takes the extra `[quantizer]` there too; the pipeline holds its entries, so that a changed
            file is a changed parameter.
        keep_float_layers: Layers that stay in float: their names in the float edge model, as the report shows them, or
            regular expressions that match a whole name. With quantizer `tensorflow` in `int8` and `int8_float_io` only.

    Raises:
        SpecError: A parameter has a value that cannot work, or lacks or excludes another.
        ExrayError: A recipe is given, and ai-edge-quantizer is not installed.
    """

    SPEC_CLASS = EdgeConverterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel | None = None,
        quantization: str = "int8",
        signature_name: str | None = None,
        module_file: str | None = None,
        module_path: str | None = None,
        num_calibration_examples: int = 200,
        calibration_splits: Sequence[str] = ("train",),
        seed: int = 0,
        timeout_seconds: int = int(converter.DEFAULT_TIMEOUT),
        memory_limit_mb: int | None = None,
        select_tf_ops: bool = False,
        input_contract: InputContract | Mapping[str, Any] | str | None = None,
        transform_graph: types.BaseChannel | None = None,
        quantizer: str = modes.TENSORFLOW,
        recipe: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
        keep_float_layers: Sequence[str] = (),
    ) -> None:
        entries = None if recipe is None else recipes.resolve(recipe)
        mode = modes.find(quantization, entries)
        modes.check_choice([mode], quantizer, recipe, keep_float_layers)
        if mode.needs_calibration and examples is None:
            raise errors.SpecError(
                f"EdgeConverter: quantization {quantization!r} measures the activations on real data: give it examples"
            )
        if transform_graph is not None and examples is None:
            raise errors.SpecError("EdgeConverter: a transform_graph transforms examples, so give it examples as well")
        user_modules.require_one("EdgeConverter", module_file, module_path)
        for name, value in (
            ("num_calibration_examples", num_calibration_examples),
            ("timeout_seconds", timeout_seconds),
            ("memory_limit_mb", memory_limit_mb),
        ):
            if value is not None and value < 1:
                raise errors.SpecError(f"EdgeConverter: {name} must be at least 1, is {value}")
        contract = InputContract.of(input_contract, "of EdgeConverter")
        super().__init__(
            spec=EdgeConverterSpec(
                model=model,
                examples=examples,
                transform_graph=transform_graph,
                quantization=quantization,
                signature_name=signature_name,
                module_file=module_file,
                module_path=module_path,
                num_calibration_examples=num_calibration_examples,
                calibration_splits=artifacts.names_json(
                    "EdgeConverter", "calibration_splits", calibration_splits, at_least=1
                ),
                seed=seed,
                timeout_seconds=timeout_seconds,
                memory_limit_mb=memory_limit_mb,
                select_tf_ops=int(select_tf_ops),
                input_contract=contract and contract.to_json(),
                quantizer=quantizer,
                recipe=None if entries is None else json.dumps(entries),
                keep_float_layers=artifacts.names_json("EdgeConverter", "keep_float_layers", keep_float_layers),
                # For the cache key alone, which knows nothing of the executor's code.
                module_content=fingerprints.of_module(module_file, module_path),
                library_version=__version__,
                package_versions=fingerprints.of_packages("tensorflow", "ai-edge-litert", "ai-edge-quantizer"),
                edge_model=types.Channel(type=standard_artifacts.Model),
                float_edge_model=types.Channel(type=standard_artifacts.Model),
                conversion_report=types.Channel(type=ConversionReport),
            )
        )
        if udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(self, "module_file", "module_path")
