"""TFMA over the predictions of a replay, with the edge model as candidate and the cloud model as baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis import constants
from tfx_bsl.tfxio import tf_example_record

from edge_exray import errors
from edge_exray.diagnosis.answers import Agreement
from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.replay import result

EDGE, CLOUD = "edge", "cloud"


def complete_config(
    config: tfma.EvalConfig | None, outputs: Mapping[str, Sequence[int]], agreement: Agreement
) -> tfma.EvalConfig:
    """Completes an EvalConfig for the predictions of a replay.

    Args:
        config: The user's; None counts the examples and, with labels of a classification, measures accuracy.
        outputs: Output name to shape with batch axis.
        agreement: Which output is a classification, and how many frames have labels.

    Returns:
        The configuration with a model spec for each side. They name the label only when every frame has one: TFMA
        fails on the first frame without.

    Raises:
        SpecError: It asks for the metrics of a model that is neither side.
    """
    completed = tfma.EvalConfig()
    output = agreement.output or next(iter(outputs))
    labelled = agreement.labelled == agreement.frames
    if config is not None:
        completed.CopyFrom(config)
    else:
        metrics = [tfma.MetricConfig(class_name="ExampleCount")]
        if labelled and agreement.output is not None:
            accuracy = "SparseCategoricalAccuracy" if outputs[output][-1] != 1 else "BinaryAccuracy"
            metrics.append(tfma.MetricConfig(class_name=accuracy))
        completed.metrics_specs.add().metrics.extend(metrics)
    if not any(spec.prediction_key for spec in completed.model_specs):
        del completed.model_specs[:]
        for side in (EDGE, CLOUD):
            completed.model_specs.add(
                name=side,
                prediction_key=f"{side}/{output}",
                label_key=result.LABEL if labelled else "",
                is_baseline=side == CLOUD,
            )
    known = [model.name for model in completed.model_specs]
    for spec in completed.metrics_specs:
        unknown = sorted(set(spec.model_names) - set(known))
        if unknown:
            raise errors.SpecError(f"eval_config has metrics of the models {unknown}, there are only {known}")
        spec.model_names[:] = spec.model_names or known
    return completed


def evaluate(pipeline: beam.Pipeline, files: list[str], config: tfma.EvalConfig, directory: str) -> None:
    """Adds a TFMA evaluation to a Beam pipeline.

    Args:
        pipeline: The pipeline.
        files: TFRecord files of predictions.
        config: A completed configuration.
        directory: Where TFMA's metrics and validations go.
    """
    tfxio = tf_example_record.TFExampleRecord(
        file_pattern=files,
        raw_record_column_name=constants.ARROW_INPUT_COLUMN,
        telemetry_descriptors=["LayerValidator"],
    )
    models: list[Any] = [
        tfma.types.EvalSharedModel(
            model_name=spec.name, model_type=constants.MATERIALIZED_PREDICTION, is_baseline=spec.is_baseline
        )
        for spec in config.model_specs
    ]
    _ = (
        pipeline
        | "ReadPredictions" >> tfxio.BeamSource()
        | "Evaluate"
        >> tfma.ExtractEvaluateAndWriteResults(eval_shared_model=models, eval_config=config, output_path=directory)
    )


def threshold_check(config: tfma.EvalConfig, directory: str) -> CheckResult | None:
    """Turns TFMA's validation into a check; None when the configuration has no thresholds."""
    if not tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config):
        return None
    validation = tfma.load_validation_result(directory)
    if validation.validation_ok:
        return CheckResult("tfma_thresholds", Verdict.PASSED, "All thresholds of the EvalConfig are met.")
    failures = [
        _failure(_slice(part.slice_key), failure)
        for part in validation.metric_validations_per_slice
        for failure in part.failures
    ]
    missing = [
        ", ".join([*spec.feature_keys, *(f"{key}:{value}" for key, value in spec.feature_values.items())])
        for spec in validation.missing_slices
    ]
    described = [_describe(failure) for failure in failures] + [f"no frame is in slice {name}" for name in missing]
    message = f"Thresholds of the EvalConfig are not met: {'; '.join(described[:3])}."
    if len(described) > 3:
        message += f" {len(described) - 3} more are not met either."
    return CheckResult("tfma_thresholds", Verdict.FAILED, message, {"failures": failures, "missing_slices": missing})


def config_error(error: Exception, agreement: Agreement) -> errors.SpecError:
    """Says in one sentence why TFMA could not evaluate the predictions with the user's EvalConfig."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    said = (str(cause).strip().splitlines() or [""])[0]
    message = f"TFMA cannot evaluate the predictions with this EvalConfig: {type(cause).__name__}: {said}"
    if agreement.labelled < agreement.frames:
        message += (
            f" (only {agreement.labelled} of {agreement.frames} frames have a label: metrics that need one need "
            "EdgeReplay's label_fn)"
        )
    return errors.SpecError(message)


def _failure(where: str, failure: Any) -> dict[str, Any]:
    threshold = json_format.MessageToDict(failure.metric_threshold)
    return {
        "slice": where,
        "metric": failure.metric_key.name,
        "model": failure.metric_key.model_name or EDGE,
        "is_change": failure.metric_key.is_diff,
        "value": failure.metric_value.double_value.value if failure.HasField("metric_value") else None,
        # The only entry is the kind of the threshold, which `is_change` tells as well.
        "threshold": next(iter(threshold.values()), {}),
    }


def _describe(failure: dict[str, Any]) -> str:
    what = f"{'change of ' if failure['is_change'] else ''}{failure['metric']} of {failure['model']}"
    if failure["value"] is None:
        return f"{what} was not computed on {failure['slice']}"
    limit = ", ".join(f"{name} {value}" for name, value in failure["threshold"].items())
    return f"{what} on {failure['slice']} is {failure['value']:.4g} (threshold: {limit})"


def _slice(key: Any) -> str:
    parts = [f"{part.column}:{_value(part)}" for part in key.single_slice_keys]
    return ", ".join(parts) or "all frames"


def _value(key: Any) -> str:
    value = getattr(key, key.WhichOneof("kind"))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
