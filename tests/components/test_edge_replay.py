import dataclasses
import gzip
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

import models_zoo
import numpy as np
import psutil
import pytest
import tensorflow as tf
from tfx import types
from tfx.types import artifact_utils, standard_artifacts

from edge_exray import errors
from edge_exray.components.edge_replay import beam_replay, component, executor
from edge_exray.components.types import EdgeReplayResult
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.frames.examples import read_tfrecords
from edge_exray.frames.functions import load_functions
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay import replayer
from edge_exray.replay.failures import FrameFailures
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.result import ReplayResult
from edge_exray.replay.sampling import sample
from edge_exray.replay.tally import TallyOptions
from edge_exray.version import __version__

pytestmark = pytest.mark.pipeline

BGR = """
def edge_inputs_fn(example):
    return {"image": example["image"].reshape(16, 16, 3)[..., ::-1]}

def edge_variants_fn(example):
    return {"rgb": {"image": example["image"].reshape(16, 16, 3)}}

def frame_id_fn(example):
    return example["name"][0].decode()
"""
# Fails on a frame that the alignment does not see, so that it fails in a worker.
FAILING = """
def label_fn(example):
    if example["name"][0] == b"eval-7":
        raise KeyError("no such class")
    return example["label"][0]
"""
# Fails on three frames, of which the alignment would see the first of each split, and leaves a note of the process and
# thread that it ran in.
UNRELIABLE = (
    BGR
    + """
import os, pathlib, threading

def label_fn(example):
    (pathlib.Path(os.environ["NOTES"]) / f"{os.getpid()}-{threading.get_ident()}").touch()
    if example["name"][0] in (b"train-0", b"eval-0", b"eval-7"):
        raise KeyError("no such class")
    return example["label"][0]
"""
)
TWO_THREADS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
TWO_PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
SPLITS = {"train": 25, "eval": 15, "empty": 0}
# The parameters of the fixture `expected`.
AS_EXPECTED = {
    "splits": ["train", "eval"],
    "slice_keys": ["light"],
    "max_failed_frames": 3,
    "kernel_frames": 4,
    "environments": ["xnnpack:2"],
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> standard_artifacts.Examples:
    """Three splits of two shards each; features `image`, `label`, `light` and `name`."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path_factory.mktemp("examples"))
    artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
    for split, count in SPLITS.items():
        images, labels = models_zoo.make_frames(count, seed=len(split))
        folder = pathlib.Path(artifact.uri, f"Split-{split}")
        folder.mkdir()
        for shard in range(2):
            with tf.io.TFRecordWriter(str(folder / f"data-{shard}.gz"), "GZIP") as writer:
                for i in range(shard, count, 2):
                    writer.write(_example(f"{split}-{i}", images[i], labels[i]))
    return artifact


def _example(name: str, image: np.ndarray, label: int) -> bytes:
    light = models_zoo.CLASSES[label].split()[0]
    features = {
        "image": tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel())),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "light": tf.train.Feature(bytes_list=tf.train.BytesList(value=[light.encode()])),
        "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture(scope="module")
def models(conv_net, edge_models, tmp_path_factory) -> dict[str, standard_artifacts.Model]:
    """Model artifacts as Trainer and EdgeConverter make them."""
    root = tmp_path_factory.mktemp("models")
    made = {}
    for name, source in {
        "model": conv_net,
        "edge_model": edge_models["int8"],
        "float_edge_model": edge_models["none"],
    }.items():
        made[name] = standard_artifacts.Model()
        made[name].uri = str(root / name)
        serving = root / name / "Format-Serving"
        if name == "model":
            shutil.copytree(source, serving)
        else:
            serving.mkdir(parents=True)
            shutil.copy(source, serving / "tflite")
    made["edge_model"].id = 42
    return made


@pytest.fixture
def output(tmp_path) -> EdgeReplayResult:
    artifact = EdgeReplayResult()
    artifact.uri = str(tmp_path / "replay")
    return artifact


def do(models, examples, output, *, module: str | None = None, beam_args=(), **parameters) -> None:
    """Runs the executor with the parameters that the component would give it."""
    if module:
        path = pathlib.Path(output.uri).parent / "app.py"
        path.write_text(module)
        parameters["module_file"] = str(path)
    inputs = {**models, "examples": examples}
    channels = {name: types.Channel(type=type(artifact)) for name, artifact in inputs.items()}
    properties = component.EdgeReplay(**channels, **parameters).exec_properties
    context = executor.Executor.Context(beam_pipeline_args=list(beam_args))
    executor.Executor(context).Do(
        {name: [artifact] for name, artifact in inputs.items()}, {"replay": [output]}, properties
    )


def left_behind(output: EdgeReplayResult) -> list[str]:
    return [str(path) for path in pathlib.Path(output.uri).rglob("*") if path.is_file()]


@pytest.fixture(scope="module", autouse=True)
def notes(tmp_path_factory) -> Iterator[pathlib.Path]:
    """The folder of the notes that `UNRELIABLE` leaves; worker processes inherit the environment."""
    folder = tmp_path_factory.mktemp("notes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTES", str(folder))
        yield folder


@pytest.fixture(scope="module")
def expected(conv_net, edge_models, examples, tmp_path_factory) -> ReplayResult:
    """The same replay by the library, frame by frame in this process."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "app.py").write_text(UNRELIABLE)
    files = [str(f) for split in ("train", "eval") for f in pathlib.Path(examples.uri, f"Split-{split}").iterdir()]
    functions = load_functions(str(folder / "app.py"))
    return replay(
        ModelPaths(conv_net, edge_models["none"], edge_models["int8"]),
        read_tfrecords(files),
        folder / "replay",
        functions=functions,
        options=TallyOptions(
            ("light",),
            max_failed_frames=3,
            environments=("xnnpack:2",),
            sampling=sample(lambda: read_tfrecords(files), functions, 0, 4),
        ),
    )


def assert_same_statistics(result: ReplayResult, expected: ReplayResult) -> None:
    """Counts and extremes are the same in every order of the frames, sums but for their rounding."""
    assert set(result.statistics.by_key) == set(expected.statistics.by_key)
    for key, twin in expected.statistics.by_key.items():
        for field in dataclasses.fields(twin):
            found, wanted = (getattr(s, field.name) for s in (result.statistics.by_key[key], twin))
            exact = isinstance(wanted, int) or field.name.endswith(("_min", "_max", "_range", "max_abs"))
            tolerance = 0 if exact else 1e-9
            if dataclasses.is_dataclass(wanted):  # constant channels and sketches of quantiles merge to the last bit
                np.testing.assert_equal(dataclasses.asdict(found), dataclasses.asdict(wanted), err_msg=str(key))
                continue
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=f"{key} {field.name}")


@pytest.mark.parametrize("beam_args", [TWO_THREADS, TWO_PROCESSES], ids=["two_threads", "two_processes"])
def test_beam_learns_what_the_library_learns(beam_args, models, examples, output, expected, notes, monkeypatch):
    opened = []
    genuine = replayer.Replayer.__init__
    monkeypatch.setattr(replayer.Replayer, "__init__", lambda *args: opened.append(1) or genuine(*args))
    for note in notes.iterdir():
        note.unlink()
    do(models, examples, output, module=UNRELIABLE, beam_args=beam_args, **AS_EXPECTED)

    # Models open once in this process, however many threads it runs, and no process outlives the replay.
    assert len(opened) == 1
    assert not [c for c in psutil.Process().children(recursive=True) if "edge_exray.replay" in " ".join(c.cmdline())]
    workers = {int(note.name.split("-")[0]) for note in notes.iterdir()} - {os.getpid()}
    assert len(workers) in ((1, 2) if beam_args == TWO_PROCESSES else (0,))

    result = ReplayResult.open(output.uri)
    predictions = {p["frame_id"][0]: p for p in result.predictions()}
    twins = {p["frame_id"][0]: p for p in expected.predictions()}
    names = {f"{split}-{i}".encode() for split in ("train", "eval") for i in range(SPLITS[split])}
    assert set(predictions) == set(twins) == names - {b"train-0", b"eval-0", b"eval-7"}
    for name, twin in twins.items():
        assert set(predictions[name]) == set(twin) == {
            "frame_id", "label", "light", "cloud/probabilities", "edge/probabilities", "env/rgb/probabilities",
            "env/xnnpack:2/probabilities",
        }  # fmt: skip
        for feature, value in twin.items():
            np.testing.assert_array_equal(predictions[name][feature], value)

    assert_same_statistics(result, expected)
    assert {key.slice for key in result.statistics.by_key} == {"", "light:bright", "light:dark"}
    assert result.summary["leg_frames"]["kernel"] == 4
    assert [(f.id, f.drift) for f in result.worst_frames()] == [(f.id, f.drift) for f in expected.worst_frames()]
    for frame, twin in zip(result.worst_frames(), expected.worst_frames(), strict=True):
        for role in ("reference", "app", "cloud", "edge"):
            for name, value in getattr(twin, role).items():
                np.testing.assert_array_equal(getattr(frame, role)[name], value)
    for kept, twin in zip(result.input_samples(), expected.input_samples(), strict=True):
        assert kept.id == twin.id
        for role in ("reference", "app", "source"):
            for name, value in getattr(twin, role).items():
                np.testing.assert_array_equal(getattr(kept, role)[name], value)
    assert len(result.input_samples()) == 16
    document = result.failures.to_dict()
    assert (document["frames"], document["failed"]) == (40, 3)
    (reason,) = document["reasons"]
    assert (reason["error"], reason["count"]) == ("ModuleError", 3)
    assert "app.py failed: KeyError: 'no such class' (line " in reason["message"]
    # Every second frame is in the other shard.
    assert [frame.split("Split-")[1] for frame in reason["frames"]] == [
        "eval/data-0.gz#0, id eval-0",
        "eval/data-1.gz#3, id eval-7",
        "train/data-0.gz#0, id train-0",
    ]
    assert sorted(p.name for p in pathlib.Path(output.uri).iterdir()) == [
        "alignment.json", "frames", "input_samples", "layers", "predictions", "replay.json", "worst_frames"
    ]  # fmt: skip
    assert result.alignment == expected.alignment
    assert output.get_string_custom_property("edge_model") == models["edge_model"].uri
    assert output.get_int_custom_property("edge_model_id") == 42


def test_more_failed_frames_than_allowed_are_an_error_and_no_result(models, examples, output):
    with pytest.raises(errors.DataError, match=r"more than 1 frames failed.*app.py failed: KeyError: 'no such class'"):
        do(models, examples, output, module=UNRELIABLE, max_failed_frames=1)
    assert not left_behind(output)


def test_failures_are_added_up_when_each_worker_had_few(tmp_path):
    failures = FrameFailures(10)
    for place in ("data.gz#3", "data.gz#7"):
        failures.add(errors.ModuleError("label_fn failed"), place)
    for part in ("failures", "predictions", "layers"):
        (tmp_path / part).mkdir()
    (tmp_path / "failures" / "failures.json").write_text(json.dumps(failures.to_dict()))
    with pytest.raises(errors.DataError, match=r"more than 1 frames failed.*label_fn failed \(first at data.gz#3\)"):
        beam_replay.take_failures(tmp_path, TallyOptions(max_failed_frames=1))
    assert list(tmp_path.iterdir()) == []


def test_frames_that_share_an_id_count_as_frames_of_their_own(models, examples, output):
    do(models, examples, output, module='def frame_id_fn(example):\n    return "the same"\n')
    result = ReplayResult.open(output.uri)
    assert len(list(result.predictions())) == SPLITS["eval"]
    # The worst of them stands for all: five times the same id would tell nobody which frame it is.
    (worst,) = result.worst_frames()
    lines = [
        line
        for f in pathlib.Path(output.uri, "frames").iterdir()
        for line in gzip.decompress(f.read_bytes()).splitlines()
    ]
    assert worst.drift == pytest.approx(max(json.loads(line)["nrmse"]["probabilities"] for line in lines))
    assert gather(result, ValidationSpec()).repeated_ids == SPLITS["eval"] - 1


def test_a_missing_float_edge_model_is_made_and_stale_parts_do_not_count(models, examples, output, expected):
    stale = pathlib.Path(output.uri, "predictions", "part-00000-of-00007.gz")
    stale.parent.mkdir(parents=True)
    shutil.copy(expected.prediction_files()[0], stale)

    do({name: m for name, m in models.items() if name != "float_edge_model"}, examples, output)

    result = ReplayResult.open(output.uri)
    assert len(list(result.predictions())) == SPLITS["eval"]
    float_edge = EdgeModel(result.summary["models"]["float_edge"]["path"])
    assert float_edge.inputs["image"].dtype == np.float32
    assert result.statistic("conversion", "output", "probabilities").nrmse < 1e-5
    assert 1e-4 < result.statistic("quantization", "output", "probabilities").nrmse < 0.1


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"splits": ["empty"]}, errors.DataError, "split 'empty' of the examples is empty"),
        ({"splits": ["eval", "empty"]}, errors.DataError, "split 'empty' of the examples is empty"),
        ({"splits": ["test"]}, errors.DataError, r"no split 'test', only \['train', 'eval', 'empty'\]"),
        ({"signature_name": "serving_default"}, errors.ModelError, "'serving_default'.*takes serialized tf.Examples"),
        ({"slice_keys": ["colour"]}, errors.DataError, "slice key colour is not a feature of the examples"),
        ({"module": FAILING}, errors.ModuleError, "label_fn of .*app.py failed: KeyError: 'no such class'"),
        ({"module": "label_fn = 1 +"}, errors.ModuleError, "app.py does not import: SyntaxError"),
        ({"module_path": "no_such_module"}, errors.ModuleError, "module no_such_module does not import"),
    ],
)
def test_unusable_input_is_one_error_and_no_result(parameters, error, words, models, examples, output):
    with pytest.raises(error, match=rf"\A.*{words}.*\Z"):
        do(models, examples, output, **parameters)
    assert not left_behind(output)


def test_a_damaged_shard_is_named(models, examples, output, tmp_path):
    damaged = standard_artifacts.Examples()
    damaged.uri = str(tmp_path / "examples")
    damaged.split_names = examples.split_names
    shutil.copytree(examples.uri, damaged.uri)
    shard = pathlib.Path(damaged.uri, "Split-eval", "data-1.gz")
    shard.write_bytes(shard.read_bytes()[:-900])

    with pytest.raises(errors.DataError, match=f"{shard} is not a readable TFRecord file"):
        do(models, damaged, output)
    assert not left_behind(output)


def test_an_edge_model_of_another_model_is_refused(models, examples, output, tmp_path):
    other = standard_artifacts.Model()
    other.uri = str(tmp_path / "other")
    models_zoo.save_two_input_net(tmp_path / "other" / "Format-Serving")

    with pytest.raises(errors.ModelError, match=r"inputs are paired by name.*has apple .*ids .*zebra .*has image "):
        do({**models, "model": other}, examples, output)
    assert not left_behind(output)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda healthy: healthy[:200], "does not load in LiteRT"),
        (lambda healthy: b"PK\3\4" + healthy, "lacks the identifier TFL3"),
        (lambda healthy: None, "holds no edge model"),
    ],
    ids=["cut", "another format", "missing"],
)
def test_a_broken_edge_model_is_named(content, words, models, examples, output, tmp_path):
    broken = standard_artifacts.Model()
    broken.uri = str(tmp_path / "broken")
    folder = tmp_path / "broken" / "Format-Serving"
    folder.mkdir(parents=True)
    damaged = content(pathlib.Path(models["edge_model"].uri, "Format-Serving", "tflite").read_bytes())
    if damaged is not None:
        (folder / "tflite").write_bytes(damaged)

    with pytest.raises(errors.ModelError, match=words) as raised:
        do({**models, "edge_model": broken}, examples, output)
    assert str(folder / "tflite") in str(raised.value)
    assert not left_behind(output)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"splits": []}, "splits needs at least 1"),
        ({"splits": "eval"}, r"splits is a list of names, write \['eval'\]"),
        ({"slice_keys": "light"}, r"slice_keys is a list of names, write \['light'\]"),
        ({"max_failed_frames": -1}, "max_failed_frames must be 0 or more, is -1"),
        ({"environments": "reference"}, r"environments is a list of names, write \['reference'\]"),
        ({"environments": ["refrence"]}, "there is no environment 'refrence'.*did you mean reference"),
        ({"worst_frames": -1}, "worst_frames must be 0 or more, is -1"),
        ({"module_file": "a.py", "module_path": "a"}, "module_file and module_path exclude each other"),
    ],
)
def test_impossible_parameters_are_refused_at_construction(parameters, words):
    model, examples = (types.Channel(type=t) for t in (standard_artifacts.Model, standard_artifacts.Examples))
    with pytest.raises(errors.SpecError, match=f"^(EdgeReplay: )?{words}"):
        component.EdgeReplay(model=model, edge_model=model, examples=examples, **parameters)


def test_parameters_are_plain_and_hold_the_library_version():
    model, examples = (types.Channel(type=t) for t in (standard_artifacts.Model, standard_artifacts.Examples))
    properties = component.EdgeReplay(model=model, edge_model=model, examples=examples).exec_properties
    assert properties["library_version"] == __version__
    assert {type(value) for value in properties.values()} <= {str, int, float, type(None)}
