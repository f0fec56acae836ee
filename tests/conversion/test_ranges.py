import json
import pathlib

import models_zoo
import numpy as np
import pytest

from edge_exray.conversion.ranges import measure

CONV, MEAN = 0, 3


@pytest.fixture(scope="module")
def content(edge_models) -> bytes:
    return pathlib.Path(edge_models["none"]).read_bytes()


@pytest.fixture(scope="module")
def frames() -> list[dict[str, np.ndarray]]:
    return [{"image": image[np.newaxis]} for image in models_zoo.make_frames(60, seed=5)[0]]


def test_ranges_are_those_of_the_frames(content, frames):
    report = measure(content, frames)
    images = np.concatenate([frame["image"] for frame in frames])
    [image] = [t for t in report.tensors if t.op is None]
    assert image.range == (images.min(), images.max())
    assert report.frames == 60
    assert [t.op for t in report.tensors] == [None, 0, 1, 2, 3, 4, 5]
    for tensor in report.tensors:
        assert tensor.range[0] <= tensor.half_range[0] <= tensor.half_range[1] <= tensor.range[1]
        assert tensor.range[0] <= tensor.core_range[0] <= tensor.core_range[1] <= tensor.range[1]


def test_many_alike_frames_have_settled_and_few_have_not(content, frames):
    repeated = [frames[0]] * 20
    assert measure(content, repeated).is_settled
    assert measure(content, repeated).tensors[0].growth == 0
    few = measure(content, [frames[0], {"image": frames[0]["image"] * 3}])
    assert not few.is_settled
    assert few.tensors[0].growth == pytest.approx(2 / 3)
    assert not measure(content, frames[:1]).is_settled


def test_frame_that_stretches_the_ranges_is_named(content, frames):
    odd = [*frames[:20], {"image": frames[20]["image"] * 10}, *frames[21:]]
    [image] = [t for t in measure(content, odd).tensors if t.op is None]
    assert image.is_outlier
    assert (image.frame, image.frame_share) == (20, pytest.approx(0.9, abs=0.01))
    assert not [t for t in measure(content, frames).tensors if t.op is None and t.is_outlier]


def test_few_values_that_make_the_range_are_a_tail(content, frames):
    spiked = [{"image": frame["image"].copy()} for frame in frames]
    for frame in spiked:
        frame["image"][0, 3, 3, 0] = 60.0
    [image] = [t for t in measure(content, spiked).tensors if t.op is None]
    assert image.frame_share == 0
    # One value of 768 is beyond the quantile of 99.9 % only by luck of the sample; the other end is not.
    assert image.tail > 8 or image.core_range[1] == 60
    assert image.is_outlier == (image.tail > 8)


def test_document_is_bounded_and_repeats(content, frames):
    first = json.dumps(measure(content, frames).to_dict())
    assert first == json.dumps(measure(content, frames).to_dict())
    document = json.loads(first)
    assert document["tensors"] == len(document["worst"]) == 7
    badness = [max(t["growth"] / 0.1, t["frame_share"] / 0.2, t["tail"] / 8) for t in document["worst"]]
    assert badness == sorted(badness, reverse=True)
