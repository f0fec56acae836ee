import pathlib

import numpy as np
import pytest
import tampering

from edge_exray.models.graph import Graph, Op, Tensor, read_graph
from edge_exray.models.tensors import TensorSpec
from edge_exray.profiling.arithmetic import Work, work


def works(path, batch=1):
    graph = read_graph(pathlib.Path(path).read_bytes())
    shapes = {t.index: tuple(batch if n < 0 else n for n in t.spec.shape) for t in graph.tensors}
    return {op.name + str(op.index): work(graph, op, shapes) for op in graph.ops}


# The layers of `conv_net`: outputs x window x input channels, and the values that each reads and writes.
MULTIPLICATIONS = {
    "CONV_2D0": 8 * 8 * 8 * (3 * 3 * 3),
    "DEPTHWISE_CONV_2D1": 8 * 8 * 8 * (3 * 3),
    "CONV_2D2": 8 * 8 * 16 * 8,
    "FULLY_CONNECTED4": 4 * 16,
}
VALUES = {
    "CONV_2D0": (16 * 16 * 3 + 8 * 8 * 8, 3 * 3 * 3 * 8, 8),
    "DEPTHWISE_CONV_2D1": (8 * 8 * 8 * 2, 3 * 3 * 8, 8),
    "CONV_2D2": (8 * 8 * 8 + 8 * 8 * 16, 8 * 16, 16),
    "FULLY_CONNECTED4": (16 + 4, 16 * 4, 4),
}


@pytest.mark.parametrize("batch", [1, 64])
def test_layers_of_a_float_net(float_net, batch):
    found = works(float_net, batch)
    for op, multiplications in MULTIPLICATIONS.items():
        activations, weights, bias = VALUES[op]
        assert found[op] == Work(
            2 * batch * multiplications, 4 * (batch * activations + weights + bias), 4 * (weights + bias)
        )
    assert found["MEAN3"].flops == batch * 8 * 8 * 16
    assert found["SOFTMAX5"] == Work(batch * 4 * 64, 2 * batch * 4 * 4)


def test_a_quantised_net_computes_as_much_and_moves_a_quarter(int8_net):
    found = works(int8_net)
    for op, multiplications in MULTIPLICATIONS.items():
        activations, weights, bias = VALUES[op]
        # Biases are stored in 32 bits.
        assert found[op] == Work(2 * multiplications, activations + weights + 4 * bias, weights + 4 * bias)


def test_tensorflow_counts_the_same(tmp_path):
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    rng = np.random.default_rng(0)

    def weights(*shape):
        return tf.constant(rng.normal(size=shape).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([1, 14, 14, 8], tf.float32)])
    def net(x):
        y = tf.nn.relu6(tf.nn.conv2d(x, weights(1, 1, 8, 48), 1, "SAME"))
        y = tf.nn.relu6(tf.nn.depthwise_conv2d(y, weights(3, 3, 48, 1), [1, 2, 2, 1], "SAME"))
        y = tf.nn.conv2d(y, weights(1, 1, 48, 12), 1, "VALID")
        y = tf.nn.conv2d(y, weights(3, 3, 12, 6), 1, "VALID", dilations=2)
        y = tf.nn.conv2d_transpose(y, weights(3, 3, 5, 6), [1, 6, 6, 5], 2, "SAME")
        y = tf.nn.avg_pool2d(y, 2, 2, "VALID")
        y = tf.reshape(y, [3, 3, 5])
        return tf.matmul(y, tf.transpose(y, [0, 2, 1]))

    function = net.get_concrete_function()
    path = tmp_path / "net.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert())
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    frozen = convert_variables_to_constants_v2(function).graph
    counted = tf.compat.v1.profiler.profile(frozen, options=options.build()).total_float_ops

    found = works(path)
    names = " ".join(found)
    assert all(op in names for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D"))
    assert sum(each.flops for each in found.values()) == pytest.approx(counted, rel=0.01)


def by_hand(name, shapes, outputs=1, **options):
    """The work of one op on float32 tensors, the last of which are its outputs; None is an absent input."""
    tensors = tuple(
        Tensor(i, TensorSpec(f"t{i}", shape or (), np.dtype(np.float32)), is_constant=False)
        for i, shape in enumerate(shapes)
    )
    indices = [-1 if shape is None else i for i, shape in enumerate(shapes)]
    op = Op(0, name, tuple(indices[:-outputs]), tuple(indices[-outputs:]), options=options)
    graph = Graph((op,), tensors, (), ())
    return work(graph, op, {i: shape for i, shape in enumerate(shapes) if shape is not None})


@pytest.mark.parametrize(
    ("done", "flops"),
    [
        (by_hand("CONV_3D", [(1, 4, 6, 6, 2), (3, 3, 3, 2, 5), (5,), (1, 2, 4, 4, 5)]), 2 * 2 * 4 * 4 * 5 * 27 * 2),
        (by_hand("BATCH_MATMUL", [(2, 3, 4), (2, 3, 5), (2, 4, 5)], adjX=True), 2 * 2 * 4 * 5 * 3),
        (by_hand("BATCH_MATMUL", [(2, 4, 3), (2, 3, 5), (2, 4, 5)], adjX=False), 2 * 2 * 4 * 5 * 3),
        # Four gates of four units, three inputs, five steps of two sequences.
        (
            by_hand(
                "UNIDIRECTIONAL_SEQUENCE_LSTM",
                [
                    (5, 2, 3),
                    *[(4, 3)] * 4,
                    *[(4, 4)] * 4,
                    *[None] * 3,
                    *[(4,)] * 4,
                    None,
                    None,
                    *[(2, 4)] * 2,
                    (5, 2, 4),
                ],
            ),
            2 * 5 * 2 * 4 * 4 * (3 + 4),
        ),
        (by_hand("MAX_POOL_2D", [(1, 4, 4, 3), (1, 2, 2, 3)], filterWidth=2, filterHeight=2), 2 * 2 * 3 * 4),
        (by_hand("ADD", [(1, 8), (8,), (1, 8)]), 8),
        (by_hand("RESIZE_BILINEAR", [(1, 2, 2, 1), (2,), (1, 4, 4, 1)]), 8 * 16),
        (by_hand("TRANSPOSE", [(3, 5), (2,), (5, 3)]), 0),
    ],
)
def test_operations_by_hand(done, flops):
    assert done.flops == flops


def test_an_op_that_picks_reads_what_it_takes():
    assert by_hand("GATHER", [(1000, 8), (3,), (3, 8)]).bytes == 4 * (3 * 8 + 3 + 3 * 8)
    assert by_hand("EMBEDDING_LOOKUP", [(3,), (1000, 8), (3, 8)]).bytes == 4 * (3 + 3 * 8 + 3 * 8)
    assert by_hand("SHAPE", [(1000, 8), (2,)]).bytes == 4 * 2


def test_what_is_not_known_is_not_guessed(float_net, loop_net):
    assert works(loop_net)["WHILE0"] == Work(None, None)
    graph = read_graph(tampering.replace_op(pathlib.Path(float_net).read_bytes(), 0, "MyOp"))
    assert work(graph, graph.ops[0], {}) == Work(None, None)
    assert by_hand("NON_MAX_SUPPRESSION_V4", [(8, 4), (8,), (8,)]) == Work(None, None)
