"""CRC-32C, the checksum of TFRecord.

`google-crc32c` computes it with the processor's own instruction. Without it NumPy does: many equal pieces of the data
at once, a byte pair of each in a step, and then their checksums are combined.
"""

import functools
import math
from typing import Any

import numpy as np

try:
    import google_crc32c

    # Its pure Python twin is slower than what stands below.
    _native: Any = google_crc32c.extend if google_crc32c.implementation == "c" else None
except ImportError:
    _native = None

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_MASK_DELTA = 0xA282EAD8
_ONES = 0xFFFFFFFF
# Below this many bytes a loop in Python is faster than NumPy's calls.
_SMALL = 2**12
# Of so many pieces at once the states still fit a second-level cache.
_MAX_PIECES = 2**15
# What is checked in one go, so that memory stays bounded.
_BLOCK = 2**24


def crc32c(data: bytes | np.ndarray, crc: int = 0) -> int:
    """Returns the CRC-32C of data, or of earlier data with the checksum `crc` and this behind it.

    Args:
        data: Bytes, or a contiguous uint8 array.
        crc: The checksum so far.
    """
    if _native is not None:
        return _native(crc, data)
    return portable_crc32c(data, crc)


def portable_crc32c(data: bytes | np.ndarray, crc: int = 0) -> int:
    """Does what `crc32c` does, without `google-crc32c`."""
    if len(data) < _SMALL:
        table = _byte_table()
        state = crc ^ _ONES
        for byte in bytes(data):
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        return state ^ _ONES
    array = np.frombuffer(data, np.uint8)
    for start in range(0, len(array), _BLOCK):
        crc = _block_crc(array[start : start + _BLOCK], crc)
    return crc


def mask(crc: int) -> int:
    """Returns the checksum as TFRecord stores it, so that data with checksums in it keep good checksums."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ONES


def _block_crc(array: np.ndarray, crc: int) -> int:
    # As many pieces as steps, both powers of two, so that pairs of neighbours combine evenly.
    pieces = min(2 ** max(int(math.log2(len(array)) / 2 + 1), 1), _MAX_PIECES)
    length = len(array) // pieces & ~1
    if not length:
        return portable_crc32c(array.tobytes(), crc)
    body = array[: pieces * length]
    # One row a step: the next two bytes of every piece.
    steps = np.ascontiguousarray(body.view("<u2").reshape(pieces, -1).T)
    table, states = _pair_table(), np.zeros(pieces, np.uint32)
    # The state before the data is what it is before the first piece; the others start from nothing.
    states[0] = crc ^ _ONES
    index = np.empty(pieces, np.uint32)
    for row in steps:
        np.bitwise_and(states, 0xFFFF, out=index)
        np.bitwise_xor(index, row, out=index)
        np.right_shift(states, 16, out=states)
        np.bitwise_xor(states, table.take(index), out=states)
    while len(states) > 1:
        states = _shifted(states[0::2], length) ^ states[1::2]
        length *= 2
    rest = array[len(body) :].tobytes()
    return portable_crc32c(rest, int(states[0]) ^ _ONES)


@functools.cache
def _byte_table() -> list[int]:
    """State after each byte from the state 0."""
    table = []
    for state in range(256):
        for _ in range(8):
            state = (state >> 1) ^ (_POLYNOMIAL if state & 1 else 0)
        table.append(state)
    return table


@functools.cache
def _pair_table() -> np.ndarray:
    """State after each pair of bytes, [65536] uint32; the first byte is the lower one."""
    single = np.array(_byte_table(), np.uint32)
    pairs = np.arange(2**16, dtype=np.uint32)
    state = single[pairs & 0xFF] ^ (pairs >> 8)
    return single[state & 0xFF] ^ (state >> 8)


def _shifted(states: np.ndarray, zeros: int) -> np.ndarray:
    """Returns the states after so many more zero bytes: a linear map, applied byte by byte of the state."""
    tables = _zeros_tables(zeros)
    result = tables[0][states & 0xFF]
    for i in range(1, 4):
        result ^= tables[i][(states >> (8 * i)) & 0xFF]
    return result


@functools.lru_cache(maxsize=64)
def _zeros_tables(zeros: int) -> np.ndarray:
    """For each byte of a state, at each of its values, what it becomes after so many zero bytes, [4, 256] uint32."""
    if zeros == 1:
        single = np.array(_byte_table(), np.uint32)
        states = np.arange(256, dtype=np.uint32)[None] << (8 * np.arange(4, dtype=np.uint32)[:, None])
        return single[states & 0xFF] ^ (states >> 8)
    return _shifted(_zeros_tables(zeros // 2), zeros - zeros // 2)
