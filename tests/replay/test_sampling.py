import numpy as np
import pytest

from edge_exray import errors
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay.sampling import EVERY, Sampling, choose, sample

IDS = [f"frame-{i}" for i in range(1000)]


def test_as_many_frames_are_taken_as_asked_for_and_the_kernels_see_some_of_them():
    sampling = choose(IDS, 50, 8)
    layers = {i for i in IDS if sampling.takes_layers(i)}
    kernels = {i for i in IDS if sampling.takes_kernels(i)}
    assert len(layers) == 50
    assert len(kernels) == 8
    assert kernels < layers


def test_the_choice_depends_on_nothing_but_the_ids():
    shuffled = list(np.random.default_rng(0).permutation(IDS))
    assert choose(map(str, shuffled), 50, 8) == choose(IDS, 50, 8)


def test_the_choice_is_no_prefix_of_the_data():
    sampling = choose(IDS, 500, 0)
    assert 200 < sum(map(sampling.takes_layers, IDS[:500])) < 300


def test_few_frames_are_all_taken():
    assert choose(IDS, 1000, 2000) == Sampling(EVERY, EVERY)
    assert all(map(choose(IDS, 1000, 0).takes_layers, IDS))


def test_by_default_all_layers_and_no_kernels_are_seen_and_nothing_is_read():
    def never():
        raise AssertionError("the examples were read")

    sampling = sample(never, UserFunctions(), 0, 0)
    assert sampling == Sampling()
    assert sampling.takes_layers("a")
    assert not sampling.takes_kernels("a")


def test_a_frame_without_an_id_is_left_to_the_replay():
    functions = UserFunctions(frame_id_fn=lambda example: example["id"])
    examples = [{"id": "a"}, errors.DataError("cannot be decoded"), {}, {"id": "b"}]
    sampling = sample(lambda: examples, functions, 1, 0)
    assert sorted(map(sampling.takes_layers, "ab")) == [False, True]


def test_negative_numbers_are_refused():
    with pytest.raises(errors.SpecError, match="kernel_frames must be 0 or more, is -1"):
        sample(list, UserFunctions(), 0, -1)
