import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_exray.monitor import example

tf = pytest.importorskip("tensorflow")

INTS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=80)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=80)
BYTES = st.lists(st.binary(max_size=20), min_size=1, max_size=5)
FEATURES = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), INTS | FLOATS | BYTES)


def joined(features):
    body = b"".join(example.feature(key, values) for key, values in features.items())
    return example.example_head(len(body)) + body


def listed(feature):
    return list(getattr(feature, feature.WhichOneof("kind")).value)


@given(FEATURES)
def test_tensorflow_reads_what_is_encoded(features):
    proto = tf.train.Example.FromString(joined(features))
    assert {key: listed(feature) for key, feature in proto.features.feature.items()} == features


@given(FEATURES)
def test_what_tensorflow_encodes_is_decoded(features):
    proto = tf.train.Example()
    for key, values in features.items():
        feature = proto.features.feature[key]
        kind = "int64" if not values or isinstance(values[0], int) else type(values[0]).__name__
        getattr(feature, f"{kind}_list").value.extend(values)
    decoded = example.decode(proto.SerializeToString())
    found = {
        k: [bytes(v) for v in values] if isinstance(values, list) else values.tolist() for k, values in decoded.items()
    }
    assert found == features


@given(FEATURES, FEATURES, st.binary(max_size=3), st.integers(0, 10**6))
def test_joined_and_damaged_ones_are_decoded_as_tensorflow_does_or_refused(features, more, damage, place):
    serialized = bytearray(joined(features) + joined(more))
    place %= len(serialized) + 1
    serialized[place : place + len(damage)] = damage
    try:
        decoded = example.decode(bytes(serialized))
    except example.WireError:  # also of groups, which protobuf knows and tf.Example has none of
        return
    proto = tf.train.Example.FromString(bytes(serialized))
    known = {key: feature for key, feature in proto.features.feature.items() if feature.WhichOneof("kind")}
    assert decoded.keys() == known.keys()
    for key, feature in known.items():
        values = [bytes(v) for v in decoded[key]] if isinstance(decoded[key], list) else decoded[key].tolist()
        assert np.array_equal(values, listed(feature), equal_nan=not isinstance(decoded[key], list))


def test_lists_of_numbers_may_be_unpacked():
    # Feature "a" of the int64 values 5 and -1, and "b" of the float 1.5, a field each.
    ints = b"\x08\x05" + b"\x08" + b"\xff" * 9 + b"\x01"
    floats = b"\x0d" + np.float32(1.5).tobytes()
    entries = b""
    for key, number, values in ((b"a", 3, ints), (b"b", 2, floats)):
        feature = bytes([number << 3 | 2, len(values)]) + values
        entry = b"\x0a\x01" + key + b"\x12" + bytes([len(feature)]) + feature
        entries += b"\x0a" + bytes([len(entry)]) + entry
    decoded = example.decode(example.example_head(len(entries)) + entries)
    assert decoded["a"].tolist() == [5, -1]
    assert decoded["b"].tolist() == [1.5]


def test_a_big_value_is_not_joined_but_reads_the_same():
    value = np.arange(70_000, dtype=np.uint8)
    head = example.bytes_head("big", len(value))
    assert head + value.tobytes() == example.bytes_list("big", [value.tobytes()])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_hold_features(data):
    try:
        decoded = example.decode(data)
    except example.WireError:
        return
    assert isinstance(decoded, dict)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_an_integer_that_int64_has_no_room_for_is_refused(value):
    with pytest.raises(OverflowError):
        example.feature("x", value)
