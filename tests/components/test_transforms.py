"""Raw examples with a TransformGraph, through each component that makes inputs of examples."""

import json
import pathlib

import models_zoo
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils
from tfx import types
from tfx.types import standard_artifacts

from edge_exray import errors
from edge_exray.components import transforms
from edge_exray.components.edge_converter import component as converter_component
from edge_exray.components.edge_converter import executor as converter
from edge_exray.components.edge_replay import component as replay_component
from edge_exray.components.edge_replay import executor as replay
from edge_exray.components.kernel_profiler import component as profiler_component
from edge_exray.components.kernel_profiler import executor as profiler
from edge_exray.components.types import ConversionReport, EdgeReplayResult, KernelProfile
from edge_exray.contract import InputContract
from edge_exray.diagnosis.checks import contract
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.models.metadata import attach
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.contracts import ContractStatistics
from edge_exray.replay.result import ReplayResult

COUNT = 30
SPEC = {
    "pixels": tf.io.FixedLenFeature([16 * 16 * 3], tf.float32),
    "colour": tf.io.FixedLenFeature([], tf.string),
    "tags": tf.io.VarLenFeature(tf.string),
    "blob": tf.io.FixedLenFeature([], tf.string),
}
# As raw pixels may end.
BLOB = b"\xff\0\0"
CONTRACT = {"inputs": {"image": {"channels": "RGB", "mean": 127.5, "std": 127.5}}}
# What the app does by itself, from the raw features: it forgets to scale them.
APP = """
def edge_inputs_fn(example):
    return {"image": example["raw/pixels"].reshape(16, 16, 3)}
"""


def preprocessing_fn(inputs):
    # Pixels are 0 to 255 in the data, and nothing but the data tells that.
    image = 2 * tft.scale_by_min_max(inputs["pixels"], 0, 1) - 1
    return {
        "image": tf.reshape(image, [-1, 16, 16, 3]),
        "label": tft.compute_and_apply_vocabulary(inputs["colour"]),
        "tags": inputs["tags"],
        "blob": inputs["blob"],
    }


def records() -> list[dict]:
    images, labels = models_zoo.make_frames(COUNT, seed=7)
    images[0, 0, 0] = [-1, 1, 0]
    return [
        {
            "pixels": (image.ravel() + 1) * 127.5,
            "colour": models_zoo.CLASSES[label],
            "tags": [b"a"] * (i % 2),
            "blob": BLOB,
        }
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> standard_artifacts.TransformGraph:
    """What Transform makes of `preprocessing_fn`."""
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(SPEC))
    artifact = standard_artifacts.TransformGraph()
    artifact.uri = str(tmp_path_factory.mktemp("transform") / "graph")
    with tft_beam.Context(temp_dir=str(tmp_path_factory.mktemp("temporary"))):
        transform_fn = (records(), metadata) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = transform_fn | tft_beam.WriteTransformFn(artifact.uri)
    # Transform adds the schema of the raw examples, and names the folder so.
    metadata_io.write_metadata(metadata, str(pathlib.Path(artifact.uri, "metadata")))
    return artifact


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> standard_artifacts.Examples:
    """Raw examples in the split `eval`."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path_factory.mktemp("examples"))
    artifact.split_names = '["eval"]'
    folder = pathlib.Path(artifact.uri, "Split-eval")
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
        for record in records():
            writer.write(_serialized(record))
    return artifact


def _serialized(record: dict) -> bytes:
    features = {
        "colour": tf.train.Feature(bytes_list=tf.train.BytesList(value=[record["colour"].encode()])),
        "tags": tf.train.Feature(bytes_list=tf.train.BytesList(value=record["tags"])),
        "blob": tf.train.Feature(bytes_list=tf.train.BytesList(value=[BLOB])),
    }
    if "pixels" in record:
        features["pixels"] = tf.train.Feature(float_list=tf.train.FloatList(value=record["pixels"]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture
def models(conv_net, edge_models, tmp_path) -> dict[str, list[standard_artifacts.Model]]:
    made = {}
    sources = {"model": conv_net, "edge_model": edge_models["int8"], "float_edge_model": edge_models["none"]}
    for name, source in sources.items():
        artifact = standard_artifacts.Model()
        artifact.uri = str(tmp_path / name)
        pathlib.Path(artifact.uri).mkdir()
        serving = pathlib.Path(artifact.uri, "Format-Serving")
        if name == "model":
            serving.symlink_to(source)
        else:
            serving.mkdir()
            content = pathlib.Path(source).read_bytes()
            serving.joinpath("tflite").write_bytes(attach(content, InputContract.from_dict(CONTRACT)))
        made[name] = [artifact]
    return made


def _out(artifact, path: pathlib.Path) -> list:
    artifact.uri = str(path)
    return [artifact]


def _channel(artifact: types.Artifact) -> types.Channel:
    return types.Channel(type=type(artifact))


def test_a_record_becomes_what_transform_makes_and_keeps_its_raw_features(graph):
    decode = transforms.decoder({"transform_graph": [graph]})
    for i, record in enumerate(records()[:4]):
        example = decode(f"here#{i}", _serialized(record))
        np.testing.assert_allclose(example["image"].ravel(), record["pixels"] / 127.5 - 1, atol=1e-6)
        assert example["image"].shape == (16, 16, 3)
        assert example["label"].shape == (1,)
        assert list(example["tags"]) == record["tags"]
        assert list(example["blob"]) == list(example["raw/blob"]) == [BLOB]
        np.testing.assert_array_equal(example["raw/pixels"], record["pixels"].astype(np.float32))
        assert list(example["raw/colour"]) == [record["colour"].encode()]
    colours = {r["colour"]: int(decode("", _serialized(r))["label"][0]) for r in records()}
    assert sorted(colours.values()) == [0, 1, 2, 3]


def test_a_record_that_the_graph_refuses_is_an_error_in_its_place(graph):
    decode = transforms.decoder({"transform_graph": [graph]})
    error = decode("here#3", _serialized({"colour": "dark red", "tags": []}))
    assert isinstance(error, errors.DataError)
    assert error.frame == "here#3"
    assert "refuses the record" in error.reason
    assert "pixels" in error.reason
    assert isinstance(decode("here#4", b"\xff"), errors.DataError)


def test_without_a_graph_examples_are_as_they_are():
    example = transforms.decoder({})("here", _serialized(records()[1]))
    assert set(example) == {"pixels", "colour", "tags", "blob"}


def test_calibration_sees_transformed_examples(models, examples, graph, tmp_path):
    component = converter_component.EdgeConverter(
        model=_channel(models["model"][0]),
        examples=_channel(examples),
        transform_graph=_channel(graph),
        signature_name="serving_dense",
        calibration_splits=["eval"],
    )
    outputs = {
        "edge_model": _out(standard_artifacts.Model(), tmp_path / "edge"),
        "float_edge_model": _out(standard_artifacts.Model(), tmp_path / "float"),
        "conversion_report": _out(ConversionReport(), tmp_path / "report"),
    }
    inputs = {"model": models["model"], "examples": [examples]}

    converter.Executor().Do({**inputs, "transform_graph": [graph]}, outputs, dict(component.spec.exec_properties))

    edge = EdgeModel(tmp_path / "edge" / "Format-Serving" / "tflite")
    low, high = edge.inputs["image"].quantization.range(np.dtype(np.int8))
    assert (low, high) == pytest.approx((-1, 1), abs=0.02)
    assert json.loads((tmp_path / "report" / "conversion.json").read_text())["calibration"]["frames"] == COUNT
    # The raw examples by themselves have no such feature.
    with pytest.raises(errors.DataError, match="no feature named like the model's input image"):
        converter.Executor().Do(inputs, outputs, dict(component.spec.exec_properties))


def test_replay_feeds_the_reference_what_transform_makes_and_the_app_the_raw_features(
    models, examples, graph, tmp_path
):
    module = tmp_path / "app.py"
    module.write_text(APP)
    component = replay_component.EdgeReplay(
        **{name: _channel(model) for name, (model,) in models.items()},
        examples=_channel(examples),
        transform_graph=_channel(graph),
        signature_name="serving_dense",
        module_file=str(module),
    )
    context = replay.Executor.Context(
        # Another process, which knows nothing of the graph; one of them is enough to show it.
        beam_pipeline_args=["--direct_running_mode=multi_processing", "--direct_num_workers=1"],
        tmp_dir=str(tmp_path / "temporary"),
    )
    output = {"replay": _out(EdgeReplayResult(), tmp_path / "replay")}

    replay.Executor(context).Do(
        {**models, "examples": [examples], "transform_graph": [graph]}, output, dict(component.spec.exec_properties)
    )

    stored = ReplayResult.open(tmp_path / "replay")
    channels = stored.statistic("preprocessing", "input", "image")
    assert (channels.frames, channels.differing) == (COUNT, COUNT)
    np.testing.assert_allclose(channels.reference_range, [-1, 1], atol=1e-6)
    np.testing.assert_allclose(channels.edge_range, [0, 255], atol=1e-6)
    assert {int(p["label"][0]) for p in stored.predictions()} == {0, 1, 2, 3}
    # The edge model carries the contract through the workers to the check.
    assert stored.statistic("preprocessing", "contract", "image") == ContractStatistics(COUNT, {}, {"mean, std": COUNT})
    check = contract.input_contract(gather(stored, ValidationSpec()))[0]
    assert f"break the contract of image (mean, std) in {COUNT} of {COUNT} frames" in check.message


def test_profiler_feeds_transformed_examples(models, examples, graph, tmp_path):
    component = profiler_component.KernelProfiler(
        edge_model=_channel(models["edge_model"][0]),
        examples=_channel(examples),
        transform_graph=_channel(graph),
        profile_spec='{"runs": 2, "warmup_runs": 1, "precision": null}',
    )
    outputs = {
        "blessing": _out(standard_artifacts.InfraBlessing(), tmp_path / "blessing"),
        "profile": _out(KernelProfile(), tmp_path / "profile"),
    }
    profiler.Executor().Do(
        {"edge_model": models["edge_model"], "examples": [examples], "transform_graph": [graph]},
        outputs,
        dict(component.spec.exec_properties),
    )
    assert (tmp_path / "profile" / "profile.json").exists()
