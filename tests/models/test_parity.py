"""Constants of edge models beside those of the cloud model that they came from."""

import pathlib

import models_zoo
import numpy as np
import pytest
import tampering

from edge_exray.conversion.converter import convert_many
from edge_exray.models.alignment import Alignment, align
from edge_exray.models.constants import Constant, compare
from edge_exray.models.parity import ConstantParity, Source
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel

MODES = ["none", "float16", "dynamic_range", "int8"]


@pytest.fixture(scope="module")
def recurrent_net(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("recurrent")
    cloud = models_zoo.save_recurrent_net(folder / "cloud")
    convert_many(cloud, {str(folder / f"{mode}.tflite"): mode for mode in ("none", "float16")})
    return {"cloud": cloud, **{mode: str(folder / f"{mode}.tflite") for mode in ("none", "float16")}}


def constants_of(cloud: str, float_edge: str, edge: str | bytes, feed) -> tuple[ConstantParity, ...]:
    models = CloudModel(cloud), EdgeModel(float_edge, preserve_tensors=True), EdgeModel(edge, preserve_tensors=True)
    return align(*models, [feed]).constants


@pytest.mark.parametrize("mode", MODES)
def test_healthy_constants_lie_within_half_a_step(mode, conv_net, edge_models, images):
    found = constants_of(conv_net, edge_models["none"], edge_models[mode], {"image": images[:1]})
    # Kernel and bias of three convolutions and a dense layer.
    assert [(c.layer, c.input) for c in found] == sorted((c.layer, c.input) for c in found)
    assert len(found) == 8
    assert not any(c.differs for c in found)
    steps = [c.difference.steps for c in found if c.difference.steps is not None]
    assert all(s <= 0.51 for s in steps)
    assert len(steps) == (0 if mode == "none" else 8 if mode in ("float16", "int8") else len(steps))


def test_the_reference_is_the_cloud_constant_where_nothing_was_folded(conv_net, edge_models, images):
    found = constants_of(conv_net, edge_models["none"], edge_models["int8"], {"image": images[:1]})
    # The dense layer has no batch norm: its kernel is transposed, its bias as it was.
    assert [c.source for c in found] == [Source.FLOAT_EDGE] * 6 + [Source.CLOUD] * 2
    assert ["MatMul" in found[6].reference, "add" in found[7].reference] == [True, True]
    assert [c.elements for c in found] == [216, 8, 72, 8, 128, 16, 64, 4]


def test_constants_in_the_body_of_a_loop_are_compared(recurrent_net):
    for mode in ("none", "float16"):
        found = constants_of(
            recurrent_net["cloud"], recurrent_net["none"], recurrent_net[mode], {"x": np.ones((1, 4), np.float32)}
        )
        arrays = [c for c in found if c.elements > 1]
        assert sorted(c.elements for c in arrays) == [4, 16]
        assert [c.source for c in arrays] == [Source.CLOUD] * 2
        assert not any(c.differs for c in found)


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_a_changed_constant_is_the_only_one_that_differs(mode, conv_net, edge_models, images):
    content = pathlib.Path(edge_models[mode]).read_bytes()
    dense = next(op.index for op in EdgeModel(content).graph.ops if op.name == "FULLY_CONNECTED")
    for change, position in ((tampering.scale_weights, 1), (tampering.change_bias, 2)):
        found = constants_of(conv_net, edge_models["none"], change(content, dense, 0.5), {"image": images[:1]})
        [differing] = [c for c in found if c.differs]
        assert (differing.layer, differing.input) == (dense, position)
        assert differing.factor == pytest.approx(0.5, rel=0.02)
        assert differing.difference.relative == pytest.approx(0.5, rel=0.05)


def test_what_has_no_twin_is_told(conv_net, edge_models, keras_net, images):
    found = constants_of(conv_net, edge_models["none"], keras_net["none"], {"image": images[:1]})
    assert {c.source for c in found} == {Source.NONE}
    assert [c.difference for c in found] == [None] * len(found)


def test_parity_survives_json(conv_net, edge_models, images):
    content = pathlib.Path(edge_models["int8"]).read_bytes()
    found = constants_of(conv_net, edge_models["none"], tampering.change_bias(content, 0, 2), {"image": images[:1]})
    alignment = Alignment((), 0, found)
    assert Alignment.from_dict(alignment.to_dict()) == alignment


@pytest.mark.parametrize(
    ("values", "step", "equal", "rounded"),
    [
        ([1.0, 2.0], 0.0, True, True),
        ([1.0, 2.0 + 1e-6], 0.0, True, True),
        ([1.0, 2.001], 0.0, False, False),
        ([1.04, 2.0], 0.1, False, True),
        ([1.06, 2.0], 0.1, False, False),
        ([np.nan, 2.0], 0.1, False, False),
    ],
)
def test_half_a_step_is_rounding_and_more_is_not(values, step, equal, rounded):
    found = compare(Constant(np.array(values), np.array(step)), Constant(np.array([1.0, 2.0]), np.zeros(())))
    assert (found.equal, found.rounded) == (equal, rounded)
    assert found.share == (0.0 if rounded else 0.5)
