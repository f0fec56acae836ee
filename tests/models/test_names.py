import numpy as np
import pytest

from edge_exray.models.graph import Graph, Op, Tensor
from edge_exray.models.names import is_call, layers, without_call
from edge_exray.models.tensors import TensorSpec


def graph_of(*ops):
    """A graph of ops that each write a tensor of the name that stands beside them."""
    tensors = tuple(Tensor(i, TensorSpec(name, (1,), np.dtype(np.float32)), False) for i, (_, name) in enumerate(ops))
    return Graph(tuple(Op(i, op, (), (i,)) for i, (op, _) in enumerate(ops)), tensors, (), (len(ops) - 1,))


@pytest.mark.parametrize(
    ("op", "name", "layer"),
    [
        (
            "CONV_2D",
            "net/relu_1/Relu6;net/bn_1/batchnorm/add_1;net/conv_1/convolution;net/bn_1/batchnorm/sub",
            "conv_1",
        ),
        ("CONV_2D", "net/conv_bn/batchnorm/add_1;net/conv/Conv2D;1", "conv"),
        ("DEPTHWISE_CONV_2D", "net/dw_relu/Relu;net/dw/depthwise;", "dw"),
        ("FULLY_CONNECTED", "net/attention/key/MatMul;net/attention/key/add", "attention/key"),
        ("ADD", "net/out/Relu;net/add/Add", "out"),
        ("SQUARED_DIFFERENCE", "net/norm/moments/SquaredDifference", "norm"),
        ("HARD_SWISH", "StatefulPartitionedCall/net/swish/mul;;StatefulPartitionedCall/net/swish/Relu6", "swish"),
        ("MUL", "Mul", "Mul"),
        ("SOFTMAX", "StatefulPartitionedCall_1:0", None),
        ("SOFTMAX", "Identity", None),
    ],
)
def test_a_layer_is_the_scope_of_what_costs_most(op, name, layer):
    others = [("ADD", f"net/other_{i}/Add") for i in range(5)]
    assert layers(graph_of((op, name), *others))[0] == layer


def test_without_a_model_around_them_layers_keep_their_names():
    graph = graph_of(("CONV_2D", "conv/Relu6;conv/Conv2D1"), ("MEAN", "Mean"), ("FULLY_CONNECTED", "MatMul;add"))
    assert layers(graph) == {0: "conv", 1: "Mean", 2: "MatMul"}


def test_the_call_of_the_function_is_no_layer():
    assert is_call("StatefulPartitionedCall:0")
    assert is_call("PartitionedCall_1:2")
    assert not is_call("StatefulPartitionedCall/net/conv/Conv2D")
    assert without_call("StatefulPartitionedCall/StatefulPartitionedCall_1/net/a") == "net/a"
