"""The wire format of `tf.train.Example`, so that a log needs no protobuf; see `schemas/edge_log.md`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Values = list[memoryview] | np.ndarray
"""Of one feature: bytes, or a 1-D float32 or int64 array."""

_LEN = 2  # wire type of what is preceded by its length
_BYTES, _FLOATS, _INTS = 1, 2, 3  # field numbers of the lists in a Feature
_MAX_VARINT = 10
# Up to here a loop is as fast.
_FEW = 32
_WORD = 2**64


class WireError(ValueError):
    """Bytes are no tf.Example."""


def varint(value: int) -> bytes:
    """Returns an integer below 2**64 as base-128 varint; negative ones as two's complement of 64 bits."""
    value %= _WORD
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, size: int) -> bytes:
    return varint(number << 3 | _LEN) + varint(size)


def _message(number: int, content: bytes) -> bytes:
    return _field(number, len(content)) + content


def utf8(text: str) -> bytes:
    """Encodes a text of an app; what is none in UTF-8 becomes `?`, because protobuf would refuse the record."""
    return text.encode("utf-8", "replace")


def feature(key: str, values: bytes | str | int | float | Sequence[bytes] | Sequence[int] | Sequence[float]) -> bytes:
    """Encodes one feature, the map entry in Features.

    Args:
        key: Name of the feature.
        values: Bytes or text, one or several; or one or several numbers, floats if any is one. An empty sequence is one
            of integers.

    Raises:
        OverflowError: An integer does not fit int64.
        TypeError, ValueError: A value is none of these.
    """
    listed: list[Any] = [values] if isinstance(values, bytes | str | int | float) else list(values)
    if listed and isinstance(listed[0], bytes | str):
        return bytes_list(key, [v.encode() if isinstance(v, str) else v for v in listed])
    if any(isinstance(v, float | np.floating) for v in listed):
        return numbers(key, np.array(listed, np.float32))
    return numbers(key, np.array(listed, np.int64))


def numbers(key: str, values: np.ndarray) -> bytes:
    """Encodes a feature of numbers, a 1-D array: floats as float32, others as int64."""
    if values.dtype.kind == "f":
        return _entry(key, _message(_FLOATS, _message(1, values.astype("<f4").tobytes())))
    return _entry(key, _message(_INTS, _message(1, _varints(values.astype(np.int64)))))


def _varints(values: np.ndarray) -> bytes:
    rest = values.astype(np.int64).view(np.uint64)
    if rest.size <= _FEW:
        return b"".join(map(varint, rest.tolist()))
    # Row by row the groups of seven bits of each number, of which as many count as it needs.
    groups = np.stack([(rest >> np.uint64(7 * i)) & np.uint64(0x7F) for i in range(_MAX_VARINT)], 1).astype(np.uint8)
    lengths = _MAX_VARINT - np.argmax(groups[:, ::-1] != 0, 1)
    lengths[rest == 0] = 1
    position = np.arange(_MAX_VARINT)
    groups[position < lengths[:, None] - 1] |= 0x80
    return groups[position < lengths[:, None]].tobytes()


def bytes_list(key: str, values: Sequence[bytes]) -> bytes:
    """Encodes a feature of bytes, which may be none."""
    return _entry(key, _message(_BYTES, b"".join(_message(1, value) for value in values)))


def _entry(key: str, content: bytes) -> bytes:
    return _message(1, _message(1, key.encode()) + _message(2, content))


def bytes_head(key: str, size: int) -> bytes:
    """Returns what stands before the value in a feature of one value of so many bytes: big ones are never joined."""
    value = _field(1, size)
    values = _field(_BYTES, len(value) + size)
    content = _field(2, len(values) + len(value) + size)
    name = _message(1, key.encode())
    return _field(1, len(name) + len(content) + len(values) + len(value) + size) + name + content + values + value


def example_head(size: int) -> bytes:
    """Returns what stands before the features of an Example, which are of so many bytes together."""
    return _field(1, size)


def decode(data: bytes | memoryview) -> dict[str, Values]:
    """Decodes a serialized tf.Example.

    Args:
        data: Its bytes.

    Returns:
        Key to values, in the order on the wire: views of `data`, or a 1-D float32 or int64 array. A feature without any
        list is left out. A key that stands twice has the values of the last, as protobuf has it.

    Raises:
        WireError: The bytes are no tf.Example.
    """
    features: dict[str, Values] = {}
    for number, content in _fields(memoryview(data)):
        if number != 1 or isinstance(content, int):
            continue
        for entry_number, entry in _fields(content):
            if entry_number == 1 and not isinstance(entry, int):
                key, values = _decode_entry(entry)
                if values is not None:
                    features[key] = values
    return features


def _decode_entry(entry: memoryview) -> tuple[str, Values | None]:
    key = ""
    values: Values | None = None
    for number, content in _fields(entry):
        if isinstance(content, int):
            continue
        if number == 1:
            try:
                key = str(content, "utf-8")
            except UnicodeDecodeError as e:
                raise WireError("the key of a feature is no text") from e
        elif number == 2:
            for kind, values_content in _fields(content):
                if isinstance(values_content, int):
                    continue
                if kind == _BYTES:
                    values = [v for n, v in _fields(values_content) if n == 1 and not isinstance(v, int)]
                elif kind == _FLOATS:
                    values = _decode_floats(values_content)
                elif kind == _INTS:
                    values = _decode_ints(values_content)
    return key, values


def _decode_floats(content: memoryview) -> np.ndarray:
    # Packed, or each a field of its own of four bytes: either way the numbers follow each other.
    packed = []
    for number, value in _fields(content):
        if number != 1 or isinstance(value, int) or len(value) % 4:
            raise WireError("a list of floats has a length that is none")
        packed.append(bytes(value))
    return np.frombuffer(b"".join(packed), "<f4").astype(np.float32)


def _decode_ints(content: memoryview) -> np.ndarray:
    arrays = []
    for number, value in _fields(content):
        if number == 1:
            packed = memoryview(varint(value)) if isinstance(value, int) else value
            arrays.append(_read_varints(packed))
    return np.concatenate(arrays) if arrays else np.array([], np.int64)


def _read_varints(packed: memoryview) -> np.ndarray:
    if len(packed) <= _FEW:
        values, position = [], 0
        while position < len(packed):
            one, position = _read_varint(packed, position)
            values.append(one)
        return np.array(values, np.uint64).view(np.int64)
    content = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(content < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if not len(ends) or ends[-1] != len(content) - 1 or np.max(ends - starts) >= _MAX_VARINT:
        raise WireError("a number does not end")
    shifts = np.arange(len(content)) - np.repeat(starts, ends - starts + 1)
    groups = (content & 0x7F).astype(np.uint64) << (7 * shifts).astype(np.uint64)
    return np.bitwise_or.reduceat(groups, starts).view(np.int64)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yields number and content of each field: a view, or the number of a varint."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position)
        wire = tag & 7
        if wire == 0:
            value, position = _read_varint(data, position)
            yield tag >> 3, value
            continue
        if wire == _LEN:
            size, position = _read_varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise WireError(f"there is no wire type {wire}")
        if position + size > end:
            raise WireError("a field is longer than what it stands in")
        yield tag >> 3, data[position : position + size]
        position += size


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    for i in range(position, min(position + _MAX_VARINT, len(data))):
        byte = data[i]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % _WORD, i + 1
        shift += 7
    raise WireError("a number does not end")
