"""Tensors in a log: the stored bytes, and in features beside them what they mean; see `schemas/edge_log.md`."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.tensors import Quantization
from edge_exray.monitor import example, records

ROLES = ("raw", "input", "output", "layer")
STRING = "string"
STRING_KINDS = "OSU"
"""Kinds of NumPy dtypes that are logged as strings."""
_BFLOAT16 = "bfloat16"
_DTYPES = {
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", _BFLOAT16, "float32", "float64", "complex64", "complex128"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class LoggedTensor:
    """A tensor of a record.

    Attributes:
        dtype: As `schemas/edge_log.md` names it; NumPy's name but for `bfloat16` and `string`.
        shape: Its shape.
        quantization: None when it is not quantised.
        value: The stored values: of bfloat16 as uint16, of strings an object array of bytes. Read-only. None when only
            the hash was logged.
        sha256: Hash of the value's bytes, of strings of all elements one after another; None when not logged.
    """

    dtype: str
    shape: tuple[int, ...]
    quantization: Quantization | None
    value: np.ndarray | None = dataclasses.field(repr=False)
    sha256: str | None = None

    def real(self) -> np.ndarray | None:
        """Returns the values that the stored ones stand for: dequantised to float32 where they are quantised."""
        if self.value is None or self.quantization is None:
            return self.value
        return self.quantization.dequantize(self.value)


def dtype_name(dtype: np.dtype) -> str:
    """Returns the name of a NumPy dtype in a log.

    Raises:
        TypeError: Tensors of it cannot be logged.
    """
    if dtype.kind in STRING_KINDS:
        return STRING
    if dtype.name not in _DTYPES:
        raise TypeError(f"tensors of {dtype} cannot be logged")
    return dtype.name


def strings(array: np.ndarray) -> list[bytes]:
    """Returns the elements of an array of texts or bytes, in C order.

    Raises:
        TypeError: An element is neither.
    """
    elements = array.ravel().tolist()
    if not all(isinstance(e, bytes | str) for e in elements):
        raise TypeError("an array of objects that are no texts or bytes cannot be logged")
    return [example.utf8(e) if isinstance(e, str) else e for e in elements]


@functools.lru_cache(maxsize=4096)
def description(
    role: str, name: str, dtype: np.dtype, shape: tuple[int, ...], quantization: Quantization | None = None
) -> bytes:
    """Encodes the features that tell what the value of a tensor means; frames repeat them, so they are kept.

    Raises:
        TypeError: Tensors of the dtype cannot be logged.
    """
    encoded = example.feature(f"{role}.dtype/{name}", dtype_name(dtype)) + example.feature(
        f"{role}.shape/{name}", shape
    )
    if quantization is not None:
        encoded += example.feature(f"{role}.scale/{name}", quantization.scale)
        encoded += example.feature(f"{role}.zero_point/{name}", quantization.zero_point)
        if len(quantization.scale) > 1:
            encoded += example.feature(f"{role}.axis/{name}", quantization.axis)
    return encoded


def sha256(parts: Sequence[records.Part]) -> str:
    """Returns the hash of bytes one after another, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(records.view(part))
    return digest.hexdigest()


def split_key(key: str) -> tuple[str, str, str] | None:
    """Takes a feature's key apart into role, property (`""`: the value) and name; None of what is no tensor's."""
    head, slash, name = key.partition("/")
    role, _, what = head.partition(".")
    return (role, what, name) if slash and role in ROLES else None


def decode_tensors(features: Mapping[str, Any], place: str) -> dict[str, dict[str, LoggedTensor]]:
    """Collects the tensors of a record.

    Args:
        features: Key to values, as `example.decode` returns them.
        place: Where the record stands, for messages.

    Returns:
        Role to name to tensor, each in the order of the record.

    Raises:
        DataError: What is told of a tensor does not fit its bytes.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {role: {} for role in ROLES}
    for key, values in features.items():
        parts = split_key(key)
        if parts:
            role, what, name = parts
            found[role].setdefault(name, {})[what] = values
    return {
        role: {name: _decode_tensor(fields, f"{place}: {role}/{name}") for name, fields in tensors.items()}
        for role, tensors in found.items()
    }


def _decode_tensor(fields: dict[str, Any], place: str) -> LoggedTensor:
    try:
        dtype = str(fields["dtype"][0], "utf-8")
        shape = tuple(int(n) for n in fields["shape"])
        quantization = None
        if "scale" in fields:
            axis = int(fields["axis"][0]) if "axis" in fields else 0
            quantization = Quantization(tuple(map(float, fields["scale"])), tuple(map(int, fields["zero_point"])), axis)
        codec = str(fields["codec"][0], "utf-8") if "codec" in fields else None
        digest = str(fields["sha256"][0], "utf-8") if "sha256" in fields else None
        value = _decode_value(fields[""], dtype, shape, codec) if "" in fields else None
    except (KeyError, IndexError, ValueError, TypeError) as e:
        raise errors.DataError(f"{place} cannot be decoded ({type(e).__name__}: {e}); its writer is wrong") from e
    return LoggedTensor(dtype, shape, quantization, value, digest)


def _decode_value(values: list[memoryview], dtype: str, shape: tuple[int, ...], codec: str | None) -> np.ndarray:
    if dtype == STRING:
        array = np.empty(len(values), object)
        array[:] = [bytes(v) for v in values]
        return array.reshape(shape)
    if dtype not in _DTYPES:
        raise ValueError(f"there is no dtype {dtype}")
    (content,) = values
    if codec == "zstd":
        content = memoryview(zstandard().ZstdDecompressor().decompress(content))
    elif codec is not None:
        raise ValueError(f"there is no codec {codec}")
    return np.frombuffer(content, np.dtype("uint16" if dtype == _BFLOAT16 else dtype).newbyteorder("<")).reshape(shape)


def zstandard() -> Any:
    """Imports the library.

    Raises:
        DataError: It is not installed.
    """
    with contextlib.suppress(ImportError):
        import zstandard

        return zstandard
    raise errors.DataError("tensors compressed with zstd need the library: pip install 'edge-exray[monitor]'")
