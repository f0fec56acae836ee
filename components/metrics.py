"""TFMA metrics over the answers of several models, for the EvalConfig of LayerValidator and of TFX's Evaluator.

    metrics_specs {
      metrics {
        class_name: "PredictionFlipRate"
        module: "edge_exray.components.metrics"
        threshold { change_threshold { direction: LOWER_IS_BETTER absolute { value: 0.05 } } }
      }
    }

TFMA's own flip rates cut one probability at a threshold; of several classes they see the first one only. These compare
the top classes.
"""

import abc
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

_Sums = tuple[float, float]


class PredictionFlipRate(tfma.metrics.Metric):
    """Share of examples whose top class differs between a model and the baseline, weighted as the spec says.

    That of the baseline itself is 0, so that value thresholds and change thresholds are the same; TFMA leaves change
    thresholds out when there is no baseline, as in the first run of an Evaluator. Without one there is nothing to
    compare with, and no value.

    Args:
        name: Name of the metric.
        threshold: Where a single probability is cut.
    """

    def __init__(self, name: str = "prediction_flip_rate", threshold: float = 0.5) -> None:
        super().__init__(_flip_rates, name=name, threshold=threshold)


class Instability(tfma.metrics.Metric):
    """Share of examples that at least one model gets right and at least one gets wrong.

    The definition is that of `edge_exray.diagnosis.instability.Instability`, with models in the place of environments.
    The environments of a replay are models too, with `prediction_key: "env/reference/probabilities"`. The value is the
    same for every model but the baseline, which has none.

    Args:
        name: Name of the metric.
        threshold: Where a single probability is cut.
        environments: Names of the models that count; None for all that the metric is computed for.
    """

    def __init__(
        self, name: str = "instability", threshold: float = 0.5, environments: Sequence[str] | None = None
    ) -> None:
        super().__init__(_instabilities, name=name, threshold=threshold, environments=environments)


def _flip_rates(
    name: str,
    threshold: float,
    eval_config: tfma.EvalConfig,
    example_weighted: bool,
    model_names: Iterable[str],
    output_names: Iterable[str] = ("",),
) -> list[tfma.metrics.MetricComputation]:
    baseline = _baseline(eval_config)
    if baseline is None:
        return []
    return [
        _computation(key, _FlipCombiner(key, eval_config, [baseline, key.model_name], threshold))
        for key in _keys(name, example_weighted, model_names, output_names)
    ]


def _instabilities(
    name: str,
    threshold: float,
    environments: Sequence[str] | None,
    eval_config: tfma.EvalConfig,
    example_weighted: bool,
    model_names: Iterable[str],
    output_names: Iterable[str] = ("",),
) -> list[tfma.metrics.MetricComputation]:
    names = list(model_names)
    baseline = _baseline(eval_config)
    return [
        _computation(key, _InstabilityCombiner(key, eval_config, environments or names, threshold))
        for key in _keys(name, example_weighted, [n for n in names if n != baseline], output_names)
    ]


def _baseline(config: tfma.EvalConfig) -> str | None:
    return next((spec.name for spec in config.model_specs if spec.is_baseline), None)


def _keys(
    name: str, example_weighted: bool, model_names: Iterable[str], output_names: Iterable[str]
) -> list[tfma.metrics.MetricKey]:
    return [
        tfma.metrics.MetricKey(name, model_name=model, output_name=output, example_weighted=example_weighted)
        for model in model_names
        for output in output_names
    ]


def _computation(key: tfma.metrics.MetricKey, combiner: beam.CombineFn) -> tfma.metrics.MetricComputation:
    return tfma.metrics.MetricComputation(keys=[key], preprocessors=None, combiner=combiner)


class _ShareCombiner(beam.CombineFn):
    """Weight of the examples that have a property, and of all.

    Args:
        key: Key of the metric.
        config: The configuration, which says where labels and predictions are.
        models: Names of the models to compare.
        threshold: Where a single probability is cut.
    """

    def __init__(
        self, key: tfma.metrics.MetricKey, config: tfma.EvalConfig, models: Sequence[str], threshold: float
    ) -> None:
        self._key = key
        self._config = config
        self._models = models
        self._threshold = threshold

    @abc.abstractmethod
    def _has(self, label: np.ndarray | None, predictions: list[np.ndarray]) -> bool:
        """Returns whether an example has the property, of the predictions of all models."""

    def create_accumulator(self) -> _Sums:
        return 0.0, 0.0

    def add_input(self, accumulator: _Sums, element: Any) -> _Sums:
        label, predictions, weight = None, [], 1.0
        for model in self._models:
            # One value for each example: `flatten` would yield one for each class.
            label, prediction, weights = next(
                tfma.metrics.to_label_prediction_example_weight(
                    element,
                    eval_config=self._config,
                    model_name=model,
                    output_name=self._key.output_name,
                    example_weighted=self._key.example_weighted,
                    flatten=False,
                    allow_none=True,
                )
            )
            predictions.append(np.ravel(prediction))
            weight = float(np.ravel(weights)[0])
        has, all_of_them = accumulator
        return has + weight * self._has(label, predictions), all_of_them + weight

    def merge_accumulators(self, accumulators: Iterable[_Sums]) -> _Sums:
        parts = np.array(list(accumulators), np.float64).reshape(-1, 2)
        return float(parts[:, 0].sum()), float(parts[:, 1].sum())

    def extract_output(self, accumulator: _Sums) -> dict[tfma.metrics.MetricKey, float]:
        has, all_of_them = accumulator
        return {self._key: has / all_of_them if all_of_them else float("nan")}

    def _class(self, scores: np.ndarray) -> int:
        if np.isnan(scores).any():
            return -1  # no class: argmax would take NaN for the largest
        return int(scores[0] > self._threshold) if scores.size == 1 else int(np.argmax(scores))


class _FlipCombiner(_ShareCombiner):
    def _has(self, label: np.ndarray | None, predictions: list[np.ndarray]) -> bool:
        baseline, model = map(self._class, predictions)
        return baseline != model


class _InstabilityCombiner(_ShareCombiner):
    def _has(self, label: np.ndarray | None, predictions: list[np.ndarray]) -> bool:
        if label is None or not np.size(label):
            raise ValueError("Instability needs labels: set label_key in the model specs")
        values = np.ravel(label)
        # Labels are either the index of the class or, like the scores, one value for each class.
        true = int(values[0]) if values.size == 1 else int(np.argmax(values))
        right = [self._class(scores) == true for scores in predictions]
        return any(right) and not all(right)
