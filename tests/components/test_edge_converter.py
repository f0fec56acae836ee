import json
import pathlib
import shutil

import models_zoo
import numpy as np
import pytest
from tfx import types
from tfx.types import standard_artifacts

from edge_exray import errors, schemas
from edge_exray.components.edge_converter import component, executor
from edge_exray.components.types import ConversionReport
from edge_exray.contract import InputContract
from edge_exray.conversion import recipes
from edge_exray.models.metadata import read_contract
from edge_exray.models.tflite import EdgeModel
from edge_exray.version import __version__

_PREPROCESSING = """
import numpy as np

def reference_inputs_fn(example):
    return {"image": np.zeros((16, 16, 3), np.float32)}

def calibration_inputs_fn(example):
    return {"image": example["pixels"].reshape(16, 16, 3) / np.float32(127.5) - 1}
"""


@pytest.fixture
def model(conv_net: str, tmp_path: pathlib.Path) -> standard_artifacts.Model:
    """What Trainer makes of the convolutional net."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(tmp_path / "trained")
    shutil.copytree(conv_net, tmp_path / "trained" / "Format-Serving")
    return artifact


@pytest.fixture
def examples(tmp_path: pathlib.Path) -> standard_artifacts.Examples:
    """Two shards with 15 frames of the feature `pixels` each in the split `train`; an empty split `eval`."""
    import tensorflow as tf

    images, _ = models_zoo.make_frames(30, seed=7)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path / "examples")
    artifact.split_names = '["train", "eval"]'
    shards = {"Split-train/data-0.gz": images[:15], "Split-train/data-1.gz": images[15:], "Split-eval/data-0.gz": []}
    for name, frames in shards.items():
        path = tmp_path / "examples" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for image in frames:
                values = tf.train.FloatList(value=(image.ravel() + 1) * 127.5)
                features = tf.train.Features(feature={"pixels": tf.train.Feature(float_list=values)})
                writer.write(tf.train.Example(features=features).SerializeToString())
    return artifact


@pytest.fixture
def outputs(tmp_path: pathlib.Path) -> dict[str, list[types.Artifact]]:
    made = {
        "edge_model": standard_artifacts.Model(),
        "float_edge_model": standard_artifacts.Model(),
        "conversion_report": ConversionReport(),
    }
    for name, artifact in made.items():
        artifact.uri = str(tmp_path / "out" / name)
    return {name: [artifact] for name, artifact in made.items()}


def _channel(artifact_type: type[types.Artifact]) -> types.Channel:
    return types.Channel(type=artifact_type)


def _properties(tmp_path: pathlib.Path, **parameters) -> dict:
    """What the executor is given when a pipeline author writes these parameters, before TFX makes wheels."""
    module = tmp_path / "preprocessing.py"
    module.write_text(_PREPROCESSING)
    converter = component.EdgeConverter(
        model=_channel(standard_artifacts.Model),
        examples=_channel(standard_artifacts.Examples),
        module_file=str(module),
        **parameters,
    )
    return dict(converter.spec.exec_properties)


def test_trained_model_becomes_an_edge_model_and_its_float_twin(model, examples, outputs, tmp_path):
    properties = _properties(tmp_path, signature_name="serving_dense", num_calibration_examples=20)

    executor.Executor().Do({"model": [model], "examples": [examples]}, outputs, properties)

    folders = {name: pathlib.Path(artifact.uri) for name, (artifact,) in outputs.items()}
    edge = EdgeModel(folders["edge_model"] / "Format-Serving" / "tflite")
    float_edge = EdgeModel(folders["float_edge_model"] / "Format-Serving" / "tflite")
    assert edge.inputs["image"].dtype == np.int8
    assert float_edge.inputs["image"].dtype == np.float32
    # The range of the calibration function's [-1, 1], neither of the stored [0, 255] nor of the reference's zeros.
    low, high = edge.inputs["image"].quantization.range(np.dtype(np.int8))
    assert (low, high) == pytest.approx((-1, 1), abs=0.02)

    record = json.loads((folders["conversion_report"] / "conversion.json").read_text())
    schemas.check(record, "conversion", errors.ArtifactError)
    assert record == json.loads((folders["edge_model"] / "Format-Serving" / "conversion.json").read_text())
    assert record["calibration"]["frames"] == 20
    assert record["fingerprint"] == edge.fingerprint
    assert (folders["float_edge_model"] / "Format-Serving" / "conversion.json").exists()
    (artifact,) = outputs["edge_model"]
    assert artifact.get_string_custom_property("quantization") == "int8"
    assert artifact.get_int_custom_property("size_bytes") == len(edge.content)


def test_model_of_tfx_that_only_parses_examples_is_entered_behind_the_parsing(outputs, tmp_path):
    import tensorflow as tf
    import tfx

    data = pathlib.Path(tfx.__file__).parent / "components" / "testdata"
    trained, penguins = standard_artifacts.Model(), standard_artifacts.Examples()
    trained.uri, penguins.uri = str(data / "trainer" / "keras"), str(data / "penguin" / "data")
    penguins.split_names = '["train", "eval"]'
    converter = component.EdgeConverter(
        model=_channel(standard_artifacts.Model), examples=_channel(standard_artifacts.Examples)
    )

    executor.Executor().Do({"model": [trained], "examples": [penguins]}, outputs, dict(converter.spec.exec_properties))

    folders = {name: pathlib.Path(artifact.uri) / "Format-Serving" for name, (artifact,) in outputs.items()}
    [shard] = (data / "penguin" / "data" / "Split-eval").iterdir()
    serialized = list(tf.data.TFRecordDataset(str(shard), "GZIP").as_numpy_iterator())
    signature = tf.saved_model.load(str(data / "trainer" / "keras" / "Format-Serving")).signatures["serving_default"]
    wanted = signature(examples=tf.constant(serialized))["output_0"].numpy()
    edge, float_edge = (EdgeModel(folders[name] / "tflite") for name in ("edge_model", "float_edge_model"))
    for record, truth in zip(serialized, wanted, strict=True):
        features = tf.train.Example.FromString(record).features.feature
        feed = {name: np.array([features[name].float_list.value], np.float32) for name in float_edge.inputs}
        np.testing.assert_allclose(float_edge.infer(feed)["output_0"][0], truth, atol=1e-5)
        np.testing.assert_allclose(edge.infer(feed)["output_0"][0], truth, atol=0.05)
    assert set(edge.inputs) == {"culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"}
    [note] = json.loads((folders["edge_model"] / "conversion.json").read_text())["notes"]
    assert "parses tf.Examples" in note


def test_the_declared_contract_is_carried_by_both_models(model, outputs, tmp_path):
    contract = '{"labels": ["a", "b", "c", "d"], "inputs": {"image": {"std": 127.5, "mean": 127.5, "channels": "RGB"}}}'
    properties = _properties(tmp_path, quantization="none", signature_name="serving_dense", input_contract=contract)
    # However it is written, the cache of TFX knows it again.
    assert properties["input_contract"] == InputContract.from_json(contract).to_json()

    executor.Executor().Do({"model": [model]}, outputs, properties)

    for name in ("edge_model", "float_edge_model"):
        folder = pathlib.Path(outputs[name][0].uri) / "Format-Serving"
        assert read_contract(folder / "tflite") == InputContract.from_json(contract)
        record = json.loads((folder / "conversion.json").read_text())
        assert record["input_contract"] == InputContract.from_json(contract).to_dict()


def test_layers_are_kept_and_recipes_followed(model, examples, outputs, tmp_path):
    recipe = tmp_path / "recipe.json"
    # What ai-edge-quantizer saves beside a model.
    recipe.write_text(json.dumps(recipes.resolve("static_wi8_ai8")))
    properties = _properties(
        tmp_path,
        signature_name="serving_dense",
        num_calibration_examples=20,
        quantization="recipe",
        recipe=str(recipe),
        keep_float_layers=["depthwise/.*"],
    )
    recipe.unlink()

    executor.Executor().Do({"model": [model], "examples": [examples]}, outputs, properties)

    folders = {name: pathlib.Path(artifact.uri) / "Format-Serving" for name, (artifact,) in outputs.items()}
    record = json.loads((folders["edge_model"] / "conversion.json").read_text())
    schemas.check(record, "conversion", errors.ArtifactError)
    assert (record["quantization"], record["quantizer"]) == ("recipe", "ai_edge_quantizer")
    assert len(record["kept_layers"]) == 1
    assert record["calibration"]["frames"] == 20
    graph = EdgeModel(folders["edge_model"] / "tflite").graph
    computed = {op.name: graph.tensors[op.outputs[0]].type for op in graph.ops}
    assert (computed["DEPTHWISE_CONV_2D"], computed["CONV_2D"]) == ("FLOAT32", "INT8")


def test_memory_limit_of_the_component_reaches_the_converter(model, outputs, tmp_path):
    properties = _properties(tmp_path, quantization="none", signature_name="serving_dense", memory_limit_mb=100)

    with pytest.raises(errors.ConversionError, match="the limit is 100 MiB"):
        executor.Executor().Do({"model": [model]}, outputs, properties)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"calibration_splits": ["test"]}, errors.DataError, r"no split 'test', only \['train', 'eval'\]"),
        ({"calibration_splits": ["eval"]}, errors.DataError, "split eval of .*examples has no examples"),
        ({"signature_name": "serving_default"}, errors.ModelError, "'serving_default'.*takes serialized tf.Examples"),
        ({"signature_name": "serving"}, errors.ModelError, "no signature 'serving'"),
    ],
)
def test_unusable_input_is_one_error_and_no_file(parameters, error, words, model, examples, outputs, tmp_path):
    properties = _properties(tmp_path, **{"signature_name": "serving_dense", **parameters})

    with pytest.raises(error, match=words):
        executor.Executor().Do({"model": [model], "examples": [examples]}, outputs, properties)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"quantization": "int4"}, "unknown quantization 'int4'"),
        ({"quantization": "int8"}, "quantization 'int8' measures .*: give it examples"),
        ({"quantization": "recipe"}, "quantization 'recipe' needs a recipe"),
        ({"quantization": "recipe", "recipe": "static_wi8_ai8"}, "quantization 'recipe' measures .*: give it examples"),
        ({"quantization": "recipe", "recipe": "static_wi8"}, "did you mean static_wi8_ai8"),
        ({"quantization": "float16", "quantizer": "tf"}, "unknown quantizer 'tf'"),
        ({"quantization": "float16", "keep_float_layers": ["conv"]}, "keep_float_layers: .* keeps none in float16"),
        ({"quantization": "none", "keep_float_layers": "conv"}, r"keep_float_layers is a list of names.*\['conv'\]"),
        ({"quantization": "none", "module_file": "a.py", "module_path": "a"}, "module_file and module_path exclude"),
        ({"quantization": "none", "calibration_splits": "train"}, r"calibration_splits is a list.*\['train'\]"),
        ({"quantization": "none", "calibration_splits": []}, "calibration_splits needs at least 1"),
        ({"quantization": "none", "num_calibration_examples": 0}, "num_calibration_examples must be at least 1, is 0"),
        ({"quantization": "none", "timeout_seconds": 0}, "timeout_seconds must be at least 1, is 0"),
        ({"quantization": "none", "memory_limit_mb": 0}, "memory_limit_mb must be at least 1, is 0"),
        ({"quantization": "none", "input_contract": '{"imputs": {}}'}, "of EdgeConverter has the unknown key imputs"),
        (
            {"quantization": "none", "input_contract": '{"inputs": {"x": {"std": 1}}}'},
            "inputs.x: 'mean' is a dependency",
        ),
        (
            {"quantization": "none", "transform_graph": _channel(standard_artifacts.TransformGraph)},
            "transforms examples",
        ),
    ],
)
def test_impossible_parameters_are_refused_at_construction(parameters, words):
    with pytest.raises(errors.SpecError, match=words):
        component.EdgeConverter(model=_channel(standard_artifacts.Model), **parameters)


def test_parameters_are_plain_and_hold_the_library_version():
    converter = component.EdgeConverter(model=_channel(standard_artifacts.Model), quantization="float16")
    properties = converter.spec.exec_properties
    assert properties["library_version"] == __version__
    assert {type(value) for value in properties.values()} <= {str, int, float, type(None)}
    assert set(converter.outputs) == {"edge_model", "float_edge_model", "conversion_report"}
