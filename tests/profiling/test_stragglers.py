import dataclasses
import math
import pathlib
import statistics
import time

import pytest
import tampering

from edge_exray.models.graph import read_graph
from edge_exray.profiling.analysis import analyse
from edge_exray.profiling.hook import OpHook
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime
from edge_exray.profiling.profile import profile
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.profiling.stragglers import find_stragglers

# Of `conv_net`.
CONV, DEPTHWISE, POINTWISE, MEAN, DENSE, SOFTMAX = range(6)
BOUND = 0.1
RUNS = 5


def simulated(content, *, slow=(), kernels="xnnpack", builtin=(), role="edge"):
    """A profile in which every op attains half of the roofline; `slow` maps ops to what they take more."""
    graph = read_graph(content)
    more = dict(slow)
    times = {op.index: 2 * BOUND + more.get(op.index, 0.0) for op in graph.ops}
    total = math.fsum(times.values())
    ops = [
        OpTime(
            op.index,
            op.name,
            graph.tensors[op.outputs[0]].spec.name,
            "builtin" if op.index in builtin else kernels,
            times[op.index],
            times[op.index],
            times[op.index] / total,
        )
        for op in graph.ops
    ]
    latency = Latency(total, total, total, total, 10)
    simulation = ModelProfile(role, "net.tflite", len(content), kernels, 1, "hook", latency, 1.0, 1, ops)
    return simulation, graph, dict.fromkeys(times, BOUND)


@pytest.fixture(scope="module")
def float_content(float_net):
    return pathlib.Path(float_net).read_bytes()


@pytest.fixture(scope="module")
def int8_content(int8_net):
    return pathlib.Path(int8_net).read_bytes()


def test_a_healthy_model_has_none(float_content):
    healthy = simulated(float_content)
    assert find_stragglers(*healthy, {}) == []
    assert find_stragglers(*healthy, dict(enumerate(healthy[0].ops))) == []


@pytest.mark.parametrize("index", range(6))
def test_an_op_far_below_its_peers_is_named_with_what_it_would_save(float_content, index):
    (found,) = find_stragglers(*simulated(float_content, slow={index: 1.0}), {})
    assert (found.role, found.index, found.kind) == ("edge", index, "below_peers")
    assert found.saving_ms == pytest.approx(1.0)
    assert found.ms == pytest.approx(1.2)


def test_what_saves_most_comes_first_and_what_saves_little_is_left_out(float_content):
    found = find_stragglers(*simulated(float_content, slow={MEAN: 1.0, CONV: 2.0, DENSE: 0.3}), {})
    assert [each.index for each in found] == [CONV, MEAN]


def test_an_op_twice_as_slow_as_its_peers_is_no_straggler(float_content):
    assert find_stragglers(*simulated(float_content, slow={CONV: 2 * BOUND}), {}) == []


@pytest.mark.parametrize("twins", [{}, {CONV: OpTime(CONV, "CONV_2D", "conv", "xnnpack", 0.2, 0.2, 0.1)}])
def test_an_op_whose_time_is_not_sure_is_no_straggler(float_content, twins):
    slow, graph, bounds = simulated(float_content, slow={CONV: 1.0})
    for low, stragglers in ((1.1, 1), (0.25, 0)):
        ops = [dataclasses.replace(slow.ops[CONV], interval_ms=[low, 1.5]), *slow.ops[1:]]
        assert len(find_stragglers(dataclasses.replace(slow, ops=ops), graph, bounds, twins)) == stragglers


def test_an_op_whose_least_time_is_not_known_is_not_judged(float_content):
    slow, graph, bounds = simulated(float_content, slow={CONV: 5.0})
    assert find_stragglers(slow, graph, {i: bound for i, bound in bounds.items() if i != CONV}, {}) == []


def test_a_quantised_op_slower_than_its_float_twin(int8_content):
    # Slow in both models against the peers: only the difference is quantisation's.
    twins = dict(enumerate(simulated(int8_content, slow={POINTWISE: 0.1})[0].ops))
    (found,) = find_stragglers(*simulated(int8_content, slow={POINTWISE: 0.9}), twins)
    assert (found.index, found.kind) == (POINTWISE, "slower_than_float")
    assert found.saving_ms == pytest.approx(0.8)
    assert "0.3 ms" in found.reason


def test_reference_kernels_are_named_each(int8_content):
    found = find_stragglers(*simulated(int8_content, kernels="reference", slow=dict.fromkeys(range(6), 20.0)), {})
    assert {(each.index, each.kind) for each in found} == {(i, "reference_kernel") for i in range(6)}
    for each in found:
        assert "reference kernel" in each.reason
        assert each.saving_ms == pytest.approx(20.0, rel=0.1)


@pytest.mark.parametrize("has_twin", [False, True])
def test_an_op_off_the_delegate_is_named_with_the_reason(int8_content, has_twin):
    off = simulated(int8_content, builtin={SOFTMAX}, slow={SOFTMAX: 3.0})
    twins = dict(enumerate(simulated(int8_content)[0].ops)) if has_twin else {}
    (found,) = find_stragglers(*off, twins)
    assert (found.index, found.kind) == (SOFTMAX, "not_delegated")
    assert found.saving_ms == pytest.approx(3.0)
    assert found.reason.startswith("XNNPACK has no kernel for SOFTMAX in INT8, only in FLOAT32")
    assert ("float twin" in found.reason) == has_twin


def test_built_in_kernels_that_were_asked_for_are_no_reason(int8_content):
    assert find_stragglers(*simulated(int8_content, kernels="builtin"), {}) == []


def test_a_float_island_saves_its_conversions(int8_content):
    island = tampering.insert_behind(int8_content, POINTWISE, "DEQUANTIZE", "NEG", "ABS", "QUANTIZE")
    (found,) = find_stragglers(*simulated(island, slow={6: 0.1}), {})
    assert (found.index, found.op, found.kind) == (6, "QUANTIZE", "island")
    assert found.saving_ms == pytest.approx(0.2 + 0.3)
    assert "NEG, ABS" in found.reason


def test_moves_between_layers_are_one_island(int8_content):
    moved = tampering.insert_behind(int8_content, DEPTHWISE, "TRANSPOSE", "RESHAPE", "TRANSPOSE")
    (found,) = find_stragglers(*simulated(moved), {})
    assert (found.index, found.kind) == (2, "island")
    assert found.saving_ms == pytest.approx(0.6)
    assert "2 TRANSPOSE, 3 RESHAPE, 4 TRANSPOSE" in found.reason


def test_no_op_is_counted_twice(int8_content):
    moved = tampering.insert_behind(int8_content, DEPTHWISE, "TRANSPOSE", "RESHAPE")
    found = find_stragglers(*simulated(moved, slow={2: 5.0}), {})
    assert [(each.index, each.kind) for each in found] == [(2, "below_peers"), (3, "island")]
    assert [each.saving_ms for each in found] == pytest.approx([5.0, 0.2])


@pytest.mark.parametrize(("index", "kernels"), [(CONV, "xnnpack"), (MEAN, "builtin")])
def test_an_op_that_sleeps_is_named_first_with_the_time_that_it_sleeps(int8_net, monkeypatch, index, kernels):
    slept = []
    slow_outputs = frozenset(read_graph(pathlib.Path(int8_net).read_bytes()).ops[index].outputs)
    wrap = OpHook.wrap

    def wrap_slowly(self, interpreter, make_invoke):
        def make_slow(step, invoke):
            def sleep_and_invoke(context, node):
                start = time.perf_counter()
                time.sleep(0.004)
                slept.append(1e3 * (time.perf_counter() - start))
                return invoke(context, node)

            return make_invoke(step, sleep_and_invoke if frozenset(step.outputs) == slow_outputs else invoke)

        return wrap(self, interpreter, make_slow)

    monkeypatch.setattr(OpHook, "wrap", wrap_slowly)
    (measured,) = profile(
        {"edge": int8_net}, ProfileSpec(runs=RUNS, warmup_runs=1, precision=None, kernels=kernels)
    ).models
    # The undisturbed inferences did not sleep: what the hook measured is not scaled to them.
    total = math.fsum(op.raw_ms for op in measured.ops)
    ops = [dataclasses.replace(op, ms=op.raw_ms, interval_ms=None) for op in measured.ops]
    latency = dataclasses.replace(measured.latency_ms, p50=total)
    slowed = analyse([dataclasses.replace(measured, ops=ops, latency_ms=latency)])
    first = slowed.stragglers[0]
    assert first.index == index
    # Those of the timed runs, each of which has an uncounted one before it: on a busy machine a sleep is longer than
    # asked.
    assert first.saving_ms == pytest.approx(statistics.median(slept[-2 * RUNS :][1::2]), rel=0.1)


def test_an_op_that_is_slow_in_the_model_alone_saves_what_it_takes_more_there(int8_net):
    (healthy,) = profile({"edge": int8_net}, ProfileSpec(runs=RUNS, warmup_runs=1, precision=None)).models
    ops = [dataclasses.replace(op, interval_ms=None) for op in healthy.ops]
    ops[0] = dataclasses.replace(ops[0], ms=ops[0].ms + 2.0)
    total = math.fsum(op.ms for op in ops)
    latency = dataclasses.replace(healthy.latency_ms, p50=total)
    first = analyse([dataclasses.replace(healthy, ops=ops, latency_ms=latency)]).stragglers[0]
    assert (first.index, first.kind) == (0, "slowed_down")
    assert first.saving_ms == pytest.approx(2.0, rel=0.1)
    assert "alone it takes" in first.reason
