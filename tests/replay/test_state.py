"""Ops with a state of their own, as fused LSTMs: the cloud signature has none, so each frame starts from scratch."""

import dataclasses

import models_zoo
import numpy as np
import pytest

from edge_exray.conversion.converter import convert_many
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import KERNELS, EdgeModel
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.result import ReplayResult
from edge_exray.replay.sampling import EVERY, Sampling
from edge_exray.replay.tally import TallyOptions

MODES = ("none", "dynamic_range", "int8")


def make_frames(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 2, (6, 3)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def lstm_net(tmp_path_factory) -> dict[str, str]:
    """`models_zoo.save_lstm_net`: "cloud" and the modes to path."""
    folder = tmp_path_factory.mktemp("lstm_net")
    cloud = models_zoo.save_lstm_net(folder / "cloud")
    paths = {mode: str(folder / f"{mode}.tflite") for mode in MODES}
    calibration = [{"x": frame["x"][None]} for frame in make_frames(40, seed=1)]
    convert_many(cloud, {path: mode for mode, path in paths.items()}, calibration=calibration)
    return {"cloud": cloud, **paths}


@pytest.fixture(scope="module")
def cloud(lstm_net) -> CloudModel:
    return CloudModel(lstm_net["cloud"])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("mode", MODES)
def test_a_frame_knows_nothing_of_the_one_before(mode, kernels, cloud, lstm_net):
    edge = EdgeModel(lstm_net[mode], kernels=kernels)
    assert [op.name for op in edge.graph.ops].count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 1
    frames = [{"x": frame["x"][None]} for frame in make_frames(4, seed=2)]
    forwards = [edge.infer(frame)["y"] for frame in frames]
    backwards = [edge.infer(frame)["y"] for frame in reversed(frames)][::-1]
    for frame, first, second in zip(frames, forwards, backwards, strict=True):
        np.testing.assert_array_equal(first, second)
        expected = cloud.infer(frame)[0]["y"]
        np.testing.assert_allclose(first, expected, atol=1e-6 if mode == "none" else 0.02)


@pytest.fixture(scope="module")
def replays(lstm_net, tmp_path_factory) -> list[ReplayResult]:
    """The same frames forwards and backwards, with the kernel leg."""
    paths = ModelPaths(lstm_net["cloud"], lstm_net["none"], lstm_net["int8"])
    frames = make_frames(6, seed=2)
    # The alignment is confirmed on the first frames.
    orders = (frames, [*frames[:2], *reversed(frames[2:])])
    options = TallyOptions(sampling=Sampling(EVERY, EVERY))
    folder = tmp_path_factory.mktemp("replays")
    return [replay(paths, order, folder / str(i), options=options) for i, order in enumerate(orders)]


def test_the_order_of_the_frames_does_not_matter(replays):
    first, second = (r.statistics.by_key for r in replays)
    assert set(first) == set(second)
    for key, statistic in first.items():
        for field in dataclasses.fields(statistic):
            values = [getattr(s, field.name) for s in (statistic, second[key])]
            if dataclasses.is_dataclass(values[0]):
                np.testing.assert_equal(*map(dataclasses.asdict, values), err_msg=str(key))
            else:
                np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-12, err_msg=f"{key} {field.name}")


def test_every_leg_is_right_on_every_frame(replays):
    [lstm] = [la for la in replays[0].alignment.layers if la.op == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    item = str(lstm.index)
    assert replays[0].statistic("conversion", "output", "y").max_abs < 1e-6
    assert replays[0].statistic("quantization", "layer", item).nrmse < 0.05
    assert replays[0].statistic("quantization", "own", item).nrmse < 0.05
    assert 0 < replays[0].summary["own_error"]["rounding"][item] < 0.05
    for kernels in ("builtin", "reference"):
        assert replays[0].statistic("kernel", kernels, item).frames == 6
        assert replays[0].statistic("kernel", kernels, item).nrmse < 0.01
    for prediction in replays[0].predictions():
        np.testing.assert_allclose(prediction["edge/y"], prediction["cloud/y"], atol=0.02)
