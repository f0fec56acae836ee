"""One pass over two runs of a tensor, compiled for this processor: several times as fast as NumPy's many passes.

Values are read as float32, which the models compute in, and summed in float64: the sums are those of NumPy in float64
but for the order of their terms. Importing this module takes numba; nothing is compiled before the first call, and what
an earlier process has compiled is taken from where numba keeps it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

# Two blocks of float32 and one of integers stay in the processor's first cache from one loop to the next.
_BLOCK = 2048
# A tile of values, what they are compared with and the outcome stay there, too.
_TILE = 1024

_MAGNITUDE = np.int32(0x7FFFFFFF)
_LEAST, _MOST = np.int32(-(2**31)), np.int32(2**31 - 1)


class Pass(NamedTuple):
    """What the pass finds; of no use when a value is NaN or infinite: then so is a sum of squares.

    Attributes:
        error_sum, error_square_sum, reference_square_sum, edge_square_sum: See `comparison.Comparison`.
        max_abs: Largest |e - r|, rounded to float32.
        reference_min, reference_max, edge_min, edge_max: Extremes of the real values.
        saturated: Stored values that equal one of the limits.
        clipped: Reference values out of the range.
    """

    error_sum: float
    error_square_sum: float
    reference_square_sum: float
    edge_square_sum: float
    max_abs: float
    reference_min: float
    reference_max: float
    edge_min: float
    edge_max: float
    saturated: int
    clipped: int


def compare(
    reference: np.ndarray,
    edge: np.ndarray,
    affine: tuple[np.float32, np.float32],
    limits: tuple[float, float],
    representable: tuple[float, float],
) -> Pass:
    """Compares the values of two runs.

    Args:
        reference: [N] float32 real values, N > 0.
        edge: [N] float32 real values, or stored integers of 8 or 16 bits.
        affine: Scale s and zero point z of the edge values q, which mean (q - z) * s.
        limits: Smallest and largest stored value; infinite for float32.
        representable: Smallest and largest reference value that is not clipped, of float32.
    """
    return Pass(*_kernel(edge.dtype)(reference, edge, *affine, *limits, *representable))


def keep_constant(rows: np.ndarray, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Finds the columns that hold one value in all rows.

    Args:
        rows: [N, C] array.
        index: [K] int64 columns to look at.
        value: [K] the value of each, of the dtype of `rows`.

    Returns:
        [K] booleans.
    """
    expected = np.zeros(rows.shape[1], rows.dtype)
    expected[index] = value
    # As wide as the values, so that as many fit into the processor's lanes.
    same = np.zeros(rows.shape[1], f"i{rows.itemsize}")
    same[index] = 1
    _column_kernel(rows.dtype)(rows, expected, same)
    return same[index] != 0


@functools.cache
def _kernel(dtype: np.dtype) -> Callable[..., Any]:
    single, stored = numba.float32, numba.from_dtype(dtype)
    return _compiled(_compare, _array(single), _array(stored), single, single, stored, stored, single, single)


@functools.cache
def _column_kernel(dtype: np.dtype) -> Callable[..., Any]:
    stored, mask = numba.from_dtype(dtype), numba.from_dtype(np.dtype(f"i{dtype.itemsize}"))
    return _compiled(_keep_constant, _array(stored, 2), _array(stored), mask[::1])


def _array(item: Any, ndim: int = 1) -> Any:
    # Arrays that may not be written to, or lie anywhere, are the general case: one kernel serves all.
    return numba.types.Array(item, ndim, "C", readonly=True, aligned=False)


def _compiled(function: Callable[..., Any], *types: Any) -> Callable[..., Any]:
    try:
        return numba.njit([types], nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no folder that it may keep the code in
        return numba.njit([types], nogil=True)(function)


def _compare(reference, edge, scale, zero_point, lowest, highest, low, high):  # type: ignore[no-untyped-def]
    real, error = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    bounds = np.array([(lowest - zero_point) * scale, (highest - zero_point) * scale, low, high], np.float32)
    saturated_low, saturated_high, low_key, high_key = _keys(bounds)
    error_sum = error_squares = reference_squares = edge_squares = np.float64(0)
    keys = np.array([0, _MOST, _LEAST, _MOST, _LEAST], np.int32)
    saturated = clipped = 0
    for start in range(0, reference.size, _BLOCK):
        r, q = reference[start : start + _BLOCK], edge[start : start + _BLOCK]
        e, difference = real[: r.size], error[: r.size]
        _dequantize(q, scale, zero_point, e)
        block = _sums(r, e, difference)
        error_sum += block[0]
        error_squares += block[1]
        reference_squares += block[2]
        edge_squares += block[3]
        (r_low, r_high), (e_low, e_high) = _span(r), _span(e)
        keys[0] = max(keys[0], _largest(difference))
        keys[1], keys[2] = min(keys[1], r_low), max(keys[2], r_high)
        keys[3], keys[4] = min(keys[3], e_low), max(keys[4], e_high)
        if e_low == saturated_low or e_high == saturated_high:
            saturated += _count_equal(q, lowest, highest)
        if r_low < low_key or r_high > high_key:
            clipped += _count_outside(r, low, high)
    found = _of_keys(keys)
    sums = (error_sum, error_squares, reference_squares, edge_squares)
    return (*sums, found[0], found[1], found[2], found[3], found[4], saturated, clipped)


# The steps of `Quantization.dequantize`, so that equal values stay equal to the last bit.
@numba.njit(nogil=True)
def _dequantize(stored, scale, zero_point, real):  # type: ignore[no-untyped-def]
    for i in range(stored.size):
        real[i] = (np.float32(stored[i]) - zero_point) * scale


# Terms may be added in any order, several at a time.
@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _sums(reference, edge, error):  # type: ignore[no-untyped-def]
    error_sum = error_squares = reference_squares = edge_squares = np.float64(0)
    for i in range(reference.size):
        r, e = np.float64(reference[i]), np.float64(edge[i])
        difference = e - r
        error_sum += difference
        error_squares += difference * difference
        reference_squares += r * r
        edge_squares += e * e
        error[i] = np.float32(difference)
    return error_sum, error_squares, reference_squares, edge_squares


# Extremes of floats are found as those of integer keys in the same order: only there does LLVM compare several at once.
@numba.njit(nogil=True)
def _key(bits):  # type: ignore[no-untyped-def]
    return np.int32(bits ^ _MAGNITUDE) if bits < 0 else np.int32(bits)


@numba.njit(nogil=True)
def _span(values):  # type: ignore[no-untyped-def]
    bits = values.view(np.int32)
    low, high = _MOST, _LEAST
    for i in range(bits.size):
        key = _key(bits[i])
        low = key if key < low else low
        high = key if key > high else high
    return low, high


@numba.njit(nogil=True)
def _largest(values):  # type: ignore[no-untyped-def]
    bits = values.view(np.int32)
    largest = np.int32(0)
    for i in range(bits.size):
        key = np.int32(bits[i] & _MAGNITUDE)
        largest = key if key > largest else largest
    return largest


@numba.njit(nogil=True)
def _keys(values):  # type: ignore[no-untyped-def]
    bits = values.view(np.int32)
    return _key(bits[0]), _key(bits[1]), _key(bits[2]), _key(bits[3])


@numba.njit(nogil=True)
def _of_keys(keys):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        keys[i] = _key(keys[i])  # its own inverse
    return keys.view(np.float32)


@numba.njit(nogil=True)
def _count_equal(stored, lowest, highest):  # type: ignore[no-untyped-def]
    # A block has few enough values for the narrow sum, which more lanes of the processor add up.
    count = np.int16(0)
    for i in range(stored.size):
        count = np.int16(count + np.int16((stored[i] == lowest) | (stored[i] == highest)))
    return count


@numba.njit(nogil=True)
def _count_outside(values, low, high):  # type: ignore[no-untyped-def]
    count = np.int32(0)
    for i in range(values.size):
        count = np.int32(count + np.int32((values[i] < low) | (values[i] > high)))
    return count


def _keep_constant(rows, expected, same):  # type: ignore[no-untyped-def]
    channels = rows.shape[1]
    values = rows.reshape(-1)
    # Many short rows are compared as one long one, which keeps the processor's lanes busy.
    copies = max(1, _TILE // channels)
    width = copies * channels
    wanted, kept = np.empty(width, expected.dtype), np.empty(width, same.dtype)
    for start in range(0, width, channels):
        wanted[start : start + channels], kept[start : start + channels] = expected, same
    whole = values.size // width * width
    for start in range(0, whole, width):
        _keep_equal(values[start : start + width], wanted, kept)
        if not kept.any():
            break
    for start in range(0, width, channels):
        same &= kept[start : start + channels]
    for start in range(whole, values.size, channels):
        _keep_equal(values[start : start + channels], expected, same)


@numba.njit(nogil=True)
def _keep_equal(values, expected, same):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        same[i] &= values[i] == expected[i]
