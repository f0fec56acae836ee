"""Layers that stay in float, and recipes of ai-edge-quantizer. A child process makes as many models as it can."""

import importlib.util
import json
import pathlib
import sys

import models_zoo
import numpy as np
import pytest
import warm_converter

import edge_exray
from edge_exray import errors, schemas
from edge_exray.conversion import converter, modes, promises, recipes
from edge_exray.diagnosis.report import Verdict
from edge_exray.models.alignment import pair_by_name
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel

DEPTHWISE = "depthwise/Relu6;depthwise/FusedBatchNormV3;depthwise/depthwise"
CASTS = ("QUANTIZE", "DEQUANTIZE")
INTEGER_MODES = ("int8", "int8_float_io", "int16x8")


def _frames(count: int = 40) -> list[dict[str, np.ndarray]]:
    return [{"image": image[np.newaxis]} for image in models_zoo.make_frames(count, seed=5)[0]]


def _rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)


def _entry(regex: str, bits: int, granularity: str, *, unpack: bool) -> dict:
    return {
        "regex": regex,
        "operation": "FULLY_CONNECTED",
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": {
            "weight_tensor_config": {"num_bits": bits, "symmetric": True, "granularity": granularity, "dtype": "INT"},
            "compute_precision": "FLOAT" if unpack else "INTEGER",
            "explicit_dequantize": unpack,
        },
    }


MIXED = [
    _entry("up/", 4, "BLOCKWISE_32", unpack=False),
    _entry("down/", 4, "CHANNELWISE", unpack=True),
    _entry("nowhere", 8, "CHANNELWISE", unpack=True),
]


def _convert(path: str, folder: pathlib.Path, names: tuple[str, ...], **options) -> dict[str, converter.Conversion]:
    made = converter.convert_many(path, {str(folder / f"{name}.tflite"): name for name in names}, **options)
    return {conversion.quantization: conversion for conversion in made}


@pytest.fixture(scope="module")
def kept(conv_net, tmp_path_factory):
    """By quantizer and mode: conv_net without its depthwise layer."""
    options = {"signature": "serving_dense", "calibration": _frames(), "keep_float_layers": ["depthwise/.*"]}
    folders = [tmp_path_factory.mktemp(name) for name in modes.QUANTIZERS]
    return {
        "tensorflow": _convert(conv_net, folders[0], ("int8", "int8_float_io", "none"), **options),
        "ai_edge_quantizer": _convert(
            conv_net,
            folders[1],
            ("int8", "int8_float_io", "int16x8", "dynamic_range", "float16"),
            quantizer="ai_edge_quantizer",
            **options,
        ),
    }


@pytest.fixture(scope="module")
def dense_net(tmp_path_factory):
    return models_zoo.save_dense_net(tmp_path_factory.mktemp("dense") / "net", factor=500.0)


@pytest.fixture(scope="module")
def mixed(dense_net, tmp_path_factory):
    """dense_net in float, and in what `MIXED` makes of it: `up` in blocks, `down` unpacked, `head` as it is."""
    return _convert(dense_net, tmp_path_factory.mktemp("mixed"), ("recipe", "none"), recipe=MIXED)


def _bare(name: str) -> str:
    return name.rstrip("0123456789")


def _types(conversion: converter.Conversion) -> dict[str, tuple[str, ...]]:
    """Op to the types of its activations and weights; by its name without the digits that converters append."""
    graph = EdgeModel(conversion.path).graph
    found = {}
    for op in graph.ops:
        stored = [graph.stored_constant(t) for t in op.inputs[1:2]]
        tensors = [*op.inputs[:1], *(t for t in stored if t is not None), *op.outputs]
        name = graph.tensors[op.outputs[0]].spec.name
        found[f"{op.name} {name if op.name in CASTS else _bare(name)}"] = tuple(graph.tensors[t].type for t in tensors)
    return found


@pytest.mark.parametrize(
    ("quantizer", "mode"),
    [("tensorflow", "int8"), ("tensorflow", "int8_float_io"), *(("ai_edge_quantizer", mode) for mode in INTEGER_MODES)],
)
def test_kept_layer_is_float_and_every_other_is_integer(quantizer, mode, kept, conv_net):
    conversion = kept[quantizer][mode]
    activations = "INT16" if mode == "int16x8" else "INT8"

    types = _types(conversion)
    assert types.pop(f"DEPTHWISE_CONV_2D {DEPTHWISE}") == ("FLOAT32", "FLOAT32", "FLOAT32")
    casts = [name for name in types if name.split()[0] in CASTS]
    assert len(casts) == (4 if mode == "int8_float_io" else 2)
    for name, found in types.items():
        assert name in casts or {found[0], found[-1]} == {activations}, name
    assert [_bare(name) for name in conversion.kept_layers] == [DEPTHWISE]
    assert conversion.left_float == []

    cloud, edge = CloudModel(conv_net, "serving_dense"), EdgeModel(conversion.path)
    images, _ = models_zoo.make_frames(40, seed=6)
    got = np.concatenate([edge.infer({"image": image[np.newaxis]})["probabilities"] for image in images])
    np.testing.assert_allclose(got, cloud.infer({"image": images})[0]["probabilities"], atol=0.05)
    assert edge.inputs["image"].dtype == ("float32" if mode == "int8_float_io" else activations.lower())


def test_modes_without_calibration_keep_layers_too(kept):
    for mode, weights in (("dynamic_range", "INT8"), ("float16", "FLOAT16")):
        types = _types(kept["ai_edge_quantizer"][mode])
        assert types[f"DEPTHWISE_CONV_2D {DEPTHWISE}"] == ("FLOAT32", "FLOAT32", "FLOAT32")
        assert types["FULLY_CONNECTED MatMul;add"] == ("FLOAT32", weights, "FLOAT32")
        assert len(EdgeModel(kept["ai_edge_quantizer"][mode].path).graph.ops) == (9 if mode == "float16" else 6)


@pytest.mark.parametrize("quantizer", modes.QUANTIZERS)
def test_a_model_with_kept_layers_validates(quantizer, kept, conv_net, edge_models):
    images, labels = models_zoo.make_frames(140, seed=2)
    frames = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]

    report = edge_exray.validate(
        conv_net, kept[quantizer]["int8"].path, frames, float_edge=edge_models["none"], signature="serving_dense"
    )

    assert report, report.summary
    assert report.alignment["coverage"] == 1.0
    assert [layer["op"] for layer in report.layers if layer["status"] == "internal"] == ["DEQUANTIZE", "QUANTIZE"]


def test_record_tells_what_was_kept_and_by_which_recipe(kept):
    for quantizer, made in kept.items():
        document = json.loads(made["int8"].to_json())
        schemas.check(document, "conversion", errors.ArtifactError)
        assert document["quantizer"] == quantizer
        assert document["keep_float_layers"] == ["depthwise/.*"]
        assert [_bare(name) for name in document["kept_layers"]] == [DEPTHWISE]
        assert ("ai-edge-quantizer" in document["versions"]) == (quantizer == "ai_edge_quantizer")
    none = kept["tensorflow"]["none"]
    assert (none.quantizer, none.recipe, none.keep_float_layers, none.kept_layers) == (None, None, [], [])
    assert kept["tensorflow"]["int8"].recipe is None
    assert kept["ai_edge_quantizer"]["int8"].recipe[-1]["algorithm_key"] == "no_quantize"


@pytest.mark.parametrize("quantizer", modes.QUANTIZERS)
def test_keeping_an_ill_conditioned_layer_improves_the_answers(quantizer, dense_net, tmp_path):
    frames = [{"x": row[np.newaxis]} for row in _rows(40, 1)]
    x = _rows(30, 2)
    wanted = CloudModel(dense_net).infer({"x": x})[0]["y"]

    def error(name: str, layers: list[str]) -> float:
        made = converter.convert(
            dense_net, tmp_path / name, calibration=frames, quantizer=quantizer, keep_float_layers=layers
        )
        edge = EdgeModel(made.path)
        got = np.concatenate([edge.infer({"x": row[np.newaxis]})["y"] for row in x])
        return float(np.sqrt(np.mean((got - wanted) ** 2)) / np.ptp(wanted))

    assert error("plain", []) > 0.08
    assert error("kept", ["up/.*", "down/.*"]) < 0.01


def test_recipe_is_what_the_weights_are_stored_by(mixed):
    graph = EdgeModel(mixed["recipe"].path).graph
    up, down, head = (op for op in graph.ops if op.name == "FULLY_CONNECTED")

    weights = [graph.tensors[graph.stored_constant(op.inputs[1])] for op in (up, down, head)]
    assert [tensor.type for tensor in weights] == ["INT4", "INT4", "FLOAT32"]
    assert [tensor.block_size for tensor in weights] == [32, 0, 0]
    assert [graph.tensors[op.inputs[1]].type for op in (up, down)] == ["INT4", "FLOAT32"]
    assert mixed["recipe"].quantizer == "ai_edge_quantizer"
    assert mixed["recipe"].left_float == ["FULLY_CONNECTED at StatefulPartitionedCall:0"]
    assert mixed["recipe"].notes == [
        "entry 3 of the recipe (FULLY_CONNECTED at 'nowhere') quantises nothing",
    ]
    assert mixed["recipe"].calibration is None
    assert mixed["recipe"].bytes < 0.4 * mixed["none"].bytes


def test_blocks_of_another_size_break_the_promise(mixed):
    edge, float_edge = EdgeModel(mixed["recipe"].path), EdgeModel(mixed["none"].path)
    twins = pair_by_name(edge, float_edge)

    recipes.check(edge.graph, twins, float_edge.graph, recipes.resolve(MIXED))
    larger = recipes.resolve([_entry("up/", 4, "BLOCKWISE_64", unpack=False), MIXED[1]])
    with pytest.raises(errors.ConversionError, match="has 32 weights in a block, the recipe asks for 64"):
        recipes.check(edge.graph, twins, float_edge.graph, larger)


def test_model_that_only_other_kernels_run_is_an_error_and_no_file(dense_net, tmp_path):
    recipe = [_entry(".*", 2, "BLOCKWISE_32", unpack=False)]
    with pytest.raises(errors.ConversionError, match=r"no device would run it, .*INT2.*XNNPACK.*choose another"):
        converter.convert(dense_net, tmp_path / "model.tflite", quantization="recipe", recipe=recipe)
    assert list(tmp_path.iterdir()) == []


def test_own_error_of_blocks_and_unpacked_weights_is_that_of_rounding(mixed, dense_net):
    report = edge_exray.validate(
        dense_net, mixed["recipe"].path, [{"x": row} for row in _rows(40, 2)], float_edge=mixed["none"].path
    )

    own_error = next(check for check in report.checks if check.name == "own_error")
    assert own_error.verdict is Verdict.PASSED, own_error.message
    assert report.alignment["coverage"] == 1.0


def test_json_file_of_ai_edge_quantizer_passes_unchanged_and_gives_the_same_bytes(conv_net, tmp_path):
    package = pathlib.Path(importlib.util.find_spec("ai_edge_quantizer").origin).parent
    sample = package / "recipes" / "sample_advanced_usage_recipe.json"

    def convert(name: str) -> converter.Conversion:
        return converter.convert(
            conv_net,
            tmp_path / name,
            quantization="recipe",
            recipe=sample,
            signature="serving_dense",
            calibration=_frames(),
        )

    first = convert("first")
    with warm_converter.cold():
        second = convert("second")

    types = _types(first)
    # It keeps convolutions, unpacks 4-bit weights of dense layers, and quantises the rest.
    assert types["CONV_2D pointwise/Relu6;pointwise/FusedBatchNormV3;pointwise/Conv2D"][:2] == ("FLOAT32", "FLOAT32")
    assert types[f"DEPTHWISE_CONV_2D {DEPTHWISE}"] == ("INT8", "INT8", "INT8")
    assert types["FULLY_CONNECTED MatMul;add"] == ("FLOAT32", "INT4", "FLOAT32")
    assert first.calibration.frames == 40
    assert first.fingerprint == second.fingerprint
    assert first.recipe == recipes.resolve(json.loads(sample.read_text()))


def test_ranges_span_all_frames(edge_models):
    frames = [{"image": np.full((1, 16, 16, 3), value, np.float32)} for value in (0.5, -1.0, 0.25, 1.0, 0.0)]

    content = recipes.quantize(
        pathlib.Path(edge_models["none"]).read_bytes(), recipes.for_mode(modes.find("int8")), frames
    )

    low, high = EdgeModel(content).inputs["image"].quantization.range(np.dtype(np.int8))
    assert (low, high) == pytest.approx((-1, 1), abs=0.01)


def test_output_stays_quantized_when_the_last_layer_is_kept(edge_models):
    float_edge = EdgeModel(edge_models["none"])
    graph = float_edge.graph

    recipe = recipes.keep(recipes.for_mode(modes.find("int8")), graph, graph.ops[-1:])
    edge = EdgeModel(recipes.quantize(float_edge.content, recipe, _frames(4)))

    assert edge.outputs["probabilities"].dtype == np.int8
    assert [op.name for op in edge.graph.ops[-3:]] == ["DEQUANTIZE", "SOFTMAX", "QUANTIZE"]


def test_named_recipes_are_told_to_need_calibration_as_ai_edge_quantizer_says():
    for name in ("static_wi8_ai8", "static_wi8_ai16", "dynamic_wi4_afp32", "weight_only_wi4_afp32"):
        assert modes.find("recipe", recipes.resolve(name)).needs_calibration == name.startswith("static")
    gptq = {**MIXED[1], "algorithm_key": "GPTQ"}
    assert modes.find("recipe", [gptq]).needs_calibration


def test_broken_promise_is_named(edge_models):
    float_edge, int8 = EdgeModel(edge_models["none"]), EdgeModel(edge_models["int8"])
    twins = pair_by_name(int8, float_edge)

    with pytest.raises(errors.ConversionError, match=r"DEPTHWISE_CONV_2D at depthwise.* was to stay in float, and was"):
        promises.find_kept(int8.graph, twins, float_edge.graph, [float_edge.graph.ops[1]])
    with pytest.raises(errors.ConversionError, match=r"CONV_2D at conv.* has INT8 activations, .* asks for FLOAT32"):
        recipes.check(int8.graph, twins, float_edge.graph, recipes.resolve("dynamic_wi8_afp32"))
    dynamic = EdgeModel(recipes.quantize(float_edge.content, recipes.resolve("dynamic_wi8_afp32"), []))
    twins = pair_by_name(dynamic, float_edge)
    with pytest.raises(errors.ConversionError, match=r"CONV_2D at conv.* has INT8 weights, the recipe asks for INT4"):
        recipes.check(dynamic.graph, twins, float_edge.graph, recipes.resolve("dynamic_wi4_afp32"))


def test_recipe_that_does_not_fit_the_model_is_an_error(edge_models):
    float_edge = EdgeModel(edge_models["none"])

    # 8 bits in blocks have no kernels: ai-edge-quantizer returns the float model.
    with pytest.raises(errors.ConversionError, match="the recipe quantises no op of this model"):
        recipes.without_effect(float_edge.graph, recipes.resolve("dynamic_wi8b32_afp32"))
    with pytest.raises(errors.ConversionError, match=r"not divisible by block size 32; .*keep_float_layers"):
        recipes.quantize(float_edge.content, recipes.resolve("dynamic_wi4b32_afp32"), [])


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("dynamic_wi4_af32", "neither a file nor .*; did you mean dynamic_wi4_afp32?"),
        ("gemma4_mixed48", "maps models to recipes"),
        ([], "has no entries"),
        ([{"regex": ".*"}], "a key is missing, 'operation'"),
        ([{**MIXED[0], "operation": "CONV2D"}], "'CONV2D' is not a valid TFLOperationName"),
        ([{**MIXED[0], "algorithm_key": "best"}], "Unsupported algorithm key: best"),
        ([{**MIXED[0], "regex": "("}], "unterminated"),
    ],
)
def test_unknown_recipe_is_an_error(recipe, words):
    with pytest.raises(errors.SpecError, match=words):
        recipes.resolve(recipe)


def test_entries_for_the_ends_of_a_model_have_an_effect_but_are_not_enough(edge_models):
    graph = EdgeModel(edge_models["none"]).graph
    dense, *_ = recipes.resolve("static_wi8_ai8")
    ends = [{**dense, "operation": end} for end in ("INPUT", "OUTPUT")]

    assert recipes.without_effect(graph, [{**dense, "operation": "FULLY_CONNECTED"}, *ends]) == []
    away = {**ends[0], "regex": "nowhere"}
    assert recipes.without_effect(graph, [dense, away]) == [
        "entry 2 of the recipe (INPUT at 'nowhere') quantises nothing"
    ]
    with pytest.raises(errors.ConversionError, match="the recipe quantises no op of this model"):
        recipes.without_effect(graph, ends)


def test_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(errors.SpecError, match=r"recipe .* cannot be read: Is a directory; give it a JSON file"):
        recipes.resolve(tmp_path)


def test_file_that_is_no_json_is_an_error(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text("[")
    with pytest.raises(errors.SpecError, match=r"recipe .*recipe.json' is not valid JSON"):
        recipes.resolve(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantizer": "toco"}, "unknown quantizer 'toco': choose from tensorflow, ai_edge_quantizer"),
        ({"quantization": "recipe"}, "quantization 'recipe' needs a recipe"),
        ({"recipe": "static_wi8_ai8"}, "choose quantization='recipe'"),
        ({"quantization": "recipe", "recipe": "static_wi8_ai8", "calibration": None}, "'recipe' needs a calibration"),
        ({"keep_float_layers": "conv"}, r"keep_float_layers is a list of names, write \['conv'\]"),
        ({"keep_float_layers": [0]}, "keep_float_layers: 0 is no name"),
        ({"keep_float_layers": ["conv"], "quantization": "none"}, "keep_float_layers needs a quantization"),
        ({"keep_float_layers": ["conv"], "quantization": "int16x8"}, "keeps none in int16x8: .*'ai_edge_quantizer'"),
        ({"keep_float_layers": ["conv"], "quantization": "dynamic_range"}, "keeps none in dynamic_range"),
    ],
)
def test_choices_that_contradict_are_refused_before_anything_runs(options, words, conv_net, tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "_WORKER", ("/bin/false",))
    with pytest.raises(errors.SpecError, match=words):
        converter.convert(conv_net, tmp_path / "model.tflite", **{"calibration": _frames(1), **options})


def test_keeping_every_layer_is_an_error(conv_net, tmp_path):
    with pytest.raises(errors.SpecError, match="names every layer: choose a float quantization"):
        converter.convert(
            conv_net,
            tmp_path / "model.tflite",
            signature="serving_dense",
            calibration=_frames(1),
            keep_float_layers=[".*"],
        )


def test_layer_that_is_not_there_is_an_error_and_no_file(conv_net, tmp_path):
    with pytest.raises(errors.SpecError, match=r"no layer has the name 'depthwise/conv'.*did you mean depthwise/"):
        converter.convert(
            conv_net,
            tmp_path / "model.tflite",
            signature="serving_dense",
            calibration=_frames(1),
            keep_float_layers=["depthwise/conv"],
        )
    assert not list(tmp_path.iterdir())


def test_missing_extra_is_named(conv_net, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    for options in ({"quantizer": "ai_edge_quantizer"}, {"quantization": "recipe", "recipe": "static_wi8_ai8"}):
        with pytest.raises(errors.ExrayError, match=r"ai_edge_quantizer.*pip install edge-exray\[quantizer\]"):
            converter.convert(conv_net, tmp_path / "model.tflite", calibration=_frames(1), **options)
