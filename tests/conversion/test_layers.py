import pytest

from edge_exray import errors
from edge_exray.conversion import layers
from edge_exray.models.tflite import EdgeModel


@pytest.fixture(scope="module")
def float_edge(edge_models):
    return EdgeModel(edge_models["none"])


@pytest.mark.parametrize(
    ("patterns", "ops"),
    [
        (["depthwise/depthwise"], ["DEPTHWISE_CONV_2D"]),
        (["depthwise/Relu6;depthwise/FusedBatchNormV3;depthwise/depthwise"], ["DEPTHWISE_CONV_2D"]),
        (["Softmax|depthwise/depthwise"], ["DEPTHWISE_CONV_2D"]),
        (["conv/Conv2D", "conv/Conv2D1"], ["CONV_2D"]),
        (["(conv|pointwise)/Relu6"], ["CONV_2D", "CONV_2D"]),
        (["StatefulPartitionedCall/depthwise/depthwise:0"], ["DEPTHWISE_CONV_2D"]),
        (["probabilities", "Mean"], ["MEAN", "SOFTMAX"]),
        ([".*/FusedBatchNormV3"], ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]),
    ],
)
def test_a_layer_goes_by_any_of_its_names(patterns, ops, float_edge):
    assert [op.name for op in layers.find(float_edge, patterns)] == ops


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("depthwise/Rel", "no layer has the name 'depthwise/Rel'.*; did you mean depthwise/Relu6?"),
        ("conv", r"no layer has the name 'conv'.*; did you mean conv/.*Conv2D.*\? Write 'block_1/\.\*'"),
        ("depthwize", r"; did you mean depthwise/|; there are .*depthwise/"),
        ("conv/(", r"'conv/\(' is no layer, and no regular expression: .*unterminated"),
    ],
)
def test_a_name_of_no_layer_is_an_error(pattern, words, float_edge):
    with pytest.raises(errors.SpecError, match=words):
        layers.find(float_edge, ["Mean", pattern])
