import pathlib
import shutil

import models_zoo
import numpy as np
import pytest

from edge_exray import errors
from edge_exray.models import saved_model
from edge_exray.models.saved_model import CloudModel


def save_scale(path: pathlib.Path, factor: float, signature: str = "dense") -> str:
    """`dense`, "x" float32 [None, 2] to "y": x times a variable. `parsed` takes serialized tf.Examples instead."""
    import tensorflow as tf

    class Scale(tf.Module):
        def __init__(self):
            super().__init__()
            self.factor = tf.Variable(factor)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def dense(self, x):
            return {"y": x * self.factor}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def parsed(self, examples):
            return self.dense(tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"])

    scale = Scale()
    tf.saved_model.save(scale, str(path), signatures={signature: getattr(scale, signature)})
    return str(path)


@pytest.fixture(scope="module")
def parsing_net(tmp_path_factory) -> str:
    return save_scale(tmp_path_factory.mktemp("parsing") / "net", 2.0, "parsed")


def test_same_as_the_signature_of_tensorflow(two_input_net, two_input_feeds):
    import tensorflow as tf

    cloud = CloudModel(two_input_net["cloud"])
    signature = tf.saved_model.load(two_input_net["cloud"]).signatures["dense"]
    for feed in two_input_feeds[:5]:
        outputs, _ = cloud.infer(feed)
        expected = signature(**{name: tf.constant(value) for name, value in feed.items()})
        assert set(outputs) == set(expected) == {"a", "m", "z"}
        for name, value in expected.items():
            np.testing.assert_allclose(outputs[name], value.numpy(), atol=1e-6)
    assert {n: (s.shape, s.dtype.name) for n, s in cloud.inputs.items()} == {
        "zebra": ((-1, 5), "float32"),
        "apple": ((-1, 4), "float32"),
        "ids": ((-1, 1), "int32"),
    }
    assert {n: s.dtype.name for n, s in cloud.outputs.items()} == {"a": "int64", "m": "float32", "z": "float32"}


def test_any_tensor_of_the_frozen_graph_can_be_fetched(two_input_net, two_input_feeds):
    import tensorflow as tf

    loaded = tf.saved_model.load(two_input_net["cloud"])
    cloud = CloudModel(two_input_net["cloud"])
    products = [node.outputs[0].name for node in cloud.nodes() if node.type == "MatMul"]
    feed = two_input_feeds[0]
    _, fetched = cloud.infer(feed, products)
    expected = [feed["apple"] @ loaded.from_apple.numpy(), feed["zebra"] @ loaded.from_zebra.numpy()]
    for name, value in zip(products, expected, strict=True):
        np.testing.assert_allclose(fetched[name], value, atol=1e-5)
    assert cloud.infer(feed)[1] == {}


@pytest.mark.parametrize("text", [["AB", "Cd"], [b"AB", b"Cd"]])
@pytest.mark.parametrize("dtype", [None, object])
def test_text_is_taken_and_given(text, dtype, lowercase_net):
    cloud = CloudModel(lowercase_net["cloud"])
    outputs, tensors = cloud.infer({"text": np.array(text, dtype)}, [cloud.output_tensors()["lower"]])
    assert outputs["lower"].tolist() == [b"ab", b"cd"]
    assert [value.tolist() for value in tensors.values()] == [[b"ab", b"cd"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"zebra": None}, r"has the inputs \['apple', 'ids', 'zebra'\], was given \['apple', 'ids'\]"),
        ({"apple": np.zeros((1, 5), np.float32)}, r"apple of .* needs shape \[-1, 4\], was given \[1, 5\]"),
        ({"ids": np.array([[1.7]])}, "ids of .* is float64, the model needs int32"),
    ],
)
def test_feed_that_does_not_fit_is_refused(change, words, two_input_net, two_input_feeds):
    feed = {name: value for name, value in {**two_input_feeds[0], **change}.items() if value is not None}
    with pytest.raises(errors.DataError, match=words):
        CloudModel(two_input_net["cloud"]).infer(feed)


def test_op_that_fails_is_one_sentence(two_input_net, two_input_feeds):
    with pytest.raises(errors.ModelError, match=r"indices\[0\] = 4 is not in \[0, 4\) \(node .*Gather\)$") as caught:
        CloudModel(two_input_net["cloud"]).infer({**two_input_feeds[0], "ids": np.array([[4]], np.int32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("asked", "chosen"), [(None, "serving_dense"), ("serving_dense", "serving_dense")])
def test_dense_signature_is_chosen(asked, chosen, conv_net):
    assert saved_model.resolve_signature(saved_model.load(conv_net), conv_net, asked) == chosen


@pytest.mark.parametrize(
    ("net", "asked", "words"),
    [
        ("conv_net", "serving", r"no signature 'serving', only \['serving_default', 'serving_dense'\]"),
        ("conv_net", "serving_default", "takes serialized tf.Examples, .*: use 'serving_dense'"),
        ("two_signatures_net", None, r"several dense signatures, \['double', 'triple'\]: name"),
    ],
)
def test_signature_that_no_device_can_run_is_refused(net, asked, words, request):
    path = request.getfixturevalue(net)
    path = path["cloud"] if isinstance(path, dict) else path
    with pytest.raises(errors.ModelError, match=words) as caught:
        CloudModel(path, asked)
    assert path in str(caught.value)


@pytest.mark.parametrize("asked", [None, "parsed"])
def test_the_only_signature_is_entered_behind_its_parsing(asked, parsing_net):
    cloud = CloudModel(parsing_net, asked)
    assert cloud.signature == "parsed"
    outputs, _ = cloud.infer({"x": np.array([[1, 2]], np.float32)})
    np.testing.assert_array_equal(outputs["y"], [[2, 4]])


def test_fingerprint_counts_graph_and_variables_alone(tmp_path):
    first = pathlib.Path(save_scale(tmp_path / "first", 2.0))
    other = tmp_path / "moved" / "elsewhere"
    shutil.copytree(first, other)
    (other / "assets").mkdir(exist_ok=True)
    (other / "assets" / "words.txt").write_text("new")
    (other / "fingerprint.pb").unlink(missing_ok=True)
    assert saved_model.fingerprint(first) == saved_model.fingerprint(other) == CloudModel(first).fingerprint

    changed = tmp_path / "changed"
    shutil.copytree(first, changed)
    shutil.rmtree(changed / "variables")
    shutil.copytree(save_scale(tmp_path / "second", 3.0) + "/variables", changed / "variables")
    assert CloudModel(changed).infer({"x": np.ones((1, 2), np.float32)})[0]["y"].tolist() == [[3, 3]]
    assert saved_model.fingerprint(changed) != saved_model.fingerprint(first)
    assert saved_model.size(first) == sum(
        f.stat().st_size for f in first.rglob("*") if f.parent.name == "variables" or f.name == "saved_model.pb"
    )


@pytest.mark.parametrize("damage", ["no graph", "empty graph", "half a graph", "no variables", "half of the variables"])
def test_damaged_saved_model_is_one_sentence(damage, conv_net, tmp_path):
    path = tmp_path / "net"
    shutil.copytree(conv_net, path)
    graph, variables = path / "saved_model.pb", path / "variables" / "variables.data-00000-of-00001"
    if damage == "no graph":
        graph.unlink()
    elif damage == "no variables":
        shutil.rmtree(path / "variables")
    else:
        file = variables if "variables" in damage else graph
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if "half" in damage else b"")
    with pytest.raises(errors.ModelError, match=str(path)) as caught:
        CloudModel(path, "serving_dense")
    assert "\n" not in str(caught.value)


def save_lookup_net(path: pathlib.Path) -> str:
    import tensorflow as tf

    class LookupNet(tf.Module):
        def __init__(self):
            super().__init__()
            words = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2])
            self.table = tf.lookup.StaticHashTable(words, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def dense(self, word):
            return {"index": self.table.lookup(word)}

    net = LookupNet()
    tf.saved_model.save(net, str(path), signatures={"dense": net.dense})
    return str(path)


@pytest.mark.parametrize("save", [save_lookup_net, models_zoo.save_counting_net])
def test_state_that_cannot_be_frozen_is_refused(save, tmp_path):
    with pytest.raises(errors.ModelError, match=r"'dense' of .* does not freeze.*; a lookup table, or a variable"):
        CloudModel(save(tmp_path / "net"))


def save_signatures(path: pathlib.Path, names: tuple[str, ...], outputs: tuple[int, ...]) -> str:
    """Dense signatures from "x" float32 [None, 2] to "y" float32 [None, n], with an n for each name."""
    import tensorflow as tf

    module = tf.Module()

    def signature(n: int):
        return tf.function(lambda x: {"y": tf.tile(x[:, :1], [1, n])}, [tf.TensorSpec([None, 2], tf.float32, name="x")])

    functions = {name: signature(n) for name, n in zip(names, outputs, strict=True)}
    tf.saved_model.save(module, str(path), signatures=functions)
    return str(path)


def test_serving_default_is_taken_of_signatures_with_one_interface(tmp_path):
    path = save_signatures(tmp_path / "same", ("serve", "serving_default"), (3, 3))
    assert CloudModel(path).signature == "serving_default"
    assert CloudModel(path, "serve").signature == "serve"
    for names, outputs in ((("serve", "serving_default"), (3, 4)), (("serve", "classify"), (3, 3))):
        path = save_signatures(tmp_path / "-".join(map(str, (*names, *outputs))), names, outputs)
        with pytest.raises(errors.ModelError, match=r"several dense signatures.* with --signature .*signature_name"):
            CloudModel(path)
