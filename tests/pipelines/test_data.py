import io

import numpy as np
import pytest
from PIL import Image

from edge_exray.frames import examples, functions
from edge_exray.models.tensors import TensorSpec
from edge_exray.pipelines import tiles

MODULES = {
    "healthy": "edge_exray.pipelines.demo_module",
    "bgr": "edge_exray.pipelines.faults.bgr",
    "unit_scale": "edge_exray.pipelines.faults.unit_scale",
    "calibration_scale": "edge_exray.pipelines.faults.calibration_scale",
}
IMAGE = {"image": TensorSpec("image", (-1, 32, 32, 3), np.dtype(np.float32))}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    tiles.write_tfrecords(directory)
    return directory


def test_about_a_hundred_tiles_a_class_in_both_splits():
    for split in tiles.SPLITS:
        counts = tiles.count_classes(tiles.make_tiles(split))
        assert len(counts) == 9
        assert counts.pop("chelsea") == 63
        assert set(counts.values()) == {100}


def test_neighbouring_cells_are_in_different_splits():
    cells = {split: {(t.class_name, t.row, t.column) for t in tiles.make_tiles(split)} for split in tiles.SPLITS}
    for split, other in (tiles.SPLITS, tiles.SPLITS[::-1]):
        for name, row, column in cells[split]:
            beside = {(name, row, column), (name, row + 1, column), (name, row, column + 1)}
            assert not (beside - {(name, row, column)}) & cells[split]
            assert (name, row, column) not in cells[other]


def test_pixels_are_those_of_the_photograph():
    tile = next(t for t in tiles.make_tiles("eval") if t.class_name == "china")
    import sklearn.datasets

    china = sklearn.datasets.load_sample_image("china.jpg")
    y, x = tile.row * 32, tile.column * 32
    np.testing.assert_array_equal(tile.pixels, china[y : y + 32, x : x + 32])


def test_the_same_bytes_every_time_and_untouched_when_unchanged(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for directory in (one, other):
        tiles.write_tfrecords(directory, tiles_per_class=4)
    for split in tiles.SPLITS:
        file = other / split / "tiles.tfrecord"
        assert file.read_bytes() == (one / split / "tiles.tfrecord").read_bytes()
        assert [p.name for p in file.parent.iterdir()] == ["tiles.tfrecord"]
    before = file.stat().st_mtime_ns
    tiles.write_tfrecords(other, tiles_per_class=4)
    assert file.stat().st_mtime_ns == before
    tiles.write_tfrecords(other, tiles_per_class=4, seed=1)
    assert file.read_bytes() != (one / split / "tiles.tfrecord").read_bytes()


def test_records_hold_the_tiles(written):
    records = list(examples.read_examples(str(written / "eval")))
    expected = tiles.make_tiles("eval")
    assert len(records) == len(expected)
    for record, tile in zip(records, expected, strict=True):
        with Image.open(io.BytesIO(record["image/encoded"][0])) as image:
            np.testing.assert_array_equal(np.asarray(image), tile.pixels)
        assert record["image/format"][0] == b"png"
        assert record["image/class/label"].tolist() == [tile.label]
        assert record["image/class/text"][0].decode() == tiles.CLASSES[tile.label]
        assert record["image/id"][0].decode() == tile.tile_id


def test_the_image_folder_holds_the_same_tiles_and_labels(tmp_path):
    tiles.write_image_folder(tmp_path, tiles_per_class=3)
    from_folder = {r["image/encoded"][0]: r["image/class/label"].item() for r in examples.read_examples(str(tmp_path))}
    assert from_folder == {t.png(): t.label for t in tiles.make_tiles("eval", tiles_per_class=3)}


def test_command_line_writes_both_forms(tmp_path):
    tiles.main(["--tfrecords", str(tmp_path / "records"), "--images", str(tmp_path / "images")])
    assert (tmp_path / "records/train/tiles.tfrecord").is_file()
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 863
    with pytest.raises(SystemExit):
        tiles.main([])


@pytest.mark.parametrize("name", MODULES)
def test_user_modules_do_what_their_names_say(name, written):
    example = next(examples.read_examples(str(written / "eval")))
    user = functions.load_functions(MODULES[name])
    frame = user.frame(example, IMAGE, IMAGE)
    tile = tiles.make_tiles("eval")[0]
    rgb = tile.pixels.astype(np.float32)
    assert (frame.id, frame.label) == (tile.tile_id, tile.label)
    np.testing.assert_allclose(frame.reference["image"][0], rgb / 127.5 - 1, atol=1e-6)
    fed = {"bgr": rgb[..., ::-1] / 127.5 - 1, "unit_scale": rgb / 255}.get(name, rgb / 127.5 - 1)
    np.testing.assert_allclose(frame.edge["image"][0], fed, atol=1e-6)
    calibration = rgb / 255 if name == "calibration_scale" else rgb / 127.5 - 1
    np.testing.assert_allclose(user.calibration_inputs(example, IMAGE)["image"][0], calibration, atol=1e-6)
