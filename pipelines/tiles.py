"""The demo's data: which of nine photographs does a 32x32 tile come from?

The task is constructed: it needs no download, trains in seconds and, because colour and contrast carry most of
the answer, it fails the way real image models fail when an app swaps channels or scales its input differently.
`python -m edge_exray.pipelines.tiles --help` writes it from the shell.
The photographs ship inside the wheels of scikit-image and scikit-learn. Each is cut on a checkerboard: the
black cells are train tiles, the white cells eval tiles, so that no pixel is in both splits.
"""

import argparse
import collections
import dataclasses
import hashlib
import importlib.resources
import io
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

TILE_SIZE = 32
TILES_PER_CLASS = 100
SPLITS = ("train", "eval")

# Class name -> package that ships the photograph, file name. A class's label is its position here.
PHOTOGRAPHS = {
    "astronaut": ("skimage.data", "astronaut.png"),
    "chelsea": ("skimage.data", "chelsea.png"),
    "china": ("sklearn.datasets.images", "china.jpg"),
    "coffee": ("skimage.data", "coffee.png"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "hubble_deep_field": ("skimage.data", "hubble_deep_field.jpg"),
    "ihc": ("skimage.data", "ihc.png"),
    "retina": ("skimage.data", "retina.jpg"),
    "rocket": ("skimage.data", "rocket.jpg"),
}
CLASSES = tuple(PHOTOGRAPHS)


@dataclasses.dataclass(frozen=True)
class Tile:
    """One square of a photograph.

    Attributes:
        class_name: The photograph it was cut from.
        row: Row of its cell on the photograph's checkerboard.
        column: Column of its cell.
        pixels: uint8, shape [32, 32, 3], RGB.
    """

    class_name: str
    row: int
    column: int
    pixels: np.ndarray

    @property
    def tile_id(self) -> str:
        """The tile's stable name, for example `"coffee-r03-c11"`."""
        return f"{self.class_name}-r{self.row:02d}-c{self.column:02d}"

    @property
    def label(self) -> int:
        """Index of the class in `CLASSES`."""
        return CLASSES.index(self.class_name)

    @property
    def split(self) -> str:
        """`"train"` on the black cells of the checkerboard, `"eval"` on the white ones."""
        return SPLITS[(self.row + self.column) % 2]

    def png(self) -> bytes:
        """Returns the tile as a PNG file."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, format="PNG")
        return buffer.getvalue()


def make_tiles(split: str, *, seed: int = 0, tiles_per_class: int = TILES_PER_CLASS) -> list[Tile]:
    """Cuts the tiles of one split.

    Args:
        split: `"train"` or `"eval"`.
        seed: Decides which tiles of the larger photographs are taken, and the order of all tiles.
        tiles_per_class: Upper limit per class; the smallest photograph has fewer cells.

    Returns:
        The tiles in shuffled order; the same list for the same arguments.
    """

    def draw(tile: Tile) -> bytes:
        # A hash instead of a random generator: its order can never change with a numpy version.
        return hashlib.sha256(f"{seed}/{tile.tile_id}".encode()).digest()

    taken: list[Tile] = []
    for name in CLASSES:
        taken += sorted((t for t in _cut(name) if t.split == split), key=draw)[:tiles_per_class]
    return sorted(taken, key=draw)


def write_tfrecords(
    directory: str | os.PathLike[str], *, seed: int = 0, tiles_per_class: int = TILES_PER_CLASS
) -> None:
    """Writes both splits as `DIRECTORY/<split>/tiles.tfrecord`, the layout that ImportExampleGen is given.

    Each record is a tf.Example with `image/encoded` (PNG), `image/format`, `image/class/label`,
    `image/class/text` and `image/id`. The bytes are the same for the same arguments.

    Args:
        directory: Where the two split folders go; created when missing.
        seed: See `make_tiles`.
        tiles_per_class: See `make_tiles`.
    """
    import tensorflow as tf

    for split in SPLITS:
        with tempfile.TemporaryDirectory() as scratch:
            scratch_file = os.path.join(scratch, "tiles.tfrecord")
            with tf.io.TFRecordWriter(scratch_file) as writer:
                for tile in make_tiles(split, seed=seed, tiles_per_class=tiles_per_class):
                    writer.write(_example(tile))
            content = pathlib.Path(scratch_file).read_bytes()
        _write(pathlib.Path(directory, split, "tiles.tfrecord"), content)


def write_image_folder(
    directory: str | os.PathLike[str], *, split: str = "eval", seed: int = 0, tiles_per_class: int = TILES_PER_CLASS
) -> None:
    """Writes one split as a folder of images, `DIRECTORY/<class>/<tile id>.png`: the same tiles as the TFRecords.

    Args:
        directory: Where the class folders go; created when missing.
        split: `"train"` or `"eval"`.
        seed: See `make_tiles`.
        tiles_per_class: See `make_tiles`.
    """
    for tile in make_tiles(split, seed=seed, tiles_per_class=tiles_per_class):
        _write(pathlib.Path(directory, tile.class_name, f"{tile.tile_id}.png"), tile.png())


def count_classes(tiles: list[Tile]) -> dict[str, int]:
    """Returns the number of tiles per class name, in the order of `CLASSES`."""
    counts = collections.Counter(t.class_name for t in tiles)
    return {name: counts[name] for name in CLASSES}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the tiles to where the command line says."""
    parser = argparse.ArgumentParser(description="Write the demo's tiles.")
    parser.add_argument("--tfrecords", metavar="DIR", help="write DIR/train/tiles.tfrecord and DIR/eval/tiles.tfrecord")
    parser.add_argument("--images", metavar="DIR", help="write the eval tiles as DIR/<class>/<id>.png")
    args = parser.parse_args(argv)
    if not args.tfrecords and not args.images:
        parser.error("give --tfrecords DIR, --images DIR or both")
    if args.tfrecords:
        write_tfrecords(args.tfrecords)
    if args.images:
        write_image_folder(args.images)


def _cut(class_name: str) -> Iterator[Tile]:
    package, file_name = PHOTOGRAPHS[class_name]
    # The file itself, not skimage.data.NAME(): that may go to the network to check its cache.
    with (importlib.resources.files(package) / file_name).open("rb") as file, Image.open(file) as image:
        photograph = np.asarray(image.convert("RGB"))
    for row in range(photograph.shape[0] // TILE_SIZE):
        for column in range(photograph.shape[1] // TILE_SIZE):
            y, x = row * TILE_SIZE, column * TILE_SIZE
            yield Tile(class_name, row, column, photograph[y : y + TILE_SIZE, x : x + TILE_SIZE])


def _example(tile: Tile) -> bytes:
    import tensorflow as tf

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image/encoded": feature(tile.png()),
        "image/format": feature(b"png"),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[tile.label])),
        "image/class/text": feature(tile.class_name.encode()),
        "image/id": feature(tile.tile_id.encode()),
    }
    # A protobuf map is serialized in arbitrary order unless asked.
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file in one step; leaves it alone when it is the same: ImportExampleGen's cache key has its mtime."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # The leading dot hides an unfinished file from the pattern `<split>/*`.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
