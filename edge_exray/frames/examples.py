"""Reading stored examples from the formats that edge-exray accepts.

An *example* is a mapping of feature name to a 1-D (TFRecord, image folder) or n-D (NumPy files) array.
"""

import glob
import gzip
import hashlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from edge_exray import errors
from edge_exray.models.messages import first_line
from edge_exray.monitor import example as wire

Example = Mapping[str, np.ndarray]

# What TFRecord stores around each record: its length and two checksums.
_RECORD_FRAME = 16
_BLOCK = 2**20

_NUMPY_SUFFIXES = (".npz", ".npy")
_IMAGE_SUFFIXES = {".png": b"png", ".jpg": b"jpeg", ".jpeg": b"jpeg"}


def decode_example(serialized: bytes) -> dict[str, np.ndarray]:
    """Decodes a serialized tf.Example.

    Args:
        serialized: The bytes of a `tf.train.Example`.

    Returns:
        Feature name to 1-D array: object array of bytes, float32 or int64. A feature without any list is left out.

    Raises:
        DataError: The bytes are no tf.Example, or one without features.
    """
    try:
        found = wire.decode(serialized)
    except wire.WireError as e:
        raise errors.DataError(f"the record is not a tf.Example: {e}") from e
    if not found:  # what most other bytes that parse at all turn out to be
        raise errors.DataError("the record is not a tf.Example: it has no features")
    return {name: _bytes_array(map(bytes, v)) if isinstance(v, list) else v for name, v in found.items()}


def read_examples(path: str | pathlib.Path) -> Iterator[Example]:
    """Reads the examples of a file or folder, in a stable order; see `try_examples`.

    Raises:
        DataError: Also for the first record that cannot be decoded.
    """
    return decoded(try_examples(path))


def try_examples(path: str | pathlib.Path) -> Iterator[Example | errors.DataError]:
    """Reads the examples of a file or folder, in a stable order, and goes on after a record that cannot be decoded.

    Args:
        path: An `.npz` (one array per feature) or `.npy` (a single unnamed input: the feature `"input"`) whose
            first axis is the frame; a TFRecord file (a pattern with `*` is allowed; `.gz` is GZIP) or a folder
            of such files; or a folder of images `CLASS/*.png|jpg`, which gives the features `image/encoded`,
            `image/format`, `image/class/text`, `image/class/label` (index of the sorted class names) and
            `image/id`.

    Yields:
        One example a frame; in the place of a record that cannot be decoded, the error that tells why.

    Raises:
        DataError: Nothing readable is there, the arrays disagree in their number of frames, or a file is damaged, so
            that nobody knows how many records are lost.
    """
    path = str(path)
    if path.endswith(_NUMPY_SUFFIXES):
        check_examples(path)
        return _read_numpy(path)
    files = _files(path)
    if any(pathlib.Path(f).suffix.lower() in _IMAGE_SUFFIXES for f in files):
        return _read_images(path, files)
    return try_tfrecords(files)


def check_examples(path: str | pathlib.Path) -> None:
    """Makes sure that there is something for `try_examples` to read, without reading it.

    Raises:
        DataError: There is not.
    """
    place = pathlib.Path(path)
    if str(path).endswith(_NUMPY_SUFFIXES):
        found = place.is_file()
    elif place.is_dir():
        found = any(p.is_file() for p in place.rglob("*"))
    else:
        found = bool(glob.glob(str(path)))
    if not found:
        raise _no_examples(str(path))


def read_tfrecords(files: Iterable[str]) -> Iterator[Example]:
    """Reads tf.Examples from TFRecord files, `.gz` being GZIP.

    Raises:
        DataError: A file is damaged or holds something else; it is named.
    """
    return decoded(try_tfrecords(files))


def try_tfrecords(files: Iterable[str]) -> Iterator[Example | errors.DataError]:
    """Does what `read_tfrecords` does, but yields the error of a record that cannot be decoded in its place.

    Raises:
        DataError: A file is damaged; it is named.
    """
    for place, record in read_records(files):
        yield try_example(place, record)


def try_example(place: str, record: bytes) -> Example | errors.DataError:
    """Decodes a record of `read_records`; returns the error, with the place, when it is no tf.Example."""
    try:
        return decode_example(record)
    except errors.DataError as e:
        return errors.DataError(e.reason, place)


def read_records(files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Reads the raw records of TFRecord files, `.gz` being GZIP.

    Yields:
        The place of each record, `"FILE#NUMBER"` with numbers from 0, and its bytes.

    Raises:
        DataError: A file is damaged; it is named.
    """
    import tensorflow as tf

    for file in files:
        is_compressed = file.endswith(".gz")
        records = tf.data.TFRecordDataset(file, "GZIP" if is_compressed else "")
        size = 0
        try:
            for number, record in enumerate(records):
                content = record.numpy()
                size += len(content) + _RECORD_FRAME
                yield f"{file}#{number}", content
        except tf.errors.OpError as e:
            raise errors.DataError(f"{file} is not a readable TFRecord file: {first_line(e)}") from e
        if is_compressed and _is_cut_off(file, size):
            raise errors.DataError(f"{file} is not a readable TFRecord file: its compressed content is cut off")


def _is_cut_off(file: str, size: int) -> bool:
    """Returns whether a gzip file ends early, which some versions of TensorFlow take for its end.

    Args:
        file: Path of the file.
        size: How many bytes were read of its content.
    """
    import tensorflow as tf

    with tf.io.gfile.GFile(file, "rb") as stream:
        # The length stands in the last four bytes (RFC 1952), of the last member if there are several.
        stream.seek(-4, os.SEEK_END)
        if int.from_bytes(stream.read(4), "little") == size % 2**32:
            return False
        stream.seek(0)
        try:
            with gzip.GzipFile(fileobj=stream) as content:
                while content.read(_BLOCK):
                    pass
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return True
    return False


def fingerprint(example: Example) -> str:
    """Returns a stable id of the content of an example: 16 hexadecimal digits of its SHA-256.

    Shapes do not count: tf.Examples have none, and a frame keeps its id when it is stored in another format.
    """
    digest = hashlib.sha256()
    for name in sorted(example):
        value = np.asarray(example[name])
        digest.update(f"{name}\0{value.dtype}\0{value.size}\0".encode())
        for part in value.ravel() if value.dtype == object else [np.ascontiguousarray(value).tobytes()]:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()[:16]


def decoded(examples: Iterable[Example | errors.DataError]) -> Iterator[Example]:
    """Yields the examples; raises the first error that stands in the place of one."""
    for example in examples:
        if isinstance(example, errors.DataError):
            raise example
        yield example


def _files(path: str) -> list[str]:
    found = pathlib.Path(path)
    if found.is_dir():
        visible = (p for p in found.rglob("*") if not any(part.startswith(".") for part in p.relative_to(found).parts))
        files = sorted(str(p) for p in visible if p.is_file())
    else:
        files = sorted(glob.glob(path))
    if not files:
        raise _no_examples(path)
    return files


def _no_examples(path: str) -> errors.DataError:
    what = "the folder is empty" if pathlib.Path(path).is_dir() else "there is no such file"
    return errors.DataError(
        f"no examples at {path}: {what}; give an .npz, .npy or TFRecord file, or a folder of images"
    )


def _bytes_array(values: Iterable[bytes]) -> np.ndarray:
    # np.array(list of bytes) would make a fixed-width dtype and cut trailing zero bytes off.
    values = list(values)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _read_numpy(path: str) -> Iterator[Example]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"input": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise errors.DataError(f"{path} is not a readable NumPy file: {e}") from e
    lengths = {name: array.shape[0] if array.ndim else None for name, array in arrays.items()}
    if not arrays or len(set(lengths.values())) != 1 or None in lengths.values():
        raise errors.DataError(f"{path}: all arrays need the frame as first axis and the same length, got {lengths}")
    for i in range(next(iter(lengths.values())) or 0):
        yield {name: array[i] for name, array in arrays.items()}


def _read_images(root: str, files: list[str]) -> Iterator[Example]:
    images = [pathlib.Path(f) for f in files]
    strange = [p for p in images if p.suffix.lower() not in _IMAGE_SUFFIXES]
    if strange:
        raise errors.DataError(f"{root} mixes images with other files ({strange[0]}): remove them or give TFRecords")
    classes = sorted({p.parent.name for p in images})
    for path in images:
        yield {
            "image/encoded": _bytes_array([path.read_bytes()]),
            "image/format": _bytes_array([_IMAGE_SUFFIXES[path.suffix.lower()]]),
            "image/class/text": _bytes_array([path.parent.name.encode()]),
            "image/class/label": np.array([classes.index(path.parent.name)], np.int64),
            "image/id": _bytes_array([f"{path.parent.name}/{path.name}".encode()]),
        }
