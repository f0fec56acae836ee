"""TFMA over the predictions of a replay, with the edge model as candidate and the cloud model as baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis import constants
from tfx_bsl.tfxio import tf_example_record

from edge_exray.diagnosis.evidence import Agreement
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
    """
    completed = tfma.EvalConfig()
    output = agreement.output or next(iter(outputs))
    labelled = agreement.labelled == agreement.frames
    if config is not None:
        completed.CopyFrom(config)
    else:
        metrics = [tfma.MetricConfig(class_name="ExampleCount")]
        if labelled and agreement.output is not None:
            accuracy = "SparseCategoricalAccuracy" if outputs[output][-1] > 1 else "BinaryAccuracy"
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
    for spec in completed.metrics_specs:
        del spec.model_names[:]
        spec.model_names.extend(model.name for model in completed.model_specs)
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
    thresholds = tfma.metrics.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    if not thresholds:
        return None
    validation = tfma.load_validation_result(directory)
    failures = []
    for part in validation.metric_validations_per_slice:
        where = ", ".join(f"{k.column}:{_value(k)}" for k in part.slice_key.single_slice_keys) or "all frames"
        failures += [
            {
                "slice": where,
                "metric": f.metric_key.name,
                "model": f.metric_key.model_name,
                "message": f.message,
                "value": f.metric_value.double_value.value,
                "is_difference": f.metric_key.is_diff,
            }
            for f in part.failures
        ]
    if validation.validation_ok:
        return CheckResult("tfma_thresholds", Verdict.PASSED, "All thresholds of the EvalConfig are met.", {})
    described = [
        f"{'change of ' if f['is_difference'] else ''}{f['metric']} of {f['model'] or EDGE} on {f['slice']} is {f['value']:.4g}"
        for f in failures
    ] or ["a slice that it asks for has no frames"]
    message = f"Thresholds of the EvalConfig are not met: {'; '.join(described[:3])}."
    return CheckResult("tfma_thresholds", Verdict.FAILED, message, {"failures": failures})


def _value(key: Any) -> str:
    kind = key.WhichOneof("kind")
    value = getattr(key, kind)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
