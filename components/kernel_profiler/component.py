"""KernelProfiler: blocks an edge model that is too slow or too big."""

import json
import pathlib
from collections.abc import Mapping

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from edge_exray import errors, files
from edge_exray.components import fingerprints, user_modules
from edge_exray.components.kernel_profiler import executor
from edge_exray.components.types import KernelProfile
from edge_exray.monitor import storage
from edge_exray.profiling import device_profile, machine
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.version import __version__


class KernelProfilerSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of KernelProfiler."""

    INPUTS = {  # noqa: RUF012
        "edge_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "float_edge_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph, optional=True),
        "baseline_profile": component_spec.ChannelParameter(type=KernelProfile, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
        "profile": component_spec.ChannelParameter(type=KernelProfile),
    }
    PARAMETERS = {  # noqa: RUF012
        "profile_spec": component_spec.ExecutionParameter(type=str),
        "signature_name": component_spec.ExecutionParameter(type=str, optional=True),
        "device_profiles": component_spec.ExecutionParameter(type=str, optional=True),
        "device_profiles_content": component_spec.ExecutionParameter(type=str, optional=True),
        "split": component_spec.ExecutionParameter(type=str),
        "num_examples": component_spec.ExecutionParameter(type=int),
        "module_file": component_spec.ExecutionParameter(type=str, optional=True),
        "module_path": component_spec.ExecutionParameter(type=str, optional=True),
        "fail_on_not_blessed": component_spec.ExecutionParameter(type=int),
        "module_content": component_spec.ExecutionParameter(type=str, optional=True),
        "machine": component_spec.ExecutionParameter(type=str),
        "library_version": component_spec.ExecutionParameter(type=str),
        "package_versions": component_spec.ExecutionParameter(type=str),
    }


class KernelProfiler(base_component.BaseComponent):
    """Times every op of the edge model on the machine that the component runs on, and checks budgets.

    ## Example

    ```python
    kernel_profiler = KernelProfiler(
        edge_model=edge_converter.outputs["edge_model"],
        float_edge_model=edge_converter.outputs["float_edge_model"],
        profile_spec='{"max_latency_ms": 20, "max_latency_ratio_to_float": 1.1, "max_size_bytes": 5000000}',
    )
    pusher = Pusher(
        model=edge_converter.outputs["edge_model"],
        model_blessing=layer_validator.outputs["blessing"],
        infra_blessing=kernel_profiler.outputs["blessing"],
        push_destination=...,
    )
    ```

    Component `outputs` contains:

    - `blessing`: Channel of type `InfraBlessing`. Its custom properties say why a model is not blessed: `blessed`,
      `verdict`, `failed_checks`, `reason`, `profile`.
    - `profile`: Channel of type `edge_exray.KernelProfile` with `profile.json`, see
      `schemas/kernel_profile.schema.json`, `profile.html`, `chrome_trace.json`, which ui.perfetto.dev opens, and
      `model_explorer/latency.json`. Its custom property `blessed` makes it a baseline for later runs;
      `devices` names the other machines that it has.

    Args:
        edge_model: Channel of type `Model` with the .tflite to push, as EdgeConverter makes it.
        float_edge_model: The same conversion without quantization; needed by `max_latency_ratio_to_float`.
        examples: Examples to feed; without them the inputs are random.
        profile_spec: JSON of the budgets and conditions, see `edge_exray.ProfileSpec`. None sets no budget.
        split: The split of `examples` to use.
        num_examples: How many of its examples to use.
        module_file: Python file with `edge_inputs_fn` or `reference_inputs_fn`, which make the model's inputs of an
            example. Default: the features that are named like the inputs.
        module_path: Importable module with the same, instead of `module_file`.
        fail_on_not_blessed: Whether the run fails when the model is not blessed. Otherwise it goes on, and Pusher
            does not push.
        transform_graph: Channel of type `TransformGraph`, when `examples` are raw, as for EdgeReplay.
        baseline_profile: Channel of type `edge_exray.KernelProfile` with the profile of the model blessed last,
            which `max_latency_growth` compares with: of a Resolver with `edge_exray.components.LatestBlessedStrategy`.
            As long as the file of that model exists, it is timed again, in turn with the new one.
        signature_name: The signature of the edge model to run; may be left out when it has at most one.
        device_profiles: Name of another machine to the URI of its profile of the edge model, as `exray profile`,
            TensorFlow Lite's `benchmark_model --enable_op_profiling=true` or an app's `edge_exray.monitor` writes it;
            the name with `.float_edge` behind it to that of the float edge model. All budgets but that of the size hold
            on all of them, and decide alone on a model that does not run here. The content of
            files on this machine is part of TFX's cache key; of remote ones it knows only the URI: give a new file a
            new name.

    The machine that builds the pipeline is part of TFX's cache key: LocalDagRunner does not take a profile of another
    machine from the cache. On a cluster whose nodes differ, choose the node, or switch the cache of this component off.

    Raises:
        SpecError: An unknown key or a value out of range in `profile_spec`, parameters that exclude each other, or
            names in `device_profiles` that cannot be.
    """

    SPEC_CLASS = KernelProfilerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        edge_model: types.BaseChannel,
        float_edge_model: types.BaseChannel | None = None,
        examples: types.BaseChannel | None = None,
        profile_spec: str | None = None,
        split: str = "eval",
        num_examples: int = 8,
        module_file: str | None = None,
        module_path: str | None = None,
        fail_on_not_blessed: bool = False,
        transform_graph: types.BaseChannel | None = None,
        baseline_profile: types.BaseChannel | None = None,
        signature_name: str | None = None,
        device_profiles: Mapping[str, str] | None = None,
    ) -> None:
        user_modules.require_one("KernelProfiler", module_file, module_path)
        if (module_file or module_path or transform_graph) and not examples:
            raise errors.SpecError(
                "KernelProfiler: a module or transform_graph makes inputs of examples, so give examples as well"
            )
        if num_examples < 1:
            raise errors.SpecError(f"KernelProfiler: num_examples must be at least 1, is {num_examples}")
        device_profile.check_names(device_profiles or {})
        budgets = ProfileSpec.from_json(profile_spec)
        if (baseline_profile is None) != (budgets.max_latency_growth is None):
            raise errors.SpecError(
                "KernelProfiler: max_latency_growth compares with baseline_profile: give both or neither"
            )
        super().__init__(
            spec=KernelProfilerSpec(
                edge_model=edge_model,
                float_edge_model=float_edge_model,
                examples=examples,
                transform_graph=transform_graph,
                baseline_profile=baseline_profile,
                profile_spec=budgets.to_json(),
                signature_name=signature_name,
                device_profiles=json.dumps(dict(device_profiles), sort_keys=True) if device_profiles else None,
                device_profiles_content=_content(device_profiles or {}),
                split=split,
                num_examples=num_examples,
                module_file=module_file,
                module_path=module_path,
                # Booleans do not survive Kubeflow's parameters.
                fail_on_not_blessed=int(fail_on_not_blessed),
                # For the cache key alone, which knows nothing of the executor's code.
                module_content=fingerprints.of_module(module_file, module_path),
                machine=json.dumps(machine.identity()),
                library_version=__version__,
                package_versions=fingerprints.of_packages("ai-edge-litert"),
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
                profile=types.Channel(type=KernelProfile),
            )
        )
        if udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(self, "module_file", "module_path")


def _content(device_profiles: Mapping[str, str]) -> str | None:
    """Returns the SHA-256 of the files of this machine, for the cache key alone."""
    local = {name: _files(pathlib.Path(uri)) for name, uri in device_profiles.items()}
    hashes = {name: [files.sha256(path) for path in paths] for name, paths in local.items() if paths}
    return json.dumps(hashes, sort_keys=True) if hashes else None


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    # It may be the name of a log, whose first file rotation may have deleted.
    return storage.files_of(path)
