import pytest

from edge_exray import errors
from edge_exray.models.graph import Op
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import feeds
from edge_exray.profiling.litert_profiler import LiteRtProfiler, match
from edge_exray.profiling.op_profiler import Subject

DEPTHWISE, POINTWISE = "Convolution (NHWC, QC8) DWConv", "Fully Connected (NC, QS8, QC8W) GEMM"


def ops(*names):
    return [Op(10 + i, name, (), ()) for i, name in enumerate(names)]


def test_ops_of_xnnpack_are_those_of_the_graph_in_their_order():
    graph = ops("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "SOFTMAX")
    tags = ["Convolution (NHWC, F32) IGEMM", DEPTHWISE, POINTWISE, "Add (ND)", "Softmax (NC, F32)"]
    assert match(graph, tags) == [10, 11, 12, 13, 14]


def test_a_fused_op_has_none_and_an_inserted_one_counts_with_the_op_before_it():
    graph = ops("CONV_2D", "PAD", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED")
    tags = ["Convolution (NHWC, QC8) IGEMM", DEPTHWISE, "Mean (ND) Reduce", "Static Reshape (NC)", POINTWISE]
    assert match(graph, tags) == [10, 12, 13, 13, 14]


def test_a_reshape_of_the_graph_is_not_an_inserted_one():
    assert match(ops("MEAN", "RESHAPE", "SOFTMAX"), ["Mean (ND)", "Static Reshape (NC)", "Softmax"]) == [10, 11, 12]


@pytest.mark.parametrize(
    ("names", "tags", "said"),
    [
        (("CONV_2D", "ADD"), ["Add (ND)"], "Add .* where the graph has CONV_2D"),
        (("CONV_2D",), [POINTWISE, "Add (ND)"], "after the last op"),
        (("CONV_2D", "ADD"), [POINTWISE], "does not show ADD"),
        (("CONV_2D",), ["Bewitch (ND)"], "Bewitch .* where the graph has CONV_2D"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(names, tags, said):
    with pytest.raises(errors.ProfilingError, match=said):
        match(ops(*names), tags)


def test_it_runs_the_shape_of_the_file_only(float_net):
    model = EdgeModel(float_net)
    feed = {name: value.repeat(3, axis=0) for name, value in feeds.random_feed(model.inputs).items()}
    model.infer(feed)
    with pytest.raises(errors.ProfilingError, match="shape of an input"):
        LiteRtProfiler(Subject(model, [feed], "xnnpack", 1, None))
