"""TFRecord files: framing of records, and reading them when parts are damaged; see `schemas/edge_log.md`."""

import dataclasses
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np

from edge_exray.monitor import crc, example

_HEAD = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
FORMAT_VERSION = 1
"""Of `schemas/edge_log.md`."""
OVERHEAD = _HEAD.size + _CHECKSUM.size
"""Bytes around the data of a record."""
MAX_DATA = 2**31 - 1
"""What protobuf reads at most."""

_BLOCK = 2**20
_LONG = 2**16

Part = bytes | np.ndarray
"""Bytes, or a contiguous uint8 array."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """A stretch of a file that holds no whole record.

    Attributes:
        path: The file.
        offset: Where it begins, in bytes.
        size: How many bytes of the file were left out.
        reason: What is wrong there.
        is_torn_tail: Whether a record is cut off by the end of the file: what a killed writer leaves.
    """

    path: str
    offset: int
    size: int
    reason: str
    is_torn_tail: bool = False

    def __str__(self) -> str:
        return f"{self.path}, byte {self.offset}: {self.reason}, {self.size} bytes left out"


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A whole record.

    Attributes:
        path: The file.
        offset: Where the record begins in it, in bytes.
        data: What it holds.
        features: The decoded Example, see `example.decode`.
    """

    path: str
    offset: int
    data: bytes
    features: dict[str, example.Values]

    @property
    def place(self) -> str:
        """File and offset, for messages."""
        return f"{self.path}, byte {self.offset}"


def view(part: Part) -> memoryview:
    """Returns the bytes as what the system's calls take."""
    return part.data if isinstance(part, np.ndarray) else memoryview(part)


def frame(features: Sequence[Part]) -> list[Part]:
    """Makes a record of the encoded features of an Example.

    Args:
        features: Pieces that follow each other; they are not joined.

    Returns:
        The pieces of the record.

    Raises:
        OverflowError: The Example is larger than protobuf reads.
    """
    head = example.example_head(sum(len(part) for part in features))
    size = len(head) + sum(len(part) for part in features)
    if size > MAX_DATA:
        raise OverflowError(f"a record of {size} bytes is larger than protobuf reads")
    checksum = crc.crc32c(head)
    for part in features:
        checksum = crc.crc32c(part, checksum)
        if len(part) > _LONG:
            # Another thread waits for the interpreter's lock up to its switch interval, unless it is given up.
            time.sleep(0)
    length = struct.pack("<Q", size)
    start = _HEAD.pack(size, crc.mask(crc.crc32c(length)))
    return [start + head, *features, _CHECKSUM.pack(crc.mask(checksum))]


def read(path: str) -> Iterator[Record | Damage]:
    """Reads a file, one record in memory at a time, and goes on behind what is damaged.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            found = read_at(file, path, offset, size)
            if isinstance(found, Record):
                offset += OVERHEAD + len(found.data)
                yield found
                continue
            next_offset = _next_record(file, path, offset, size)
            is_tail = found.is_torn_tail and next_offset is None
            end = size if next_offset is None else next_offset
            yield dataclasses.replace(found, size=end - offset, is_torn_tail=is_tail)
            offset = end


def read_at(file: BinaryIO, path: str, offset: int, size: int) -> Record | Damage:
    """Reads the record at an offset; the size of a damage is not known then, and 0.

    Args:
        file: The open file.
        path: Its name.
        offset: Where the record begins.
        size: Of the file.
    """
    file.seek(offset)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return Damage(path, offset, 0, "the file ends in the head of a record", is_torn_tail=True)
    length, checksum = _HEAD.unpack(head)
    if crc.mask(crc.crc32c(head[:8])) != checksum:
        return Damage(path, offset, 0, "the length of a record has a wrong checksum")
    if offset + OVERHEAD + length > size:
        return Damage(path, offset, 0, f"the file ends in a record of {length} bytes", is_torn_tail=True)
    data = file.read(length)
    if crc.mask(crc.crc32c(data)) != _CHECKSUM.unpack(file.read(_CHECKSUM.size))[0]:
        return Damage(path, offset, 0, f"a record of {length} bytes has a wrong checksum")
    try:
        features = example.decode(data)
    except example.WireError as e:
        return Damage(path, offset, 0, f"a record of {length} bytes is not a tf.Example ({e})")
    if "exray/kind" not in features:
        return Damage(path, offset, 0, f"a record of {length} bytes is not of an edge log: it has no exray/kind")
    return Record(path, offset, data, features)


def _next_record(file: BinaryIO, path: str, damaged: int, size: int) -> int | None:
    """Returns where the next whole record begins behind a damaged one, or None."""

    def is_whole(offset: int) -> bool:
        return isinstance(read_at(file, path, offset, size), Record)

    file.seek(damaged)
    head = file.read(_HEAD.size)
    if len(head) == _HEAD.size:
        length, checksum = _HEAD.unpack(head)
        if crc.mask(crc.crc32c(head[:8])) == checksum:
            # Its length is right: it most probably ends where it says, and what it holds may look like records.
            behind = damaged + OVERHEAD + length
            if behind == size:
                return None
            if behind < size and is_whole(behind):
                return behind
    return _search(file, damaged + 1, size, is_whole)


def _search(file: BinaryIO, start: int, size: int, is_whole: Callable[[int], bool]) -> int | None:
    for begin in range(start, size - OVERHEAD + 1, _BLOCK):
        file.seek(begin)
        # Blocks overlap by a head, so that none is missed between them.
        block = np.frombuffer(file.read(_BLOCK + _HEAD.size - 1), np.uint8)
        count = len(block) - _HEAD.size + 1
        # Lengths are below 2**31.
        possible = block[3 : 3 + count] < 0x80
        for i in range(4, 8):
            possible &= block[i : i + count] == 0
        for position in np.flatnonzero(possible).tolist():
            length, checksum = _HEAD.unpack_from(block.data, position)
            if begin + position + OVERHEAD + length > size:
                continue
            if crc.mask(crc.crc32c(block[position : position + 8].tobytes())) != checksum:
                continue
            if is_whole(begin + position):
                return begin + position
    return None
