"""Executor of LayerValidator."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from absl import logging
from google.protobuf import json_format
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from edge_exray import errors
from edge_exray.components import buckets, user_modules
from edge_exray.components.layer_validator import evaluation
from edge_exray.diagnosis import baseline, checks
from edge_exray.diagnosis.check import Check
from edge_exray.diagnosis.evidence import Evidence, gather
from edge_exray.diagnosis.report import CheckResult, Report, Verdict
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.replay.result import ReplayResult
from edge_exray.reporting.writer import write_report


class Executor(base_beam_executor.BaseBeamExecutor):
    """Judges a replay, writes the report, and blesses the edge model when every check passed."""

    @buckets.as_files
    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
            input_dict: `replay` and optionally `profile`, `model_blessing` and `baseline_report`.
            output_dict: `blessing`, `report` and `evaluation`.
            exec_properties: See `LayerValidatorSpec`.

        Raises:
            ArtifactError: The replay is incomplete.
            SpecError: TFMA cannot evaluate the predictions with the EvalConfig.
            ModuleError: The user's module does not import, or a check of it has no place among the others.
            NotBlessedError: A check did not pass and `fail_on_not_blessed` is set.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        replay_artifact = artifact_utils.get_single_instance(input_dict["replay"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        report_artifact = artifact_utils.get_single_instance(output_dict["report"])
        evaluation_uri = artifact_utils.get_single_uri(output_dict["evaluation"])

        spec = ValidationSpec.from_json(exec_properties["validation_spec"])
        evidence = gather(
            ReplayResult.open(replay_artifact.uri), spec, kernels=_kernels(input_dict), baseline=_baseline(input_dict)
        )
        with user_modules.user_functions(exec_properties) as functions:
            report = self._judge(input_dict, evidence, functions.checks, exec_properties, evaluation_uri)
        write_report(report, report_artifact.uri)
        passes = report.verdict is Verdict.INCONCLUSIVE and spec.on_inconclusive == "pass"
        blessed = bool(report) or passes
        report_artifact.set_string_custom_property("verdict", str(report.verdict))
        report_artifact.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
        report_artifact.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, replay_artifact.get_int_custom_property("edge_model_id")
        )
        _bless(blessing, blessed, report, replay_artifact, report_artifact.uri)
        edge = report.models["edge"]["path"]
        if passes:
            logging.warning("LayerValidator blesses %s, as on_inconclusive says: %s", edge, report.summary)
        if not blessed:
            reason = f"LayerValidator does not bless {edge}: {report.summary}"
            logging.warning(reason)
            if exec_properties["fail_on_not_blessed"]:
                raise errors.NotBlessedError(reason)

    def _judge(
        self,
        input_dict: dict[str, list[types.Artifact]],
        evidence: Evidence,
        users_checks: Sequence[Check],
        exec_properties: dict[str, Any],
        evaluation_uri: str,
    ) -> Report:
        # A check without a place is told before TFMA runs.
        checks.arrange(users_checks)
        thresholds = self._evaluate(evidence, exec_properties.get("eval_config"), evaluation_uri)
        # Not by their truth values: a check that failed is false.
        extra_checks = [check for check in (_upstream(input_dict), thresholds) if check is not None]
        return diagnose(evidence, users_checks=users_checks, extra_checks=extra_checks)

    def _evaluate(self, evidence: Evidence, eval_config: str | None, directory: str) -> CheckResult | None:
        config = evaluation.complete_config(
            json_format.Parse(eval_config, tfma.EvalConfig()) if eval_config else None,
            evidence.replay.summary["outputs"],
            evidence.agreement,
        )
        try:
            with self._make_beam_pipeline() as pipeline:
                evaluation.evaluate(pipeline, evidence.replay.prediction_files(), config, directory)
        except Exception as e:
            # TFMA has no error of its own: what the user wrote may raise anything, anywhere in the pipeline.
            if eval_config is None:
                raise
            raise evaluation.config_error(e, evidence.agreement) from e
        return evaluation.threshold_check(config, directory)


def _kernels(input_dict: dict[str, list[types.Artifact]]) -> dict[str, Any] | None:
    if not input_dict.get("profile"):
        return None
    uri = artifact_utils.get_single_uri(input_dict["profile"])
    return json.loads(pathlib.Path(uri, "profile.json").read_text("utf-8"))


def _baseline(input_dict: dict[str, list[types.Artifact]]) -> baseline.Baseline | None:
    """Returns what to compare with; None when no channel was given, and none in it when no model was blessed yet."""
    if "baseline_report" not in input_dict:
        return None
    if not input_dict["baseline_report"]:
        return baseline.FIRST
    uri = artifact_utils.get_single_uri(input_dict["baseline_report"])
    return baseline.Baseline.load(os.path.join(uri, "report.json"))


def _upstream(input_dict: dict[str, list[types.Artifact]]) -> CheckResult | None:
    """Returns whether the component before this one blessed its model; None when no channel was given."""
    if "model_blessing" not in input_dict:
        return None
    blessings = input_dict["model_blessing"]
    blessed = [blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1 for blessing in blessings]
    if blessings and all(blessed):
        message = f"The model was blessed before, in {blessings[0].uri}."
        return CheckResult(checks.UPSTREAM_BLESSING, Verdict.PASSED, message)
    message = "The channel model_blessing has no blessing: whether the model was blessed before is not known."
    if blessings:
        first = blessings[blessed.index(False)]
        reason = first.get_string_custom_property("reason")
        message = (
            f"{first.producer_component or 'The component before'} did not bless the model"
            f"{f': {reason}' if reason else f', see {first.uri}.'}"
        )
    return CheckResult(checks.UPSTREAM_BLESSING, Verdict.FAILED, message, {"blessings": [b.uri for b in blessings]})


def _bless(blessing: types.Artifact, blessed: bool, report: Report, replay: types.Artifact, report_uri: str) -> None:
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    # LatestBlessedModelStrategy finds the blessed model by its id.
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, replay.get_string_custom_property("edge_model")
    )
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, replay.get_int_custom_property("edge_model_id")
    )
    blessing.set_string_custom_property("verdict", str(report.verdict))
    blessing.set_string_custom_property("failed_checks", ",".join(check.name for check in report.failed_checks))
    blessing.set_string_custom_property("reason", report.summary)
    blessing.set_string_custom_property("worst_layer", report.suspects[0].name if report.suspects else "")
    blessing.set_string_custom_property("report", report_uri)
