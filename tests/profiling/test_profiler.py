import math
import time

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import footprint, profiler, timing
from edge_exray.profiling.hook import OpHook

FEW = {"runs": 5, "warmup_runs": 1}


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("net", ["float_net", "int8_net"])
def test_profile_lists_every_op_and_adds_up_to_the_undisturbed_latency(net, kernels, request):
    path = request.getfixturevalue(net)
    graph = EdgeModel(path).graph
    profile = profiler.profile_model(path, kernels=kernels, **FEW)

    assert [(op.index, op.op, op.name) for op in profile.ops] == [
        (op.index, op.name, graph.tensors[op.outputs[0]].spec.name) for op in graph.ops
    ]
    assert math.fsum(op.ms for op in profile.ops) == pytest.approx(profile.latency_ms.p50, rel=1e-9)
    assert math.fsum(op.share for op in profile.ops) == pytest.approx(1)
    assert all(op.raw_ms > 0 for op in profile.ops)
    assert profile.latency_ms.p50 <= profile.latency_ms.p90 <= profile.latency_ms.p99
    assert profile.latency_ms.runs == 5
    assert (profile.kernels, profile.num_threads, profile.profiler) == (kernels, 1, "hook")
    by_convolutions = {op.kernel for op in profile.ops if "CONV" in op.op}
    assert by_convolutions == {kernels}


def test_op_that_xnnpack_does_not_take_is_seen_to_fall_back(int8_net):
    profile = profiler.profile_model(int8_net, **FEW)
    assert {op.op: op.kernel for op in profile.ops}["SOFTMAX"] == "builtin"


def test_a_loop_is_one_op(loop_net):
    ops = profiler.profile_model(loop_net, **FEW).ops
    assert [op.op for op in ops] == ["WHILE", "MUL"]
    # Five turns of the body, several ops each, against one multiplication of four numbers.
    assert ops[0].ms > ops[1].ms


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("index", [0, 2])
def test_a_slow_op_is_named_slowest(int8_net, kernels, index):
    hook = OpHook()
    model = EdgeModel(int8_net, kernels=kernels, preserve_tensors=kernels == "xnnpack", delegates=[hook])
    slow = hook.steps(model.interpreter)[index]

    def sleep_in_one(step, invoke):
        return (lambda c, n: time.sleep(0.002) or invoke(c, n)) if step == slow else invoke

    feed = {"image": np.zeros((1, 16, 16, 3), np.float32)}
    model.set_inputs(feed)
    with hook.wrap(model.interpreter, sleep_in_one):
        times = timing.time_ops(model, hook, [feed], **FEW)
    assert max(times, key=times.__getitem__) == slow
    assert times[slow] >= 2


def test_real_inputs_set_the_batch_size(int8_net):
    feeds = [{"image": np.full((64, 16, 16, 3), value, np.float32)} for value in (0.0, 0.5)]
    one = profiler.profile_model(int8_net, kernels="reference", **FEW)
    many = profiler.profile_model(int8_net, kernels="reference", feeds=feeds, **FEW)
    assert many.latency_ms.p50 > 5 * one.latency_ms.p50
    assert sum(op.raw_ms for op in many.ops) > 5 * sum(op.raw_ms for op in one.ops)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ([{"image": np.zeros((b, 16, 16, 3), np.float32)} for b in (1, 2)], "differ in shape"),
        ([{"picture": np.zeros((1, 16, 16, 3), np.float32)}], "image"),
        ([], "no inputs"),
    ],
)
def test_unfit_inputs_are_refused(float_net, feeds, message):
    with pytest.raises(errors.DataError, match=message):
        profiler.profile_model(float_net, feeds=feeds, **FEW)


def test_a_corrupt_model_is_refused_in_one_sentence(corrupt):
    with pytest.raises(errors.ModelError, match=r"corrupt\.tflite") as error:
        profiler.profile_model(corrupt, **FEW)
    assert "\n" not in str(error.value)


def test_memory_counts_weights_and_not_what_was_loaded_before(float_net, heavy_net):
    heavy = footprint.measure_footprint(heavy_net, "builtin", 1)
    light = footprint.measure_footprint(float_net, "builtin", 1)
    assert heavy.memory_bytes - light.memory_bytes == pytest.approx(16e6, rel=0.1)
    assert heavy.init_ms > 0


def test_kernels_that_abort_are_an_error(float_net, tmp_path, monkeypatch):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nkill -ABRT $$\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(interpreter))
    with pytest.raises(errors.ProfilingError, match=r"reference kernels kill .*none\.tflite \(SIGABRT\)"):
        profiler.profile_model(float_net, kernels="reference", **FEW)
