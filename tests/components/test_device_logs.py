"""What devices logged, in a pipeline: EdgeReplay and LayerValidator judge it, TFX's own components look at it."""

import json
import pathlib
import shutil

import models_zoo
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.types import artifact_utils, standard_artifacts

import edge_exray
from edge_exray import errors
from edge_exray.components.edge_log_example_gen import component as example_gen
from edge_exray.components.edge_log_example_gen import executor as example_gen_executor
from edge_exray.components.edge_replay import component, executor
from edge_exray.components.layer_validator import component as validator
from edge_exray.components.layer_validator import executor as validator_executor
from edge_exray.components.types import EdgeLogs, EdgeReplayResult, LayerReport
from edge_exray.diagnosis.report import Report
from edge_exray.models.tflite import EdgeModel
from edge_exray.monitor import EdgeMonitor, read_log
from edge_exray.replay.result import ReplayResult

pytestmark = pytest.mark.pipeline

FRAMES = 20
SENSORS = ("grams", "celsius")
MODULE = """
import numpy as np

def reference_inputs_fn(example):
    return {"image": example["pixels"].astype(np.float32) / 127.5 - 1}
"""


def log_frames(path: pathlib.Path, edge: str, channels: slice, device: str) -> None:
    """Logs an app that feeds the channels in an order."""
    model = EdgeModel(edge, preserve_tensors=True, signature="serving_dense")
    spec = model.inputs["image"]
    images, labels = models_zoo.make_frames(FRAMES, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platform.node", lambda: device)
        with EdgeMonitor(path, level="layers", model=edge, strict=True, policy="block") as monitor:
            for number, image in enumerate(np.round((images + 1) * 127.5).astype(np.uint8)):
                with monitor.frame(raw={"pixels": image}, id=f"f{number}") as frame:
                    frame.log(label=int(labels[number]), light=models_zoo.CLASSES[labels[number]].split()[0])
                    x = (image.astype(np.float32) / 127.5 - 1)[np.newaxis, ..., channels]
                    frame.run(model.interpreter, {"image": spec.quantization.quantize(x, spec.dtype)})


@pytest.fixture(scope="module")
def logs(edge_models, tmp_path_factory) -> EdgeLogs:
    """A phone that feeds BGR, and a tablet that does it right."""
    artifact = EdgeLogs()
    artifact.uri = str(tmp_path_factory.mktemp("logs"))
    log_frames(pathlib.Path(artifact.uri, "a.exray"), edge_models["int8"], slice(None, None, -1), "phone")
    log_frames(pathlib.Path(artifact.uri, "b.exray"), edge_models["int8"], slice(None), "tablet")
    return artifact


@pytest.fixture(scope="module")
def remote_logs(logs) -> EdgeLogs:
    """The same where only TensorFlow's file systems read."""
    artifact = logs_at("ram://logs")
    tf.io.gfile.makedirs(artifact.uri)
    for file in pathlib.Path(logs.uri).iterdir():
        tf.io.gfile.copy(str(file), f"{artifact.uri}/{file.name}")
    return artifact


def logs_at(uri: str) -> EdgeLogs:
    artifact = EdgeLogs()
    artifact.uri = uri
    return artifact


@pytest.fixture(scope="module")
def models(conv_net, edge_models, tmp_path_factory) -> dict[str, standard_artifacts.Model]:
    root = tmp_path_factory.mktemp("models")
    made = {name: standard_artifacts.Model() for name in ("model", "edge_model", "float_edge_model")}
    for name, artifact in made.items():
        artifact.uri = str(root / name)
    shutil.copytree(conv_net, root / "model" / "Format-Serving")
    for name, mode in (("edge_model", "int8"), ("float_edge_model", "none")):
        (root / name / "Format-Serving").mkdir(parents=True)
        shutil.copy(edge_models[mode], root / name / "Format-Serving" / "tflite")
    return made


def replay(inputs: dict[str, types.Artifact], folder: pathlib.Path) -> EdgeReplayResult:
    """Runs EdgeReplay's executor with the parameters that the component would give it."""
    (folder / "app.py").write_text(MODULE)
    output = EdgeReplayResult()
    output.uri = str(folder / "replay")
    channels = {name: types.Channel(type=type(artifact)) for name, artifact in inputs.items()}
    made = component.EdgeReplay(**channels, module_file=str(folder / "app.py"), slice_keys=["light"])
    context = executor.Executor.Context(
        beam_pipeline_args=["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    )
    executor.Executor(context).Do(
        {name: [artifact] for name, artifact in inputs.items()}, {"replay": [output]}, made.exec_properties
    )
    return output


def test_a_pipeline_on_logs_blocks_the_push_and_names_the_bug(
    models, logs, remote_logs, conv_net, edge_models, tmp_path
):
    replayed = replay({**models, "device_logs": remote_logs}, tmp_path)
    # What was copied from there is gone.
    assert not pathlib.Path(replayed.uri, "device_logs").exists()
    expected = edge_exray.validate(
        conv_net,
        edge_models["int8"],
        logs=logs.uri,
        module=str(tmp_path / "app.py"),
        out=tmp_path / "out",
        float_edge=edge_models["none"],
        slice_keys=["light"],
    )
    predictions = {p["frame_id"][0]: p for p in ReplayResult.open(replayed.uri).predictions()}
    twins = list(ReplayResult.open(tmp_path / "out" / "replay").predictions())
    assert len(predictions) == len(twins) == FRAMES
    for twin in twins:
        prediction = predictions[twin["frame_id"][0]]
        assert prediction.keys() == twin.keys() == {
            "frame_id", "label", "light", "cloud/probabilities", "edge/probabilities", "env/tablet/probabilities"
        }  # fmt: skip
        for name, value in twin.items():
            np.testing.assert_array_equal(prediction[name], value)

    outputs = {
        "blessing": standard_artifacts.ModelBlessing(),
        "report": LayerReport(),
        "evaluation": standard_artifacts.ModelEvaluation(),
    }
    for name, artifact in outputs.items():
        artifact.uri = str(tmp_path / name)
    properties = validator.LayerValidator(replay=types.Channel(type=EdgeReplayResult)).exec_properties
    validator_executor.Executor(validator_executor.Executor.Context(beam_pipeline_args=[])).Do(
        {"replay": [replayed]}, {name: [artifact] for name, artifact in outputs.items()}, properties
    )
    assert outputs["blessing"].get_int_custom_property("blessed") == 0
    report = Report.load(pathlib.Path(outputs["report"].uri, "report.json"))
    assert report.failed_checks[0].name == "preprocessing"
    assert "reversed channels (BGR instead of RGB)" in report.summary
    assert [c.message for c in report.checks] == [c.message for c in expected.checks]
    assert {place["name"] for place in report.instability["environments"]} == {"edge", "tablet"}
    assert [log["device"] for log in report.device_logs] == ["phone", "tablet"]


def test_what_does_not_go_together_is_refused(models, logs, edge_models, tmp_path):
    channels = {name: types.Channel(type=standard_artifacts.Model) for name in models}
    examples = types.Channel(type=standard_artifacts.Examples)
    graph = types.Channel(type=standard_artifacts.TransformGraph)
    device_logs = types.Channel(type=EdgeLogs)
    with pytest.raises(errors.SpecError, match="either examples or device_logs"):
        component.EdgeReplay(**channels, examples=examples, device_logs=device_logs)
    with pytest.raises(errors.SpecError, match="either examples or device_logs"):
        component.EdgeReplay(**channels)
    with pytest.raises(errors.SpecError, match="transform_graph"):
        component.EdgeReplay(**channels, device_logs=device_logs, transform_graph=graph)
    with pytest.raises(errors.SpecError, match="the same name"):
        example_gen.EdgeLogExampleGen(device_logs, names={"a": "c", "b": "c"})
    # The other way around: the log is of the int8 model.
    with pytest.raises(errors.DataError, match=EdgeModel(edge_models["none"]).fingerprint):
        replay({**models, "edge_model": models["float_edge_model"], "device_logs": logs}, tmp_path)
    assert not pathlib.Path(tmp_path, "replay", "replay.json").exists()


def examples_of(logs: EdgeLogs, folder: pathlib.Path, **parameters) -> standard_artifacts.Examples:
    """Runs EdgeLogExampleGen's executor with the parameters that the component would give it."""
    output = standard_artifacts.Examples()
    output.uri = str(folder)
    properties = example_gen.EdgeLogExampleGen(types.Channel(type=EdgeLogs), **parameters).exec_properties
    example_gen_executor.Executor().Do({"device_logs": [logs]}, {"examples": [output]}, properties)
    return output


def test_the_examples_hold_what_was_logged(logs, tmp_path):
    output = examples_of(logs, tmp_path, layers=True, names={"raw/pixels": "image"})
    assert artifact_utils.decode_split_names(output.split_names) == ["field"]
    assert output.get_int_custom_property("frames") == 2 * FRAMES
    [file] = pathlib.Path(output.uri, "Split-field").iterdir()
    records = list(tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator())
    assert len(records) == 2 * FRAMES
    features = tf.train.Example.FromString(records[0]).features.feature
    images, labels = models_zoo.make_frames(FRAMES, seed=2)
    pixels = np.round((images[0] + 1) * 127.5).astype(np.uint8)
    assert features["image"].int64_list.value == pixels.ravel().tolist()
    assert features["user/label"].int64_list.value == [labels[0]]
    np.testing.assert_allclose(
        features["input/image"].float_list.value, (pixels / 127.5 - 1)[..., ::-1].ravel(), atol=0.01
    )
    assert any(key.startswith("layer/") for key in features)
    assert "raw/pixels" not in features


def test_logs_of_object_storage_are_those_of_files(remote_logs, tmp_path):
    output = examples_of(logs_at(f"{remote_logs.uri}/a.exray"), tmp_path / "out")
    assert output.get_int_custom_property("frames") == FRAMES
    with pytest.raises(errors.DataError, match="no log at ram:"):
        examples_of(logs_at("ram://nowhere/run.exray"), tmp_path / "none")
    # Outside of a pipeline nobody copies them.
    with pytest.raises(errors.DataError, match="is an address"):
        read_log(f"{remote_logs.uri}/a.exray")


def test_statistics_find_drift_between_training_and_field(tmp_path):
    """One of two sensors reads too much in the field: StatisticsGen runs on both sides, the comparators tell."""
    rng = np.random.default_rng(0)

    def readings(shift: float) -> np.ndarray:
        return rng.normal([500 + shift, 20], [50, 2], (300, 2)).astype(np.float32)

    training = standard_artifacts.Examples()
    training.uri = str(tmp_path / "training")
    training.split_names = artifact_utils.encode_split_names(["train"])
    folder = pathlib.Path(training.uri, "Split-train")
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
        for row in readings(0):
            values = {name: tf.train.FloatList(value=[value]) for name, value in zip(SENSORS, row, strict=True)}
            features = {name: tf.train.Feature(float_list=value) for name, value in values.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    logs = EdgeLogs()
    logs.uri = str(tmp_path / "logs")
    with EdgeMonitor(pathlib.Path(logs.uri, "run.exray"), level="inputs", strict=True, policy="block") as monitor:
        for row in readings(120):
            raw = {name: np.array([value]) for name, value in zip(SENSORS, row, strict=True)}
            with monitor.frame(raw=raw) as frame:
                frame.run(lambda x: {"score": x["x"].sum()}, {"x": row})

    comparator = "drift_comparator { jensen_shannon_divergence { threshold: 0.1 } }"
    schema = "".join(f'feature {{ name: "{name}" type: FLOAT {comparator} }}' for name in SENSORS)
    known = statistics(training, tmp_path / "known")
    names = {f"raw/{name}": name for name in SENSORS}
    found = statistics(examples_of(logs, tmp_path / "field", names=names), tmp_path / "found")
    assert {*SENSORS, "input/x", "output/score"} <= {feature.path.step[0] for feature in found.datasets[0].features}
    drifting = tfdv.validate_statistics(
        found, text_format.Parse(schema, schema_pb2.Schema()), previous_statistics=known
    ).drift_skew_info
    measured = {info.path.step[0]: info.drift_measurements[0].value for info in drifting}
    assert measured["grams"] > 0.5
    assert measured["celsius"] < 0.1


def statistics(examples: standard_artifacts.Examples, folder: pathlib.Path):
    """Runs TFX's StatisticsGen on the only split and reads what it wrote."""
    output = standard_artifacts.ExampleStatistics()
    output.uri = str(folder)
    context = statistics_gen.Executor.Context(beam_pipeline_args=["--direct_num_workers=1"], tmp_dir=str(folder))
    properties = {"exclude_splits": json.dumps([])}
    statistics_gen.Executor(context).Do({"examples": [examples]}, {"statistics": [output]}, properties)
    [split] = artifact_utils.decode_split_names(examples.split_names)
    return tfdv.load_stats_binary(str(folder / f"Split-{split}" / "FeatureStats.pb"))
