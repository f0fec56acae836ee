import dataclasses
import math
import tempfile
import time

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import footprint, litert_profiler, op_profiler, profiler
from edge_exray.profiling.hook import OpHook
from edge_exray.profiling.spec import ProfileSpec

FEW = {"runs": 5, "warmup_runs": 1, "precision": None}


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("net", ["float_net", "int8_net"])
def test_profile_lists_every_op_and_adds_up_to_the_undisturbed_latency(net, kernels, request):
    path = request.getfixturevalue(net)
    graph = EdgeModel(path).graph
    profile = profiler.profile_model(path, ProfileSpec(kernels=kernels, **FEW))

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
    profile = profiler.profile_model(int8_net, ProfileSpec(**FEW))
    assert {op.op: op.kernel for op in profile.ops}["SOFTMAX"] == "builtin"


def test_a_loop_is_one_op(loop_net):
    ops = profiler.profile_model(loop_net, ProfileSpec(**FEW)).ops
    assert [op.op for op in ops] == ["WHILE", "MUL"]
    # Five turns of the body, several ops each, against one multiplication of four numbers.
    assert ops[0].ms > ops[1].ms


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("index", [0, 2])
def test_a_slow_op_is_named_slowest_with_what_it_costs(int8_net, kernels, index):
    model = EdgeModel(int8_net, kernels=kernels)
    slow = model.graph.ops[index]
    feed = {"image": np.zeros((1, 16, 16, 3), np.float32)}

    def sleep_in_one(step, invoke):
        return (lambda c, n: time.sleep(0.002) or invoke(c, n)) if step.outputs == slow.outputs else invoke

    hooked = op_profiler.HookProfiler(op_profiler.Subject(model, [feed], kernels, 1, None), sleep_in_one)
    hooked.time(5)
    samples = hooked.op_samples()
    hooked.close()
    assert max(samples, key=lambda i: samples[i].median) == index
    # Less what calling costs, which is microseconds.
    assert samples[index].median >= 1.9


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("name", ["litert_profiler", "isolated"])
def test_other_profilers_time_the_same_ops(int8_net, name, kernels):
    hooked = profiler.profile_model(int8_net, ProfileSpec(kernels=kernels, **FEW))
    other = profiler.profile_model(int8_net, ProfileSpec(kernels=kernels, profiler=name, **FEW))
    assert (other.profiler, other.profiler_note) == (name, f"{name} was asked for")
    assert [(op.index, op.kernel) for op in other.ops if op.kernel != "fused"] == [
        (op.index, op.kernel) for op, twin in zip(hooked.ops, other.ops, strict=True) if twin.kernel != "fused"
    ]
    assert math.fsum(op.ms for op in other.ops) == pytest.approx(other.latency_ms.p50)


def test_the_next_profiler_stands_in_for_one_that_does_not_work_and_the_profile_says_why(int8_net, monkeypatch):
    def refuse(self, interpreter):
        raise errors.ProfilingError("another layout")

    monkeypatch.setattr(OpHook, "_plan", refuse)
    spec = ProfileSpec(kernels="builtin", **FEW)
    second = profiler.profile_model(int8_net, spec)
    assert (second.profiler, second.profiler_note) == ("litert_profiler", "hook: another layout")
    with pytest.raises(errors.ProfilingError, match="another layout"):
        profiler.profile_model(int8_net, dataclasses.replace(spec, profiler="hook"))

    # Its reference kernels are not used when asked for.
    third = profiler.profile_model(int8_net, dataclasses.replace(spec, kernels="reference"))
    assert third.profiler == "isolated"
    assert {op.kernel for op in third.ops} == {"reference"}
    assert third.profiler_note == (
        "hook: another layout; litert_profiler: LiteRT's own profiler does not run reference kernels"
    )


def test_events_that_do_not_show_the_graph_are_refused(int8_net, monkeypatch):
    event_time = litert_profiler._Event.elapsed_us
    shifted = type("shifted", (), {"__get__": lambda self, event, kind: event_time.__get__(event, kind) + 10**9})()
    monkeypatch.setattr(litert_profiler._Event, "elapsed_us", shifted)
    with pytest.raises(errors.ProfilingError, match="time of an op beyond that of the run"):
        profiler.profile_model(int8_net, ProfileSpec(profiler="litert_profiler", **FEW))


def test_the_whole_is_shown_beside_the_profiled_and_how_times_were_scaled(float_net):
    profile = profiler.profile_model(float_net, ProfileSpec(**FEW))
    assert profile.profiled_ms["p50"] >= sum(op.raw_ms for op in profile.ops) * 0.5
    for op in profile.ops:
        assert op.ms == pytest.approx(op.raw_ms * profile.scale)
    assert profile.latency_ms.intervals == {"p50": None, "p90": None, "p99": None}
    assert 0 <= profile.noise["stolen_share"] <= 1
    assert profile.arena_bytes > 0
    assert profile.peak_memory_bytes >= profile.memory_bytes


def test_a_signature_is_named_where_a_model_has_several(tmp_path):
    path = tmp_path / "two.tflite"
    path.write_bytes(two_signatures())
    with pytest.raises(errors.ModelError, match="several signatures"):
        profiler.profile_model(path, ProfileSpec(**FEW))
    for signature, ops in (("add", ["ADD"]), ("multiply", ["MUL", "MUL"])):
        for name in ("hook", "litert_profiler", "isolated"):
            spec = ProfileSpec(kernels="builtin", profiler=name, **FEW)
            profile = profiler.profile_model(path, spec, signature=signature)
            assert (profile.signature, profile.profiler) == (signature, name)
            assert [op.op for op in profile.ops] == ops


def two_signatures() -> bytes:
    import tensorflow as tf

    spec = tf.TensorSpec([4], tf.float32, name="x")
    functions = {"add": lambda x: {"y": x + 1}, "multiply": lambda x: {"y": x * x * 3}}
    module = tf.Module()
    for name, function in functions.items():
        setattr(module, name, tf.function(function, input_signature=[spec]))
    with tempfile.TemporaryDirectory() as folder:
        signatures = {name: getattr(module, name) for name in functions}
        tf.saved_model.save(module, folder, signatures=signatures)
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions)).convert()


def test_a_machine_that_is_too_noisy_is_refused_on_request(float_net):
    # No run is as long as another to the billionth.
    spec = {"runs": 10, "max_runs": 10, "precision": 1e-9, "warmup_runs": 1}
    judged = profiler.profile_model(float_net, ProfileSpec(**spec))
    assert judged.noise["noisy"]
    with pytest.raises(errors.ProfilingError, match="too noisy"):
        profiler.profile_model(float_net, ProfileSpec(on_noise="refuse", **spec))


TWINS = [[1.0, 1.01, 0.99, 1.0, 1.02]] * 10


@pytest.mark.parametrize(
    ("walls", "budgets", "enough"),
    [
        ({"edge": TWINS}, {}, True),
        ({"edge": TWINS}, {"max_latency_ms": 1.2}, True),
        ({"edge": TWINS}, {"max_latency_ms": 1.0}, False),
        # Some hundred runs are needed for a 99th percentile.
        ({"edge": TWINS}, {"max_p99_latency_ms": 100}, False),
        ({"edge": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 10}, {}, False),
        ({"edge": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 10}, {"precision": None}, True),
        ({"edge": TWINS, "baseline": TWINS}, {"max_latency_growth": 1.1}, True),
        ({"edge": TWINS, "baseline": TWINS}, {"max_latency_growth": 1.0}, True),
        ({"edge": TWINS, "float_edge": TWINS[::-1]}, {"max_latency_ratio_to_float": 0.99}, True),
    ],
)
def test_runs_suffice_when_the_median_is_precise_and_budgets_are_decided(walls, budgets, enough):
    assert profiler.suffices(walls, ProfileSpec(**budgets)) == enough


def test_real_inputs_set_the_batch_size(int8_net):
    feeds = [{"image": np.full((64, 16, 16, 3), value, np.float32)} for value in (0.0, 0.5)]
    one = profiler.profile_model(int8_net, ProfileSpec(kernels="reference", **FEW))
    many = profiler.profile_model(int8_net, ProfileSpec(kernels="reference", **FEW), feeds=feeds)
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
        profiler.profile_model(float_net, ProfileSpec(**FEW), feeds=feeds)


def test_a_corrupt_model_is_refused_in_one_sentence(corrupt):
    with pytest.raises(errors.ModelError, match=r"corrupt\.tflite") as error:
        profiler.profile_model(corrupt, ProfileSpec(**FEW))
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
        profiler.profile_model(float_net, ProfileSpec(kernels="reference", **FEW))
