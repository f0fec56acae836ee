import gzip
import pathlib

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.frames.examples import decode_example, fingerprint, read_examples, try_examples

PNG = b"\x89PNG\r\n\x1a\n"  # nobody decodes it here


def serialize(**features) -> bytes:
    """A tf.Example; the type of the first value of a feature tells its list."""
    import tensorflow as tf

    lists = {
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)),
        float: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v)),
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=v)),
    }
    made = {name: lists[type(values[0])](values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def write_records(path: pathlib.Path, records: list[bytes]) -> pathlib.Path:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for record in records:
            writer.write(record)
    return path


RECORDS = [{"x": [0.5 * i, -1.0], "label": [i], "text": [b"ab\0\0", b""]} for i in range(3)]


def test_features_become_arrays_of_their_type():
    example = decode_example(serialize(**RECORDS[2]))
    assert example["x"].dtype == np.float32
    assert example["x"].tolist() == [1.0, -1.0]
    assert example["label"].dtype == np.int64
    assert example["label"].tolist() == [2]
    # Trailing zero bytes are part of an image.
    assert example["text"].tolist() == [b"ab\0\0", b""]


@pytest.mark.filterwarnings("ignore:Unexpected end-group tag")
@pytest.mark.parametrize("record", [b"", b"hello", b"\xff" * 10, np.arange(10).tobytes()])
def test_record_that_is_no_example_is_refused_and_its_file_named(record, tmp_path):
    with pytest.raises(errors.DataError, match=r"the record is not a tf\.Example"):
        decode_example(record)
    path = write_records(tmp_path / "mixed.tfrecord", [serialize(**RECORDS[0]), record])
    examples = read_examples(path)
    assert next(examples)["label"].tolist() == [0]
    with pytest.raises(errors.DataError, match=r"frame .*/mixed.tfrecord#1: the record is not a tf.Example"):
        next(examples)


def test_reading_can_go_on_after_a_record_that_is_no_example(tmp_path):
    path = write_records(tmp_path / "mixed.tfrecord", [serialize(**RECORDS[0]), b"hello", serialize(**RECORDS[1])])
    first, failure, last = try_examples(path)
    assert [first["label"].item(), last["label"].item()] == [0, 1]
    assert (failure.frame, type(failure)) == (f"{path}#1", errors.DataError)


@pytest.mark.parametrize("name", ["data.tfrecord", "data.tfrecord.gz", "Split-eval/data-00000-of-00001.gz"])
@pytest.mark.parametrize("given", ["file", "folder", "pattern"])
def test_tfrecords_are_read_in_order(name, given, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write_records(path, [serialize(**record) for record in RECORDS])
    (tmp_path / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "data.tfrecord").write_bytes(b"hidden")
    source = {"file": path, "folder": tmp_path, "pattern": path.parent / "data*"}[given]
    assert [example["label"].item() for example in read_examples(source)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("cut.tfrecord", lambda content: content[:-5]),
        ("cut.tfrecord.gz", lambda content: content[:-20]),
        ("flipped.tfrecord", lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]),
        ("really_gzip.tfrecord", gzip.compress),
        ("not_gzip.gz", gzip.decompress),
    ],
)
def test_damaged_tfrecord_is_one_sentence_with_its_name(name, damage, tmp_path):
    path = write_records(tmp_path / name, [serialize(**record) for record in RECORDS])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(errors.DataError, match=f"{name} is not a readable TFRecord file: ") as caught:
        list(read_examples(tmp_path))
    assert "\n" not in str(caught.value)
    assert "{{" not in str(caught.value)


def test_npz_has_one_array_a_feature(tmp_path):
    images = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    np.savez(tmp_path / "data.npz", image=images, label=[7, 8, 9])
    examples = list(read_examples(tmp_path / "data.npz"))
    assert [int(example["label"]) for example in examples] == [7, 8, 9]
    np.testing.assert_array_equal(np.stack([example["image"] for example in examples]), images)


def test_npy_is_the_only_input(tmp_path):
    np.save(tmp_path / "data.npy", np.eye(3))
    assert [example["input"].tolist() for example in read_examples(tmp_path / "data.npy")] == np.eye(3).tolist()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": np.ones((3, 2)), "label": np.ones(4)}, r"same length, got {'image': 3, 'label': 4}"),
        ({"image": np.ones((3, 2)), "label": np.array(1)}, r"same length, got {'image': 3, 'label': None}"),
        ({}, "same length, got {}"),
        ({"text": np.array(["a", None], object)}, "not a readable NumPy file"),
    ],
)
def test_npz_without_a_frame_axis_is_refused(arrays, words, tmp_path):
    np.savez(tmp_path / "ragged.npz", **arrays)
    with pytest.raises(errors.DataError, match=rf"ragged\.npz.*{words}"):
        list(read_examples(tmp_path / "ragged.npz"))


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text"])
def test_damaged_numpy_file_is_refused(suffix, damage, tmp_path):
    path = tmp_path / f"data{suffix}"
    np.savez(path, x=np.arange(1000)) if suffix == ".npz" else np.save(path, np.arange(1000))
    content = bytearray(path.read_bytes())
    content[2 if suffix == ".npy" else len(content) // 2] ^= 0xFF
    damaged = {"empty": b"", "cut": path.read_bytes()[:700], "flipped": bytes(content), "text": b"x,y\n1,2\n"}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    words = "there is no such file" if damage == "missing" else "not a readable NumPy file"
    with pytest.raises(errors.DataError, match=rf"data\{suffix}.* {words}"):
        list(read_examples(path))


def test_numpy_file_is_told_by_its_content(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.arange(3))
    (tmp_path / "data.npz").rename(tmp_path / "data.npy")
    assert [int(example["x"]) for example in read_examples(tmp_path / "data.npy")] == [0, 1, 2]


@pytest.fixture
def image_folder(tmp_path) -> pathlib.Path:
    for name in ("dog/b.JPG", "cat/a.png", "dog/a.png", "cat/.hidden.png", ".ipynb_checkpoints/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG + name.encode() + b"\0")
    return tmp_path


def test_images_are_labelled_by_their_folder(image_folder):
    examples = list(read_examples(image_folder))
    assert [example["image/id"].tolist() for example in examples] == [[b"cat/a.png"], [b"dog/a.png"], [b"dog/b.JPG"]]
    assert [example["image/class/label"].tolist() for example in examples] == [[0], [1], [1]]
    assert [example["image/class/text"].tolist() for example in examples] == [[b"cat"], [b"dog"], [b"dog"]]
    assert [example["image/format"].tolist() for example in examples] == [[b"png"], [b"png"], [b"jpeg"]]
    assert examples[0]["image/encoded"].tolist() == [PNG + b"cat/a.png\0"]


def test_folder_with_other_files_among_the_images_is_refused(image_folder):
    (image_folder / "cat" / "notes.txt").write_text("a cat")
    with pytest.raises(errors.DataError, match=r"mixes images with other files \(.*notes.txt\)"):
        list(read_examples(image_folder))


@pytest.mark.parametrize("name", ["", "missing", "*.tfrecord"])
def test_nothing_there_is_refused(name, tmp_path):
    with pytest.raises(errors.DataError, match="no examples at"):
        read_examples(tmp_path / name)


def test_fingerprint_is_the_same_in_every_format(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.savez(tmp_path / "data.npz", image=values, label=np.array([4]))
    records = [serialize(label=[4], image=values.ravel().tolist())]
    sources = [
        tmp_path / "data.npz",
        write_records(tmp_path / "data.tfrecord", records),
        write_records(tmp_path / "data.gz", records),
    ]
    ids = {fingerprint(next(iter(read_examples(source)))) for source in sources}
    assert len(ids) == 1
    # Frame ids are stored in reports and compared between runs: a new one is a change of format.
    assert ids == {"c835d14d597ec809"}


BASE = {"x": np.array([1.0, 2.0], np.float32), "text": np.array([b"ab", b"c"], object)}


@pytest.mark.parametrize(
    "other",
    [
        {**BASE, "x": np.array([1.0, 2.5], np.float32)},
        {**BASE, "x": np.array([1.0, 2.0], np.float64)},
        {**BASE, "x": np.array([2.0, 1.0], np.float32)},
        {**BASE, "text": np.array([b"a", b"bc"], object)},
        {**BASE, "text": np.array([b"ab", b"c\0"], object)},
        {**BASE, "y": np.array([1.0], np.float32)},
        {"y": BASE["x"], "text": BASE["text"]},
    ],
    ids=["value", "dtype", "order", "border", "zero byte", "feature", "name"],
)
def test_fingerprint_tells_any_change(other):
    assert fingerprint(dict(reversed(BASE.items()))) == fingerprint(BASE)
    assert fingerprint(other) != fingerprint(BASE)
