"""Metrics over several models in a real evaluation, against NumPy on the same answers."""

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import text_format

from edge_exray.components.layer_validator import evaluation
from edge_exray.diagnosis.answers import Agreement
from edge_exray.frames.functions import Frame
from edge_exray.replay import result
from edge_exray.replay.replayer import Prediction

FRAMES, CLASSES = 80, 4
RNG = np.random.default_rng(8)
LABELS = RNG.integers(CLASSES, size=FRAMES)
DARK = np.arange(FRAMES) % 4 == 0
CLOUD = RNG.random((FRAMES, CLASSES)).astype(np.float32)
EDGE, REFERENCE = (CLOUD + RNG.normal(0, scale, CLOUD.shape).astype(np.float32) for scale in (0.3, 0.2))
EDGE[5, 2] = np.nan

CONFIG = """
    model_specs { name: "edge" prediction_key: "edge/y" label_key: "label" }
    model_specs { name: "reference" prediction_key: "env/reference/y" label_key: "label" }
    model_specs { name: "cloud" prediction_key: "cloud/y" label_key: "label" is_baseline: true }
    slicing_specs {}
    slicing_specs { feature_keys: "light" }
    metrics_specs {
      metrics { class_name: "ExampleCount" }
      metrics {
        class_name: "PredictionFlipRate"
        module: "edge_exray.components.metrics"
        threshold {
          value_threshold { upper_bound { value: 0.99 } }
          change_threshold { direction: LOWER_IS_BETTER absolute { value: 0.01 } }
        }
      }
      metrics {
        class_name: "Instability"
        module: "edge_exray.components.metrics"
        config: '"environments": ["edge", "reference"]'
        per_slice_thresholds {
          slicing_specs { feature_values { key: "light" value: "dark" } }
          threshold { value_threshold { upper_bound { value: 0.01 } } }
        }
      }
      metrics {
        class_name: "Instability"
        module: "edge_exray.components.metrics"
        config: '"name": "instability_of_all"'
      }
    }
"""


def classes(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores).any(1), -1, scores.argmax(1))


def unstable(*answers: np.ndarray) -> np.ndarray:
    right = np.array([classes(scores) == LABELS for scores in answers])
    return right.any(0) & ~right.all(0)


FLIPS = {name: classes(scores) != classes(CLOUD) for name, scores in (("edge", EDGE), ("reference", REFERENCE))}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    """The evaluation, as LayerValidator makes it."""
    folder = tmp_path_factory.mktemp("metrics")
    records = str(folder / "predictions.gz")
    with tf.io.TFRecordWriter(records, "GZIP") as writer:
        for i in range(FRAMES):
            frame = Frame(str(i), {}, {}, int(LABELS[i]), {"light": "dark" if DARK[i] else "bright"})
            answers = ({"y": scores[i : i + 1]} for scores in (CLOUD, EDGE, REFERENCE))
            cloud, edge, reference = answers
            environments = {"reference": reference, "dead": "its process ended"}
            writer.write(result.prediction_record(Prediction(frame, cloud, edge, {}, {}, environments)))
    agreement = Agreement("y", FRAMES, FRAMES, 0, 0, 0)
    config = evaluation.complete_config(text_format.Parse(CONFIG, tfma.EvalConfig()), {"y": [-1, CLASSES]}, agreement)
    with beam.Pipeline() as pipeline:
        evaluation.evaluate(pipeline, [records], config, str(folder / "evaluation"))
    return str(folder / "evaluation")


def measured(directory: str, model: str, **slices: str) -> dict[str, float]:
    found = tfma.load_eval_result(directory, model_name=model)
    metrics = next(metrics for key, metrics in found.slicing_metrics if dict(key) == slices)
    return {name: value["doubleValue"] for name, value in metrics[""][""].items()}


@pytest.mark.parametrize("model", ["edge", "reference"])
def test_flip_rates_compare_with_the_baseline(directory, model):
    assert 0.05 < FLIPS[model].mean() < 0.95
    assert measured(directory, model)["prediction_flip_rate"] == pytest.approx(FLIPS[model].mean(), abs=1e-12)
    found = measured(directory, model, light="dark")
    assert found["example_count"] == DARK.sum()
    assert found["prediction_flip_rate"] == pytest.approx(FLIPS[model][DARK].mean(), abs=1e-12)
    assert measured(directory, "cloud")["prediction_flip_rate"] == 0


def test_instability_is_that_of_the_models_that_count(directory):
    pair, triple = unstable(EDGE, REFERENCE), unstable(EDGE, REFERENCE, CLOUD)
    assert 0 < pair.sum() < triple.sum()
    for model in ("edge", "reference"):
        found = measured(directory, model)
        assert found["instability"] == pytest.approx(pair.mean(), abs=1e-12)
        assert found["instability_of_all"] == pytest.approx(triple.mean(), abs=1e-12)
        assert measured(directory, model, light="dark")["instability"] == pytest.approx(pair[DARK].mean(), abs=1e-12)
    assert "instability" not in measured(directory, "cloud")


def test_values_and_changes_have_thresholds_on_every_slice(directory):
    config = tfma.load_eval_result(directory, model_name="edge").config
    check = evaluation.threshold_check(config, directory)
    failed = {(f["metric"], f["model"], f["slice"], f["is_change"]) for f in check.evidence["failures"]}
    slices = {"all frames", "light:dark", "light:bright"}
    changes = {("prediction_flip_rate", model, part, True) for model in FLIPS for part in slices}
    assert failed == changes | {("instability", model, "light:dark", False) for model in FLIPS}
    assert not tfma.load_validation_result(directory).validation_ok
