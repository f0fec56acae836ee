"""The log as TensorFlow and its tools see it."""

import hashlib
import json
import pathlib
import zlib

import numpy as np
import pytest

from edge_exray.monitor import EdgeMonitor, Sampling, read_log, sampling

tf = pytest.importorskip("tensorflow")

SCHEMA = pathlib.Path(__file__).parents[2] / "schemas" / "edge_log.pbtxt"
NAMED_BY_APPS = (
    "raw",
    "input",
    "output",
    "layer",
    "span_ns",
    "span_start_ns",
    "user",
    "count/dropped",
    "count/problems",
)


def examples(path):
    return [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]


def values(proto, key):
    feature = proto.features.feature[key]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


def test_tensorflow_reads_every_record(write_log, tmp_path):
    images = write_log(4)
    header, *frames, footer = examples(tmp_path / "run.exray")
    assert [values(r, "exray/kind") for r in (header, footer)] == [[b"header"], [b"footer"]]
    assert values(header, "exray/format_version") == [1]
    for i, (proto, image) in enumerate(zip(frames, images, strict=True)):
        assert values(proto, "exray/frame_id") == [str(i).encode()]
        assert values(proto, "raw/input") == [image.tobytes()]
        assert values(proto, "raw.dtype/input") == [b"uint8"]
        assert values(proto, "input/x") == [image.astype("<f4").tobytes()]
        assert values(proto, "input.shape/x") == [30]
        assert values(proto, "output/twice") == [(2 * image.astype("<f4")).tobytes()]
        assert len(values(proto, "span_ns/preprocess")) == len(values(proto, "span_ns/inference")) == 1
    assert [values(footer, f"count/{n}") for n in ("seen", "sampled", "written")] == [[4], [4], [4]]
    assert values(footer, "exray/final") == [1]


def test_the_portable_checksum_is_tensorflow_s_too(write_log, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_exray.monitor.crc._native", None)
    write_log(2, size=9000)
    assert len(examples(tmp_path / "run.exray")) == 4


def test_records_are_what_the_schema_says(write_log, tmp_path):
    schema_pb2 = pytest.importorskip("tensorflow_metadata.proto.v0.schema_pb2")
    from google.protobuf import text_format

    schema = text_format.Parse(SCHEMA.read_text("utf-8"), schema_pb2.Schema())
    write_log(3, level="outputs", model="a" * 64, contract={"task": "classification"}, app=("demo", "1"), threads=1)
    types = {"bytes_list": schema_pb2.BYTES, "int64_list": schema_pb2.INT, "float_list": schema_pb2.FLOAT}
    for proto in examples(tmp_path / "run.exray"):
        kind = values(proto, "exray/kind")[0].decode()
        known = {f.name: f for f in schema.feature if kind not in f.not_in_environment}
        for key, feature in proto.features.feature.items():
            if not key.startswith(NAMED_BY_APPS):
                assert types[feature.WhichOneof("kind")] == known[key].type, key
                assert len(values(proto, key)) == 1, key
        required = {name for name, feature in known.items() if feature.presence.min_count}
        assert required <= set(proto.features.feature)


def test_hash_of_an_encoded_image_is_that_of_the_file(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", strict=True) as monitor, monitor.frame(raw={"photo": b"\xff\xd8jpeg\0"}):
        pass
    (_, frame, _) = examples(tmp_path / "run.exray")
    assert values(frame, "raw.sha256/photo") == [hashlib.sha256(b"\xff\xd8jpeg\0").hexdigest().encode()]
    assert "raw/photo" not in frame.features.feature
    assert values(frame, "raw.shape/photo") == []


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64", ">f4"]
)
def test_tensors_of_every_dtype_come_back(dtype, tmp_path):
    array = np.arange(-4, 20).reshape(2, 3, 4).astype(dtype)
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", strict=True) as monitor, monitor.frame() as frame:
        frame.inputs({"all/of:it": array, "part": array[:, ::2], "one": array[0, 0, 0]})
    (read,) = read_log(tmp_path / "run.exray")
    for name, expected in {"all/of:it": array, "part": array[:, ::2], "one": array[0, 0, 0]}.items():
        np.testing.assert_array_equal(read.inputs[name].value, expected)
        assert read.inputs[name].dtype == np.dtype(dtype).name


def test_texts_come_back(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs") as monitor, monitor.frame(raw="häl\0") as frame:
        frame.inputs(np.array([["a", "b\0"], ["", "ü"]], object))
        frame.outputs({"none": np.zeros((0, 3), np.int8)})
    (read,) = read_log(tmp_path / "run.exray")
    assert read.raw["input"].value[()] == "häl\0".encode()
    assert read.inputs["input"].value.tolist() == [[b"a", b"b\0"], [b"", "ü".encode()]]
    assert read.outputs["none"].value.shape == (0, 3)


def test_what_is_no_utf_8_costs_no_frame(tmp_path):
    odd = "caf\udce9"
    monitor = EdgeMonitor(tmp_path / "run.exray", level="inputs", strict=True)
    with monitor, monitor.frame(id=odd) as frame:
        frame.inputs({odd: np.zeros(2)})
        frame.log(**{odd: odd})
        frame.stage(odd, int)
    (_, proto, _) = examples(tmp_path / "run.exray")
    assert values(proto, "exray/frame_id") == values(proto, "user/caf?") == [b"caf?"]
    assert values(proto, "input.shape/caf?") == [2]
    assert len(values(proto, "span_ns/caf?")) == 1


def test_compressed_tensors_are_smaller_and_tensorflow_reads_the_records(write_log, tmp_path):
    zstandard = pytest.importorskip("zstandard")
    monitor = EdgeMonitor(tmp_path / "run.exray", level="inputs", codec="zstd", strict=True)
    with monitor, monitor.frame(raw=np.zeros(100_000, np.uint8)) as frame:
        frame.inputs({"tiny": np.arange(3), "noise": np.random.default_rng(0).integers(0, 256, 999, np.uint8)})
    _, proto, _ = examples(tmp_path / "run.exray")
    assert values(proto, "raw.codec/input") == [b"zstd"]
    assert zstandard.ZstdDecompressor().decompress(values(proto, "raw/input")[0]) == bytes(100_000)
    assert "input.codec/tiny" not in proto.features.feature
    assert "input.codec/noise" not in proto.features.feature
    (read,) = read_log(tmp_path / "run.exray")
    assert not read.raw["input"].value.any()
    assert (tmp_path / "run.exray").stat().st_size < 10_000


def test_the_rate_is_the_documented_function_of_the_id():
    def documented(frame_id, seed):
        h = zlib.crc32(seed.to_bytes(8, "little") + frame_id.encode())
        h ^= h >> 16
        h = h * 0x85EBCA6B % 2**32
        h ^= h >> 13
        h = h * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    assert all(sampling.hashed(str(i), 7) == documented(str(i), 7) for i in range(100))
    chosen = [i for i in range(100_000) if Sampling(rate=0.01, seed=7).at_begin(str(i), i)]
    assert 900 < len(chosen) < 1100
    # Four standard deviations of a fair choice, in each tenth of the ids.
    assert all(60 < count < 140 for count in np.histogram(chosen, 10, (0, 100_000))[0])
    assert json.loads(Sampling(rate=0.01, seed=7, label_change=True).to_json()) == {
        "rate": 0.01,
        "seed": 7,
        "label_change": True,
    }
