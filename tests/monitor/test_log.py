"""Reading logs, whole and damaged."""

import dataclasses
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from edge_exray import errors
from edge_exray.cli.main import app
from edge_exray.monitor import EdgeMonitor, LoggedFrame, crc, example, read_log, records


@dataclasses.dataclass(repr=False)
class Whole:
    """The bytes of a log of 12 frames, their inputs, and where its 14 records begin; at last where it ends."""

    content: bytes
    arrays: list[np.ndarray]
    offsets: list[int]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run.exray"
    arrays = [np.random.default_rng(i).integers(-9, 9, 200).astype(np.int16) for i in range(12)]
    arrays[3][:] = 0  # zeros look like lengths
    with EdgeMonitor(path, level="inputs", policy="block", strict=True) as monitor:
        for array in arrays:
            with monitor.frame() as frame:
                frame.inputs(array)
    offsets = [record.offset for record in records.read(str(path))]
    assert len(offsets) == 14
    return Whole(path.read_bytes(), arrays, [*offsets, path.stat().st_size])


def check_damaged(content, whole, path):
    """What is read from damaged bytes is right, and what is missing is told."""
    path.write_bytes(content)
    log = read_log(path)
    frames = list(log)
    for frame in frames:
        np.testing.assert_array_equal(frame.inputs["input"].value, whole.arrays[frame.sequence])
    sequences = [frame.sequence for frame in frames]
    assert sequences == sorted(set(sequences))
    # Every byte belongs to a whole record or to what is damaged.
    found = records.read(str(path))
    assert sum(16 + len(r.data) if isinstance(r, records.Record) else r.size for r in found) == len(content)
    for damage, behind in itertools.pairwise(log.report.damages):
        assert damage.offset + damage.size <= behind.offset
    return log, sequences


@settings(max_examples=150)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=6))
def test_flipped_bits_cost_the_records_that_they_are_in(whole, tmp_path_factory, flips):
    original, offsets = whole.content, whole.offsets
    content = bytearray(original)
    for share, bit in flips:
        content[int(share * len(content))] ^= 1 << bit
    changed = [i for i in range(len(content)) if content[i] != original[i]]
    hit = {max(n for n in range(14) if offsets[n] <= i) for i in changed}
    log, sequences = check_damaged(bytes(content), whole, tmp_path_factory.getbasetemp() / "flipped.exray")
    assert set(range(12)) - set(sequences) == {n - 1 for n in hit if 1 <= n <= 12}
    # Neighbours may be told as one.
    for n in hit:
        assert any(d.offset <= offsets[n] and offsets[n + 1] <= d.offset + d.size for d in log.report.damages)
    assert bool(log.report) == (not hit)


@settings(max_examples=75)
@given(st.floats(0, 1))
def test_a_cut_off_file_has_all_frames_before_the_cut(whole, tmp_path_factory, share):
    original, offsets = whole.content, whole.offsets
    size = int(share * len(original))
    log, sequences = check_damaged(original[:size], whole, tmp_path_factory.getbasetemp() / "cut.exray")
    assert sequences == [n - 1 for n in range(1, 13) if offsets[n + 1] <= size]
    begun = max(o for o in offsets if o <= size)
    assert [(d.offset, d.size, d.is_torn_tail) for d in log.report.damages] == (
        [(begun, size - begun, True)] if begun < size else []
    )
    assert bool(log.report.unclosed) == (size < len(original))


@settings(max_examples=75)
@given(st.floats(0, 1), st.floats(0, 1), st.binary(max_size=60))
def test_a_stretch_that_is_lost_or_overwritten(whole, tmp_path_factory, first, second, instead):
    original, offsets = whole.content, whole.offsets
    begin, end = sorted(int(share * len(original)) for share in (first, second))
    content = original[:begin] + instead + original[end:]
    _, sequences = check_damaged(content, whole, tmp_path_factory.getbasetemp() / "lost.exray")
    untouched = {n - 1 for n in range(1, 13) if offsets[n + 1] <= begin or offsets[n] >= end}
    assert untouched <= set(sequences)


def test_a_log_inside_a_damaged_record_is_not_taken_for_the_log(whole, tmp_path):
    original = whole.content
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", policy="block") as monitor:
        for _ in range(3):
            with monitor.frame(raw=original):
                pass
    content = bytearray((tmp_path / "run.exray").read_bytes())
    second = [record.offset for record in records.read(str(tmp_path / "run.exray"))][2]
    content[second + 30] ^= 1
    (tmp_path / "run.exray").write_bytes(content)
    log = read_log(tmp_path / "run.exray")
    assert [frame.sequence for frame in log] == [0, 2]
    assert [d.offset for d in log.report.damages] == [second]


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 5, np.random.default_rng(0).bytes(3000), bytes(3000)],
    ids=["empty", "short", "random", "zeros"],
)
def test_other_files_hold_no_frames(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    log = read_log(tmp_path / "other")
    assert list(log) == []
    assert sum(d.size for d in log.report.damages) == len(content)
    assert log.headers() == []
    assert CliRunner().invoke(app, ["inspect", str(tmp_path / "other")], standalone_mode=False).exception


def test_a_tfrecord_of_something_else_is_told(tmp_path):
    other = example.feature("label", 1)
    with open(tmp_path / "other", "wb") as file:
        file.writelines(records.frame([other]) + records.frame([]))
    log = read_log(tmp_path / "other")
    assert list(log) == []
    (damage,) = log.report.damages
    assert "no exray/kind" in damage.reason
    assert damage.size == (tmp_path / "other").stat().st_size


def test_nothing_there(tmp_path):
    with pytest.raises(errors.DataError, match="no such file"):
        read_log(tmp_path / "run.exray")
    with pytest.raises(errors.DataError, match="no files"):
        read_log(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    facts = {"exray/kind": "header", "exray/format_version": 2}
    body = b"".join(example.feature(key, value) for key, value in facts.items())
    (tmp_path / "run.exray").write_bytes(b"".join(bytes(p) for p in records.frame([body])))
    with pytest.raises(errors.DataError, match="format version 2"):
        list(read_log(tmp_path / "run.exray"))


def test_a_writer_that_contradicts_itself_is_told(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs") as monitor, monitor.frame() as frame:
        frame.inputs(np.zeros((2, 3), np.float32))
    _, found, _ = records.read(str(tmp_path / "run.exray"))
    frame = LoggedFrame.of_example(found.data.replace(b"float32", b"float64"))
    with pytest.raises(errors.DataError, match="input/input cannot be decoded"):
        frame.inputs  # noqa: B018
    with pytest.raises(errors.DataError, match="not a tf"):
        LoggedFrame.of_example(found.data[:-1])


def test_a_length_that_fits_by_chance_does_not_lead_astray(tmp_path):
    head = struct.pack("<Q", 5)
    fake = head + struct.pack("<I", crc.mask(crc.crc32c(head))) + b"12345" + b"\0\0\0\0"
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", policy="block") as monitor:
        for _ in range(2):
            with monitor.frame(raw=fake):
                pass
    original = (tmp_path / "run.exray").read_bytes()
    offset = [record.offset for record in records.read(str(tmp_path / "run.exray"))][1]
    # The head of the first frame is gone.
    (tmp_path / "run.exray").write_bytes(original[:offset] + original[offset + 12 :])
    assert [frame.sequence for frame in read_log(tmp_path / "run.exray")] == [1]


def test_logs_of_two_devices_are_joined_by_frame(tmp_path):
    for name, ids in (("phone", "abcdb"), ("watch", "bxcbb")):
        with EdgeMonitor(tmp_path / f"{name}.exray", level="inputs", policy="block") as monitor:
            for i, frame_id in enumerate(ids):
                with monitor.frame(id=frame_id) as frame:
                    frame.outputs(np.array(i))
    joined = read_log(tmp_path / "phone.exray").join(read_log(tmp_path / "watch.exray"))
    pairs = [(a.id, b.id, int(a.outputs["output"].value), int(b.outputs["output"].value)) for a, b in joined]
    assert pairs == [("b", "b", 1, 0), ("c", "c", 2, 2), ("b", "b", 4, 3)]
    assert joined.only_left == ["a", "d"]
    assert joined.only_right == ["b", "x"] or joined.only_right == ["x", "b"]


def test_examples_have_numbers_for_numbers(write_log, tmp_path):
    tf = pytest.importorskip("tensorflow")
    images = write_log(3)
    assert read_log(tmp_path / "run.exray").write_examples(tmp_path / "out.tfrecord") == 3
    spec = {
        "exray/frame_id": tf.io.FixedLenFeature([], tf.string),
        "input/x": tf.io.FixedLenFeature([30], tf.float32),
        "raw/input": tf.io.FixedLenFeature([30], tf.int64),
        "span_ns/inference": tf.io.FixedLenFeature([], tf.int64),
    }
    for i, record in enumerate(tf.data.TFRecordDataset(str(tmp_path / "out.tfrecord"))):
        parsed = tf.io.parse_single_example(record, spec)
        assert parsed["exray/frame_id"].numpy() == str(i).encode()
        np.testing.assert_array_equal(parsed["input/x"], images[i])
        np.testing.assert_array_equal(parsed["raw/input"], images[i])


def test_a_frame_goes_through_its_example(write_log, tmp_path):
    tf = pytest.importorskip("tensorflow")
    write_log(1)
    (frame,) = read_log(tmp_path / "run.exray")
    # Another order on the wire, as protobuf writes maps.
    again = LoggedFrame.of_example(tf.train.Example.FromString(frame.serialized).SerializeToString())
    assert (again.id, again.time_ns, again.spans, again.device) == (frame.id, frame.time_ns, frame.spans, frame.device)
    np.testing.assert_array_equal(again.inputs["x"].value, frame.inputs["x"].value)


def test_inspect(write_log, tmp_path):
    write_log(3, model="ab" * 32)
    run = CliRunner()
    shown = run.invoke(app, ["inspect", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    for text in (
        "ab" * 32,
        "preprocess",
        "3 frames",
        "input x: float32 [30]".replace("input ", "inputs "),
        "written 3",
    ):
        assert text in shown.output
    one = run.invoke(app, ["inspect", str(tmp_path), "--frame", "1"])
    assert "sequence: 1" in one.output
    content = (tmp_path / "run.exray").read_bytes()
    (tmp_path / "run.exray").write_bytes(content[:-5])
    torn = run.invoke(app, ["inspect", str(tmp_path)])
    assert torn.exit_code == 2
    assert "was not closed" in torn.output
    assert "the file ends in a record" in torn.output
