import json
import pathlib

import models_zoo
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from tfx import types
from tfx.components.pusher import executor as pusher
from tfx.types import standard_artifacts

from edge_exray import errors
from edge_exray.components.layer_validator import component, executor
from edge_exray.components.types import EdgeReplayResult, LayerReport
from edge_exray.diagnosis.report import Report
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.tally import TallyOptions
from edge_exray.version import __version__

# How far the edge may fall behind on the dark frames; and a value that both sides must reach.
CHANGE_ON_A_SLICE = """
    slicing_specs {}
    slicing_specs { feature_keys: "light" }
    metrics_specs {
      metrics {
        class_name: "SparseCategoricalAccuracy"
        per_slice_thresholds {
          slicing_specs { feature_values { key: "light" value: "dark" } }
          threshold { change_threshold { direction: HIGHER_IS_BETTER absolute { value: -0.02 } } }
        }
      }
      metrics { class_name: "ExampleCount" threshold { value_threshold { lower_bound { value: 10 } } } }
    }
"""


def _bgr(example):
    return {"image": np.ascontiguousarray(example["image"][..., ::-1])}


@pytest.fixture(scope="module")
def replays(conv_net, edge_models, tmp_path_factory) -> dict[str, EdgeReplayResult]:
    """Artifacts as EdgeReplay makes them: a healthy app, one that feeds BGR, and ten frames without labels."""
    root = tmp_path_factory.mktemp("replays")
    images, labels = models_zoo.make_frames(140, seed=4)
    frames = [
        {"image": image, "label": label, "light": models_zoo.CLASSES[label].split()[0]}
        for image, label in zip(images, labels, strict=True)
    ]
    unlabelled = [{"image": frame["image"], "light": frame["light"]} for frame in frames[:10]]
    made = {}
    for name, examples, functions in (
        ("healthy", frames, UserFunctions()),
        ("bgr", frames, UserFunctions(edge_inputs_fn=_bgr)),
        ("unlabelled", unlabelled, UserFunctions()),
    ):
        paths = ModelPaths(conv_net, edge_models["none"], edge_models["int8"])
        replay(paths, examples, root / name, functions=functions, options=TallyOptions(slice_keys=("light",)))
        made[name] = EdgeReplayResult()
        made[name].uri = str(root / name)
        made[name].set_string_custom_property("edge_model", "/models/edge")
        made[name].set_int_custom_property("edge_model_id", 42)
    return made


@pytest.fixture
def outputs(tmp_path) -> dict[str, list[types.Artifact]]:
    made = {
        "blessing": standard_artifacts.ModelBlessing(),
        "report": LayerReport(),
        "evaluation": standard_artifacts.ModelEvaluation(),
    }
    for name, artifact in made.items():
        artifact.uri = str(tmp_path / name)
    return {name: [artifact] for name, artifact in made.items()}


def validator(**parameters) -> component.LayerValidator:
    return component.LayerValidator(replay=types.Channel(type=EdgeReplayResult), **parameters)


def do(replay_artifact: EdgeReplayResult, outputs, eval_config: str | None = None, inputs=None, **parameters) -> Report:
    """Runs the executor with the parameters that the component would give it, and reads the report."""
    config = text_format.Parse(eval_config, tfma.EvalConfig()) if eval_config else None
    properties = validator(eval_config=config, **parameters).exec_properties
    try:
        executor.Executor().Do({"replay": [replay_artifact], **(inputs or {})}, outputs, properties)
    finally:
        report = pathlib.Path(outputs["report"][0].uri, "report.json")
        if report.exists():
            made = Report.load(report)
    return made


def properties(artifact: types.Artifact) -> dict[str, str | int]:
    found = artifact.mlmd_artifact.custom_properties
    return {name: getattr(value, value.WhichOneof("value")) for name, value in found.items()}


def blessing_files(outputs) -> list[str]:
    return [path.name for path in pathlib.Path(outputs["blessing"][0].uri).iterdir()]


def evaluated(outputs, model: str, **slices: str) -> dict[str, float]:
    """What TFMA measured of one model on one slice."""
    result = tfma.load_eval_result(outputs["evaluation"][0].uri, model_name=model)
    metrics = next(metrics for key, metrics in result.slicing_metrics if dict(key) == slices)
    return {name: value["doubleValue"] for name, value in metrics[""][""].items()}


def check(report: Report, name: str):
    return next(c for c in report.checks if c.name == name)


def test_a_healthy_model_is_blessed_as_pusher_and_resolver_read_it(replays, outputs):
    report = do(replays["healthy"], outputs, fail_on_not_blessed=True)

    assert report
    assert blessing_files(outputs) == ["BLESSED"]
    (blessing,), (report_artifact,) = outputs["blessing"], outputs["report"]
    assert properties(blessing) == {
        "blessed": 1,
        "current_model": "/models/edge",
        "current_model_id": 42,
        "verdict": "passed",
        "failed_checks": "",
        "reason": report.summary,
        "worst_layer": "",
        "report": report_artifact.uri,
    }
    assert pusher.Executor().CheckBlessing({"model_blessing": [blessing]})
    assert properties(report_artifact) == {"verdict": "passed", "blessed": 1, "current_model_id": 42}
    made = {path.name for path in pathlib.Path(report_artifact.uri).iterdir()}
    assert {"report.html", "report.json", "summary.md", "junit.xml", "model_explorer"} <= made
    # Two computations that know nothing of each other.
    for side in ("cloud", "edge"):
        measured = evaluated(outputs, side)
        assert measured["example_count"] == 140
        assert measured["sparse_categorical_accuracy"] == pytest.approx(report.accuracy[side], abs=1e-9)
    assert report.accuracy["cloud"] > 0.9


def test_a_failed_check_blocks_the_pusher_and_the_log_says_why(replays, outputs, caplog):
    with pytest.raises(errors.NotBlessedError, match="reversed channels"):
        do(replays["bgr"], outputs, fail_on_not_blessed=True)

    report = Report.load(pathlib.Path(outputs["report"][0].uri, "report.json"))
    (blessing,) = outputs["blessing"]
    assert blessing_files(outputs) == ["NOT_BLESSED"]
    found = properties(blessing)
    assert (found["blessed"], found["verdict"], found["current_model_id"]) == (0, "failed", 42)
    assert found["failed_checks"].split(",")[0] == "preprocessing"
    assert {"label_flip_rate", "accuracy_drop"} <= set(found["failed_checks"].split(","))
    assert "reversed channels (BGR instead of RGB)" in found["reason"]
    assert not pusher.Executor().CheckBlessing({"model_blessing": [blessing]})
    (line,) = [record.getMessage() for record in caplog.records if "does not bless" in record.getMessage()]
    assert found["reason"] in line
    assert report.models["edge"]["path"] in line
    assert "\n" not in line
    # The edge side of the evaluation is what the app sees, not the model at its best.
    assert evaluated(outputs, "edge")["sparse_categorical_accuracy"] == pytest.approx(report.accuracy["edge"])
    assert report.accuracy["edge"] < report.accuracy["cloud"] - 0.3


def test_too_few_frames_are_not_blessed_and_labels_are_not_needed(replays, outputs):
    report = do(replays["unlabelled"], outputs)

    assert report.verdict.value == "inconclusive"
    assert blessing_files(outputs) == ["NOT_BLESSED"]
    found = properties(outputs["blessing"][0])
    assert (found["blessed"], found["verdict"], found["failed_checks"]) == (0, "inconclusive", "")
    assert "10 frames are too few to tell: it may be from 0.0% to 25.9%; give at least 59" in found["reason"]
    assert set(evaluated(outputs, "cloud")) == {"example_count"}
    assert evaluated(outputs, "edge")["example_count"] == 10


def test_thresholds_on_a_slice_pass_on_the_healthy_twin_and_fail_on_the_faulty_one(replays, outputs, tmp_path):
    healthy = do(replays["healthy"], outputs, CHANGE_ON_A_SLICE)
    assert check(healthy, "tfma_thresholds")
    assert healthy
    assert tfma.load_validation_result(outputs["evaluation"][0].uri).validation_ok
    assert evaluated(outputs, "edge", light="dark")["example_count"] == 70
    labels = models_zoo.make_frames(140, seed=4)[1]
    assert evaluated(outputs, "cloud", light="dark")["example_count"] == np.count_nonzero(labels >= 2)

    for (artifact,) in outputs.values():
        artifact.uri += "-of-bgr"
    faulty = do(replays["bgr"], outputs, CHANGE_ON_A_SLICE)
    found = check(faulty, "tfma_thresholds")
    assert found.verdict.value == "failed"
    (failure,) = found.evidence["failures"]
    dark = {side: evaluated(outputs, side, light="dark")["sparse_categorical_accuracy"] for side in ("cloud", "edge")}
    assert failure["value"] == pytest.approx(dark["edge"] - dark["cloud"])
    assert (failure["slice"], failure["model"], failure["is_change"]) == ("light:dark", "edge", True)
    assert "change of sparse_categorical_accuracy of edge on light:dark is -" in found.message
    assert "threshold: absolute -0.02" in found.message
    assert "tfma_thresholds" in properties(outputs["blessing"][0])["failed_checks"]


def test_a_threshold_on_a_slice_without_frames_fails(replays, outputs):
    report = do(replays["healthy"], outputs, CHANGE_ON_A_SLICE.replace('"dark"', '"grey"'))
    found = check(report, "tfma_thresholds")
    assert found.verdict.value == "failed"
    assert found.message == "Thresholds of the EvalConfig are not met: no frame is in slice light:grey."


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("unlabelled", "", "", r"no value provided for label .*only 0 of 10 frames have a label.*label_fn"),
        ("healthy", "SparseCategoricalAccuracy", "NoSuchMetric", "Unknown metric function: 'NoSuchMetric'"),
        (
            "healthy",
            "metrics_specs {",
            'metrics_specs { model_names: "candidate"',
            r"\['candidate'\].*\['edge', 'cloud'\]",
        ),
        (
            "healthy",
            "metrics_specs {",
            'model_specs { prediction_key: "edge/x" } metrics_specs {',
            "baseline is missing",
        ),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_one_error(name, old, new, words, replays, outputs):
    with pytest.raises(errors.SpecError, match=words) as raised:
        do(replays[name], outputs, CHANGE_ON_A_SLICE.replace(old, new))
    assert "\n" not in str(raised.value)
    assert not pathlib.Path(outputs["blessing"][0].uri).exists()


def upstream(blessed: int, **custom: str) -> standard_artifacts.ModelBlessing:
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = "/evaluator/blessing"
    blessing.set_int_custom_property("blessed", blessed)
    for name, value in custom.items():
        blessing.set_string_custom_property(name, value)
    return blessing


@pytest.fixture
def without_tfma(monkeypatch):
    """TFMA takes seconds and has no say in what these tests look at."""
    monkeypatch.setattr(executor.Executor, "_evaluate", lambda *arguments: None)


@pytest.mark.usefixtures("without_tfma")
@pytest.mark.parametrize(
    ("blessings", "passes", "words"),
    [
        ([upstream(1)], True, ""),
        ([upstream(0)], False, "did not bless the model, see /evaluator/blessing."),
        ([upstream(0, reason="AUC fell.")], False, "did not bless the model: AUC fell."),
        ([], False, "model_blessing has no blessing"),
    ],
)
def test_what_was_not_blessed_before_is_not_blessed(replays, outputs, blessings, passes, words):
    report = do(replays["healthy"], outputs, inputs={"model_blessing": blessings})
    assert bool(report) is passes
    assert check(report, "upstream_blessing").verdict.value == ("passed" if passes else "failed")
    (blessing,) = outputs["blessing"]
    found = properties(blessing)
    assert found["blessed"] == passes
    assert found["failed_checks"] == ("" if passes else "upstream_blessing")
    assert words in found["reason"]
    assert {type(value) for value in found.values()} <= {str, int, float}
    assert pusher.Executor().CheckBlessing({"model_blessing": [blessing]}) is passes


@pytest.mark.usefixtures("without_tfma")
def test_an_upstream_blessing_does_not_bless_a_wrong_edge_model(replays, outputs):
    assert not do(replays["bgr"], outputs, inputs={"model_blessing": [upstream(1)]})
    assert properties(outputs["blessing"][0])["blessed"] == 0


@pytest.mark.usefixtures("without_tfma")
@pytest.mark.parametrize(("policy", "blessed"), [("pass", 1), ("block", 0)])
def test_an_inconclusive_verdict_is_blessed_only_when_the_spec_says_so(replays, outputs, caplog, policy, blessed):
    spec = json.dumps({"on_inconclusive": policy})
    report = do(replays["unlabelled"], outputs, validation_spec=spec)
    assert report.verdict.value == "inconclusive"
    (blessing,), (report_artifact,) = outputs["blessing"], outputs["report"]
    assert (properties(blessing)["blessed"], properties(blessing)["verdict"]) == (blessed, "inconclusive")
    assert properties(report_artifact) == {"verdict": "inconclusive", "blessed": blessed, "current_model_id": 42}
    assert blessing_files(outputs) == ["BLESSED" if blessed else "NOT_BLESSED"]
    assert pusher.Executor().CheckBlessing({"model_blessing": [blessing]}) is bool(blessed)
    logged = [record.getMessage() for record in caplog.records if report.summary in record.getMessage()]
    assert [("as on_inconclusive says" in line) for line in logged] == [bool(blessed)]


@pytest.mark.usefixtures("without_tfma")
def test_a_failed_verdict_is_never_blessed(replays, outputs):
    do(replays["bgr"], outputs, validation_spec='{"on_inconclusive": "pass"}')
    assert properties(outputs["blessing"][0])["blessed"] == 0


@pytest.mark.usefixtures("without_tfma")
def test_checks_of_the_users_module_have_a_vote(replays, outputs, tmp_path):
    module = tmp_path / "mine.py"
    module.write_text(
        "import edge_exray\n"
        "@edge_exray.check(after='inputs')\n"
        "def many_frames(evidence):\n"
        "    frames = evidence.agreement.frames\n"
        "    return edge_exray.finding('many_frames', frames > 1000, f'There are {frames} frames.', {})\n"
    )
    assert validator(module_file=str(module)).exec_properties["module_file"] == str(module)
    report = do(replays["healthy"], outputs, module_path=str(module))
    assert [found.name for found in report.failed_checks] == ["many_frames"]
    assert properties(outputs["blessing"][0])["reason"].endswith(f"There are {report.frames['count']} frames.")


def test_a_check_of_the_user_without_a_place_ends_the_run_before_tfma(replays, outputs, tmp_path):
    module = tmp_path / "mine.py"
    module.write_text("import edge_exray\n@edge_exray.check(after='nowhere')\ndef mine(evidence): ...\n")
    with pytest.raises(errors.ModuleError, match=r"check mine of .* runs after nowhere"):
        executor.Executor().Do(
            {"replay": [replays["healthy"]]}, outputs, {**validator().exec_properties, "module_path": str(module)}
        )
    assert not pathlib.Path(outputs["evaluation"][0].uri).exists()


@pytest.mark.usefixtures("without_tfma")
def test_the_last_blessed_report_is_the_baseline(replays, outputs, tmp_path):
    first = do(replays["healthy"], outputs, inputs={"baseline_report": []})
    assert "No model was blessed before" in check(first, "regression").message
    baseline = LayerReport()
    baseline.uri = outputs["report"][0].uri
    for (artifact,) in outputs.values():
        artifact.uri += "-next"
    worse = do(replays["bgr"], outputs, inputs={"baseline_report": [baseline]})
    found = {figure["name"]: figure for figure in worse.baseline["figures"]}
    assert worse.baseline["report"] == str(pathlib.Path(baseline.uri, "report.json"))
    assert found["accuracy"]["regressed"]
    assert found["accuracy"]["baseline"] == first.accuracy["edge"]
    assert not found["worst_own_error"]["regressed"]
    assert "regression" in properties(outputs["blessing"][0])["failed_checks"].split(",")


def test_an_incomplete_replay_is_refused(outputs, tmp_path):
    nothing = EdgeReplayResult()
    nothing.uri = str(tmp_path / "nothing")
    with pytest.raises(errors.ArtifactError, match="nothing holds no complete replay"):
        executor.Executor().Do({"replay": [nothing]}, outputs, validator().exec_properties)
    assert not pathlib.Path(outputs["blessing"][0].uri).exists()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ('{"max_label_flips": 0.1}', "max_label_flips"),
        ('{"max_label_flip_rate": 2}', "max_label_flip_rate"),
        ("{", "JSON"),
    ],
)
def test_a_wrong_spec_is_refused_at_construction(spec, words):
    with pytest.raises(errors.SpecError, match=words):
        validator(validation_spec=spec)


def test_parameters_are_plain_and_equal_specs_make_equal_cache_keys():
    found = validator(validation_spec='{"min_frames": 30}').exec_properties
    assert found == validator().exec_properties
    assert found["library_version"] == __version__
    assert found["validation_spec"] == ValidationSpec().to_json()
    assert {type(value) for value in found.values()} <= {str, int, float, type(None)}
