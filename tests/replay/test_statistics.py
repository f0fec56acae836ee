import numpy as np
import pytest

from edge_exray.drift.channels import ChannelStatistics
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.replay.statistics import ALL_FRAMES, Key, ReplayStatistics, from_line, to_line

LAYER = Key("quantization", ALL_FRAMES, "layer", "3")
INPUT = Key("preprocessing", "who:a", "input", "image")


def filled(frames: int) -> ReplayStatistics:
    rng = np.random.default_rng(frames)
    statistics = ReplayStatistics()
    for _ in range(frames):
        image = rng.normal(size=(1, 4, 4, 3))
        statistics.at(LAYER).update(image, image + rng.normal(size=image.shape))
        statistics.at(INPUT).update(image, image[..., ::-1])
    return statistics


@pytest.mark.parametrize("frames", [0, 3])
def test_a_line_keeps_every_digit(frames):
    statistics = filled(frames)
    for key, empty in ((LAYER, DriftStatistics()), (INPUT, ChannelStatistics())):
        statistic = statistics.by_key.get(key, empty)
        read_key, read = from_line(to_line(key, statistic))
        assert read_key == key
        for name, value in vars(statistic).items():
            np.testing.assert_equal(getattr(read, name), value)


def test_merging_keeps_keys_apart_and_leaves_the_source_alone():
    merged, first, second = ReplayStatistics(), filled(2), filled(3)
    merged.merge(first)
    merged.merge(second)
    assert merged.at(LAYER).frames == 5
    assert merged.at(INPUT).frames == 5
    assert first.at(INPUT).frames == 2
    assert first.at(INPUT).count == 2 * 16
