import pytest
import tampering

from edge_exray.models.delegation import is_accelerated, obstacle
from edge_exray.models.graph import read_graph
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.hook import OpHook

CONV, MEAN, SOFTMAX = 0, 3, 5


@pytest.mark.parametrize("mode", ["none", "float16", "dynamic_range", "int8", "int16x8"])
def test_xnnpack_takes_what_is_said_to_be_accelerated(edge_models, mode):
    hook = OpHook()
    model = EdgeModel(edge_models[mode], preserve_tensors=True, delegates=[hook])
    taken = {frozenset(step.outputs) for step in hook.steps(model.interpreter) if step.is_delegated}
    for op in model.graph.ops:
        if not model.graph.is_folded(op):
            assert (frozenset(op.outputs) in taken) == bool(is_accelerated(model.graph, op)), op


@pytest.mark.parametrize(
    ("mode", "tamper", "op", "words"),
    [
        ("none", lambda c: tampering.replace_op(c, MEAN, "MyOp"), MEAN, "custom op"),
        ("none", lambda c: tampering.replace_op(c, MEAN, "CUMSUM"), MEAN, "no kernel for CUMSUM"),
        ("int8", lambda c: c, SOFTMAX, "no kernel for SOFTMAX in INT8, only in FLOAT32"),
        ("int16x8", lambda c: c, CONV, "no kernel for CONV_2D in INT16"),
        ("none", lambda c: tampering.set_softmax_beta(c, SOFTMAX, 2.0), SOFTMAX, "its beta is 2, not 1"),
        ("none", lambda c: tampering.set_activation(c, CONV, "TANH"), CONV, "TANH is fused into it"),
        ("none", lambda c: c, CONV, "refused its shapes or options"),
    ],
)
def test_the_reason_is_told(conversions, mode, tamper, op, words):
    with open(conversions[mode].path, "rb") as file:
        graph = read_graph(tamper(file.read()))
    assert words in obstacle(graph, graph.ops[op])
