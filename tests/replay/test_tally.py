import dataclasses
import math

import models_zoo
import numpy as np
import pytest
import tensorflow as tf

from edge_exray import errors
from edge_exray.frames.examples import try_examples
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay import sampling
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths, Replayer
from edge_exray.replay.result import ReplayResult
from edge_exray.replay.tally import TallyOptions

COUNT = 20
NO_EXAMPLE, WRONG_SHAPE, NO_LABEL = 0, 7, 11  # the first is one of those that confirm the alignment


@pytest.fixture(scope="module")
def paths(conv_net, edge_models) -> ModelPaths:
    return ModelPaths(conv_net, edge_models["none"], edge_models["int8"])


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> str:
    """TFRecords of `COUNT` frames, one of them no example."""
    path = str(tmp_path_factory.mktemp("records") / "data.tfrecord")
    images, labels = models_zoo.make_frames(COUNT, seed=4)
    with tf.io.TFRecordWriter(path) as writer:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            features = {
                "image": tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel())),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
            }
            record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
            writer.write(b"damaged" if number == NO_EXAMPLE else record)
    return path


def label(example):
    if example["number"] == NO_LABEL:
        raise KeyError("no such class")
    return example["label"]


def app_inputs(example):
    """Blue and red swapped on the upper half of the frames, and more wrong with each."""
    image = example["image"].reshape(16, 16, 3)
    number = example["number"].item()
    if number == WRONG_SHAPE:
        return {"image": image[:8]}
    return {"image": image if number < COUNT // 2 else image[..., ::-1]}


FUNCTIONS = UserFunctions(
    edge_inputs_fn=app_inputs, label_fn=label, frame_id_fn=lambda e: f"frame-{e['number'].item()}", source="app.py"
)


@pytest.fixture(scope="module")
def stored(paths, records, tmp_path_factory) -> ReplayResult:
    out = tmp_path_factory.mktemp("tally") / "out"
    return replay(paths, try_examples(records), out, functions=FUNCTIONS, options=TallyOptions((), 3, 4))


def test_frames_that_fail_are_counted_and_leave_no_other_trace(stored, records):
    failures = stored.failures.to_dict()
    assert (failures["frames"], failures["failed"]) == (COUNT, 3)
    reasons = {reason["frames"][0]: (reason["error"], reason["message"]) for reason in failures["reasons"]}
    assert reasons[f"#0, id {records}#0"][0] == "DataError"
    assert reasons["#7, id frame-7"] == (
        "ModuleError",
        "edge_inputs_fn of app.py: input image has shape [8, 16, 3], the model needs [16, 16, 3] (without batch axis)",
    )
    error, message = reasons["#11, id frame-11"]
    assert error == "ModuleError"
    assert message.startswith("label_fn of app.py failed: KeyError: 'no such class' (line ")
    ids = {prediction["frame_id"][0].decode() for prediction in stored.predictions()}
    assert ids == {f"frame-{n}" for n in range(COUNT)} - {"frame-0", "frame-7", "frame-11"}
    assert {statistic.frames for statistic in stored.statistics.by_key.values()} == {COUNT - 3}


def test_one_failure_more_than_allowed_is_an_error_and_no_result(paths, records, tmp_path):
    with pytest.raises(errors.DataError, match="more than 2 frames failed"):
        replay(paths, try_examples(records), tmp_path / "out", functions=FUNCTIONS, options=TallyOptions((), 2))
    assert list(tmp_path.iterdir()) == []


def test_by_default_the_first_failure_is_the_error(paths, records, tmp_path):
    with pytest.raises(errors.DataError, match=r"data.tfrecord#0: the record is not a tf\.Example"):
        replay(paths, try_examples(records), tmp_path / "out", functions=FUNCTIONS)


def test_a_frame_that_fails_after_its_layers_were_compared_leaves_nothing(paths, monkeypatch, tmp_path):
    examples = [{"image": image} for image in models_zoo.make_frames(6, seed=4)[0]]
    healthy = replay(paths, examples[:5], tmp_path / "healthy")
    genuine = Replayer.replay

    def fails_late(self, frame, statistics):
        prediction = genuine(self, frame, statistics)
        if np.array_equal(frame.reference["image"][0], examples[5]["image"]):
            raise ValueError("reference has 10 values, edge has 12")
        return prediction

    monkeypatch.setattr(Replayer, "replay", fails_late)
    broken = replay(paths, examples, tmp_path / "broken", options=TallyOptions(max_failed_frames=1))
    (reason,) = broken.failures.to_dict()["reasons"]
    assert reason["message"] == "the models disagree in the shape of a tensor: reference has 10 values, edge has 12"
    assert set(broken.statistics.by_key) == set(healthy.statistics.by_key)
    assert {statistic.frames for statistic in broken.statistics.by_key.values()} == {5}


def test_worst_frames_are_kept_with_their_tensors(stored, records):
    examples = {f"frame-{e['number'].item()}": e for e in try_examples(records) if not isinstance(e, errors.DataError)}
    predictions = {p["frame_id"][0].decode(): p for p in stored.predictions()}
    drifts = {}
    for name, prediction in predictions.items():
        cloud, edge = prediction["cloud/probabilities"], prediction["edge/probabilities"]
        drifts[name] = math.sqrt(np.mean((edge.astype(float) - cloud) ** 2)) / max(np.ptp(cloud), np.ptp(edge))
    worst = stored.worst_frames()
    assert [frame.id for frame in worst] == sorted(drifts, key=lambda name: (-drifts[name], name))[:4]
    assert len(worst) == 4
    for frame in worst:
        assert int(frame.id.removeprefix("frame-")) >= COUNT // 2
        assert frame.drift == pytest.approx(drifts[frame.id])
        assert frame.place == "#" + frame.id.removeprefix("frame-")
        image = examples[frame.id]["image"].reshape(1, 16, 16, 3)
        assert frame.label == examples[frame.id]["label"].item()
        np.testing.assert_array_equal(frame.reference["image"], image)
        np.testing.assert_array_equal(frame.app["image"], image[..., ::-1])
        np.testing.assert_array_equal(frame.cloud["probabilities"][0], predictions[frame.id]["cloud/probabilities"])
        np.testing.assert_array_equal(frame.edge["probabilities"][0], predictions[frame.id]["edge/probabilities"])


def test_inputs_of_both_sides_are_kept_with_the_example_that_they_come_from(stored, records, paths, tmp_path):
    examples = {f"frame-{e['number'].item()}": e for e in try_examples(records) if not isinstance(e, errors.DataError)}
    samples = stored.input_samples()
    ids = [p["frame_id"][0].decode() for p in stored.predictions()]
    assert len(ids) == 17
    assert [sample.id for sample in samples] == sorted(ids, key=sampling.digest)[:16]
    for sample in samples:
        np.testing.assert_array_equal(sample.reference["image"], examples[sample.id]["image"].reshape(1, 16, 16, 3))
        np.testing.assert_array_equal(sample.app["image"], app_inputs(examples[sample.id])["image"][np.newaxis])
        assert sample.place == "#" + sample.id.removeprefix("frame-")
        assert set(sample.source) == set(examples[sample.id])
        for name, value in examples[sample.id].items():
            np.testing.assert_array_equal(sample.source[name], value)
    # Where both sides share one preprocessing there is nothing to search.
    shared = dataclasses.replace(FUNCTIONS, edge_inputs_fn=None)
    options = TallyOptions(max_failed_frames=3)
    result = replay(paths, try_examples(records), tmp_path / "out", functions=shared, options=options)
    assert result.input_samples() == []


def test_no_worst_frames_are_kept_when_none_are_asked_for(paths, records, tmp_path):
    options = TallyOptions(max_failed_frames=3, worst_frames=0)
    result = replay(paths, try_examples(records), tmp_path / "out", functions=FUNCTIONS, options=options)
    assert result.worst_frames() == []


@pytest.mark.parametrize("name", ["max_failed_frames", "worst_frames", "input_samples"])
def test_negative_numbers_are_refused(name):
    with pytest.raises(errors.SpecError, match=f"{name} must be 0 or more, is -1"):
        TallyOptions(**{name: -1})
