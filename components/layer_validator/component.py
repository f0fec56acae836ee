"""LayerValidator: judges a replay and blesses the edge model, or says why not."""

import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from edge_exray.components import fingerprints, user_modules
from edge_exray.components.layer_validator import executor
from edge_exray.components.types import EdgeReplayResult, KernelProfile, LayerReport
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.version import __version__


class LayerValidatorSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of LayerValidator."""

    INPUTS = {  # noqa: RUF012
        "replay": component_spec.ChannelParameter(type=EdgeReplayResult),
        "profile": component_spec.ChannelParameter(type=KernelProfile, optional=True),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "baseline_report": component_spec.ChannelParameter(type=LayerReport, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "report": component_spec.ChannelParameter(type=LayerReport),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
    }
    PARAMETERS = {  # noqa: RUF012
        "validation_spec": component_spec.ExecutionParameter(type=str),
        "eval_config": component_spec.ExecutionParameter(type=str, optional=True),
        "fail_on_not_blessed": component_spec.ExecutionParameter(type=int),
        "module_file": component_spec.ExecutionParameter(type=str, optional=True),
        "module_path": component_spec.ExecutionParameter(type=str, optional=True),
        "module_content": component_spec.ExecutionParameter(type=str, optional=True),
        "library_version": component_spec.ExecutionParameter(type=str),
        "package_versions": component_spec.ExecutionParameter(type=str),
    }


class LayerValidator(base_beam_component.BaseBeamComponent):
    """Judges what EdgeReplay found and blesses the edge model when every check passed.

    ## Example

    ```python
    layer_validator = LayerValidator(
        replay=edge_replay.outputs["replay"],
        validation_spec='{"max_label_flip_rate": 0.03}',
    )
    pusher = Pusher(
        model=edge_converter.outputs["edge_model"],
        model_blessing=layer_validator.outputs["blessing"],
        infra_blessing=kernel_profiler.outputs["blessing"],
        push_destination=...,
    )
    ```

    Component `outputs` contains:

    - `blessing`: Channel of type `ModelBlessing`. Its custom properties say why a model is not blessed: `blessed`,
      `current_model`, `current_model_id`, `verdict`, `failed_checks`, `reason`, `worst_layer`, `report`.
    - `report`: Channel of type `edge_exray.LayerReport` with `report.html`, `report.json`, `summary.md`,
      `junit.xml` and `model_explorer/`.
    - `evaluation`: Channel of type `ModelEvaluation`: TFMA's metrics of the edge model (candidate) and the cloud
      model (baseline) over the same predictions.

    Args:
        replay: Channel of type `edge_exray.EdgeReplayResult`.
        profile: Channel of type `edge_exray.KernelProfile` to show in the report; it has no vote, the profiler's own
            blessing has.
        validation_spec: JSON of the limits, see `edge_exray.ValidationSpec`. None takes the defaults.
        eval_config: Metrics, slices and thresholds for TFMA; its thresholds become a check. The predictions have the
            features `label`, `frame_id`, the slice keys of EdgeReplay, `cloud/<output>` and `edge/<output>`. Model
            specs without a `prediction_key` are replaced by the pair `edge` (candidate) and `cloud` (baseline).
        fail_on_not_blessed: Whether the run fails when the model is not blessed. Otherwise it goes on, and Pusher
            does not push.
        model_blessing: Channel of type `ModelBlessing` of a component before this one, such as Evaluator: Pusher obeys
            one blessing only. What that one did not bless is not blessed here either.
        baseline_report: Channel of type `edge_exray.LayerReport` of the last blessed model, from a Resolver with
            `edge_exray.components.LatestBlessedStrategy`; the check `regression` compares the model with it.
        module_file: Python file with checks of your own, see `edge_exray.check`; it may be that of EdgeReplay.
        module_path: Importable module with the same, instead of `module_file`.

    Raises:
        SpecError: An unknown key or a value out of range in `validation_spec`, or `module_file` and `module_path` are
            both given.
    """

    SPEC_CLASS = LayerValidatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        replay: types.BaseChannel,
        profile: types.BaseChannel | None = None,
        validation_spec: str | None = None,
        eval_config: tfma.EvalConfig | None = None,
        fail_on_not_blessed: bool = False,
        model_blessing: types.BaseChannel | None = None,
        baseline_report: types.BaseChannel | None = None,
        module_file: str | None = None,
        module_path: str | None = None,
    ) -> None:
        user_modules.require_one("LayerValidator", module_file, module_path)
        super().__init__(
            spec=LayerValidatorSpec(
                replay=replay,
                profile=profile,
                model_blessing=model_blessing,
                baseline_report=baseline_report,
                validation_spec=ValidationSpec.from_json(validation_spec).to_json(),
                eval_config=json_format.MessageToJson(eval_config) if eval_config else None,
                # Booleans do not survive Kubeflow's parameters.
                fail_on_not_blessed=int(fail_on_not_blessed),
                module_file=module_file,
                module_path=module_path,
                # For the cache key alone, which knows nothing of the executor's code.
                module_content=fingerprints.of_module(module_file, module_path),
                library_version=__version__,
                package_versions=fingerprints.of_packages("tensorflow-model-analysis"),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                report=types.Channel(type=LayerReport),
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            )
        )
        if udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(self, "module_file", "module_path")
