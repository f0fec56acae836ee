import math

import pytest

from edge_exray.profiling.groups import NO_LAYER
from edge_exray.profiling.profile import Profile, profile
from edge_exray.profiling.spec import ProfileSpec


@pytest.fixture(scope="module")
def profiled(int8_net, float_net):
    return profile({"edge": int8_net, "float_edge": float_net}, ProfileSpec(runs=5, warmup_runs=1, precision=None))


def groups_of(profiled, role, by):
    return [each for each in profiled.groups if (each.role, each.by) == (role, by)]


def test_every_op_is_in_one_group_of_each_way(profiled):
    for model in profiled.models:
        for by in ("op", "layer", "kernel"):
            found = groups_of(profiled, model.role, by)
            assert sum(each.ops for each in found) == len(model.ops)
            assert math.fsum(each.ms for each in found) == pytest.approx(model.latency_ms.p50)
            assert math.fsum(each.share for each in found) == pytest.approx(1)
            assert [each.ms for each in found] == sorted((each.ms for each in found), reverse=True)


def test_ops_of_one_type_are_together(profiled):
    found = {each.name: each for each in groups_of(profiled, "edge", "op")}
    assert found["CONV_2D"].ops == 2
    ops = profiled.models[0].ops
    assert found["CONV_2D"].ms == pytest.approx(ops[0].ms + ops[2].ms)


def test_layers_have_the_names_of_the_cloud_model(profiled):
    names = {each.name for each in groups_of(profiled, "edge", "layer")}
    assert {"conv", "depthwise", "pointwise", NO_LAYER} <= names
    assert [op.layer for op in profiled.models[0].ops][:3] == ["conv", "depthwise", "pointwise"]


def test_kernels_tell_what_the_delegate_covers(profiled):
    assert {each.name: each.ops for each in groups_of(profiled, "edge", "kernel")} == {"xnnpack": 5, "builtin": 1}
    assert {each.name: each.ops for each in groups_of(profiled, "float_edge", "kernel")} == {"xnnpack": 6}


def test_ops_carry_their_work_and_rates(profiled):
    conv = profiled.models[0].ops[0]
    assert conv.flops == 2 * 8 * 8 * 8 * 27
    assert conv.gflops_per_s == pytest.approx(conv.flops / conv.ms / 1e6)
    assert conv.gb_per_s == pytest.approx(conv.bytes / conv.ms / 1e6)
    bound = profiled.roofline.bound_ms
    assert conv.roofline_share > 0
    assert bound is not None


def test_the_analysis_is_part_of_the_document(profiled):
    assert Profile.from_json(profiled.to_json()) == profiled
