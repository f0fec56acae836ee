import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.feeds import random_feed
from edge_exray.profiling.hook import OpHook


def hooked(path, kernels="xnnpack", **kwargs):
    hook = OpHook()
    model = EdgeModel(path, kernels=kernels, preserve_tensors=kernels == "xnnpack", delegates=[hook], **kwargs)
    return model, hook


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("net", ["float_net", "int8_net", "loop_net"])
def test_steps_are_the_ops_of_the_flatbuffer(net, kernels, request):
    model, hook = hooked(request.getfixturevalue(net), kernels)
    steps = hook.steps(model.interpreter)
    assert [step.outputs for step in steps] == [op.outputs for op in model.graph.ops]
    if kernels == "xnnpack":
        assert any(step.is_delegated for step in steps)
    else:
        assert [(step.node, step.op, step.inputs) for step in steps] == [
            (op.index, op.name, op.inputs) for op in model.graph.ops
        ]


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_every_op_runs_once_through_the_wrapper_and_gives_the_same_output(int8_net, kernels):
    model, hook = hooked(int8_net, kernels)
    feed = random_feed(model.inputs)
    plain = model.infer(feed)["probabilities"]
    seen = []

    def make(step, invoke):
        def call(context, node):
            seen.append(step)
            return invoke(context, node)

        return call

    with hook.wrap(model.interpreter, make) as steps:
        np.testing.assert_array_equal(model.infer(feed)["probabilities"], plain)
    assert seen == steps == hook.steps(model.interpreter)

    seen.clear()
    np.testing.assert_array_equal(model.infer(feed)["probabilities"], plain)
    assert not seen


def test_wrappers_are_taken_off_after_an_error(float_net):
    model, hook = hooked(float_net)
    calls = []

    def count_and_interrupt():
        with hook.wrap(model.interpreter, lambda step, invoke: lambda c, n: calls.append(step) or invoke(c, n)):
            raise KeyError("something else went wrong")

    with pytest.raises(KeyError):
        count_and_interrupt()
    model.infer(random_feed(model.inputs))
    assert not calls


def test_hook_of_no_interpreter_is_refused(float_net):
    with pytest.raises(errors.ProfilingError, match="was not given to the interpreter"):
        OpHook().steps(EdgeModel(float_net).interpreter)


@pytest.mark.parametrize(
    ("threads", "other", "field"), [(2, "float_net", "recommended_num_threads"), (1, "loop_net", "tensors_size")]
)
def test_a_context_that_the_interpreter_does_not_confirm_is_refused(float_net, threads, other, field, request):
    hook = OpHook(threads)
    model = EdgeModel(float_net, kernels="builtin", delegates=[hook])
    described = model if other == "float_net" else EdgeModel(request.getfixturevalue(other), kernels="builtin")
    with pytest.raises(errors.ProfilingError, match=field):
        hook.steps(described.interpreter)


@pytest.mark.parametrize(("key", "said"), [("inputs", "inputs of node 1"), ("op_name", "op of node 1")])
def test_a_node_that_the_interpreter_does_not_confirm_is_refused_before_any_is_wrapped(
    float_net, monkeypatch, key, said
):
    model, hook = hooked(float_net, "builtin")
    details = model.interpreter._get_ops_details()
    details[1] = {**details[1], key: details[0][key]}
    monkeypatch.setattr(model.interpreter, "_get_ops_details", lambda: details)
    wrapped = []
    with (
        pytest.raises(errors.ProfilingError, match=said),
        hook.wrap(model.interpreter, lambda step, invoke: wrapped.append(step) or invoke),
    ):
        pass
    assert not wrapped


@pytest.mark.parametrize(
    ("resolver", "preserve"), [("BUILTIN", True), ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", False), ("BUILTIN_REF", False)]
)
def test_the_interpreter_of_tensorflow_has_the_same_hook(int8_net, resolver, preserve):
    import tensorflow as tf

    hook = OpHook()
    interpreter = tf.lite.Interpreter(
        int8_net,
        experimental_op_resolver_type=getattr(tf.lite.experimental.OpResolverType, resolver),
        experimental_preserve_all_tensors=preserve,
        experimental_delegates=[hook],
        num_threads=1,
    )
    interpreter.allocate_tensors()
    seen = []
    with hook.wrap(interpreter, lambda step, invoke: lambda c, n: seen.append(step) or invoke(c, n)) as steps:
        interpreter.invoke()
    assert seen == steps
    assert [step.outputs for step in steps] == [op.outputs for op in EdgeModel(int8_net).graph.ops]
