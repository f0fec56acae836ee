"""The wire format of `tf.train.Example`, so that a log needs no protobuf; see `schemas/edge_log.md`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Values = list[memoryview] | np.ndarray
"""Of one feature: bytes, or a 1-D float32 or int64 array."""

# Wire types; that of `_LEN` is preceded by its length.
_VARINT, _FIXED_64, _LEN, _FIXED_32 = 0, 1, 2, 5
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
        return bytes_list(key, [utf8(v) if isinstance(v, str) else v for v in listed])
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
    return _message(1, _message(1, utf8(key)) + _message(2, content))


def bytes_head(key: str, size: int) -> bytes:
    """Returns what stands before the value in a feature of one value of so many bytes: big ones are never joined."""
    value = _field(1, size)
    values = _field(_BYTES, len(value) + size)
    content = _field(2, len(values) + len(value) + size)
    name = _message(1, utf8(key))
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
    for number, wire, content in _fields(memoryview(data)):
        if (number, wire) != (1, _LEN):
            continue
        for entry_number, entry_wire, entry in _fields(content):
            if (entry_number, entry_wire) == (1, _LEN):
                key, values = _decode_entry(entry)
                features.pop(key, None)
                if values is not None:
                    features[key] = values
    return features


def _decode_entry(entry: memoryview) -> tuple[str, Values | None]:
    key = ""
    kind, values = 0, None
    for number, wire, content in _fields(entry):
        if (number, wire) == (1, _LEN):
            try:
                key = str(content, "utf-8")
            except UnicodeDecodeError as e:
                raise WireError("the key of a feature is no text") from e
        elif (number, wire) == (2, _LEN):
            for found, list_wire, encoded in _fields(content):
                if list_wire != _LEN or found not in _DECODERS:
                    continue
                decoded = _DECODERS[found](encoded)
                # Of one kind they follow each other, as protobuf has it; of several the last one counts.
                values = decoded if found != kind else _joined(values, decoded)
                kind = found
    return key, values


def _joined(values: Any, more: Any) -> Values:
    return values + more if isinstance(more, list) else np.concatenate([values, more])


def _decode_bytes(content: memoryview) -> list[memoryview]:
    return [value for number, wire, value in _fields(content) if (number, wire) == (1, _LEN)]


def _decode_floats(content: memoryview) -> np.ndarray:
    # Packed, or each a field of its own: either way the numbers follow each other.
    packed = [bytes(value) for number, wire, value in _fields(content) if number == 1 and wire in (_LEN, _FIXED_32)]
    if any(len(value) % 4 for value in packed):
        raise WireError("a list of floats has a length that is none")
    return np.frombuffer(b"".join(packed), "<f4").astype(np.float32)


def _decode_ints(content: memoryview) -> np.ndarray:
    arrays = []
    for number, wire, value in _fields(content):
        if number == 1 and wire in (_VARINT, _LEN):
            arrays.append(_read_varints(memoryview(varint(value)) if wire == _VARINT else value))
    return np.concatenate(arrays) if arrays else np.array([], np.int64)


_DECODERS: dict[int, Callable[[memoryview], Values]] = {
    _BYTES: _decode_bytes,
    _FLOATS: _decode_floats,
    _INTS: _decode_ints,
}


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


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yields number, wire type and content of each field: a view, or the number of a varint."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise WireError("there is no field 0")
        if wire == _VARINT:
            value, position = _read_varint(data, position)
            yield number, wire, value
            continue
        if wire == _LEN:
            size, position = _read_varint(data, position)
        elif wire in (_FIXED_64, _FIXED_32):
            size = 8 if wire == _FIXED_64 else 4
        else:
            raise WireError(f"there is no wire type {wire}")
        if position + size > end:
            raise WireError("a field is longer than what it stands in")
        yield number, wire, data[position : position + size]
        position += size


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    if position < len(data) and data[position] < 0x80:  # most are short, and there are two or three in each field
        return data[position], position + 1
    value = shift = 0
    for i in range(position, min(position + _MAX_VARINT, len(data))):
        byte = data[i]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % _WORD, i + 1
        shift += 7
    raise WireError("a number does not end")
