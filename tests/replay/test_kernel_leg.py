import pathlib

import numpy as np
import pytest
import tampering

from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.kernel_leg import KernelLeg
from edge_exray.replay.statistics import ReplayStatistics


@pytest.fixture
def feeds(eval_examples):
    return [{"image": image[None]} for image in np.load(eval_examples)["image"][:2]]


@pytest.fixture
def compare(edge_models, feeds):
    """Runs the leg; returns kind and op to the statistic, and how ops ended."""

    def run(change=lambda content: content, other=None):
        content = pathlib.Path(edge_models["int8"]).read_bytes()
        edge = EdgeModel(change(content), preserve_tensors=True)
        leg, statistics = KernelLeg(edge, other=other and other(content)), ReplayStatistics()
        try:
            for feed in feeds:
                leg.compare(feed, statistics, ["", "label:0"])
            return {(k.kind, int(k.item)): s for k, s in statistics.by_key.items() if not k.slice}, leg.endings()
        finally:
            leg.close()

    return run


def test_healthy_kernels_differ_by_a_step_at_most(compare, edge_models):
    found, endings = compare()
    graph = EdgeModel(edge_models["int8"]).graph
    assert set(found) == {(kind, op.index) for kind in ("builtin", "reference") for op in graph.ops}
    for (_, op), drift in found.items():
        assert drift.frames == 2
        step = graph.tensors[graph.ops[op].outputs[0]].spec.quantization.scale[0]
        assert drift.max_abs <= 1.01 * step
    assert endings == {}


def test_a_kernel_that_computes_something_else_shows_at_its_op_alone(compare):
    """The other kernels are given other weights, which stands for a wrong production kernel."""
    found, _ = compare(other=lambda content: tampering.scale_weights(content, 1, 3.0))
    assert {op for (_, op), drift in found.items() if drift.nrmse > 0.01} == {1}


def test_a_reference_kernel_that_aborts_is_named_and_the_others_go_on(compare):
    found, endings = compare(change=lambda content: tampering.set_softmax_beta(content, 5, 1e-9))
    assert endings == {"reference": {5: "died of SIGABRT"}}
    assert found["reference_died", 5].frames == 2
    assert ("reference", 5) not in found
    assert found["builtin", 5].frames == 2
    assert {op for kind, op in found if kind == "reference"} == set(range(5))
