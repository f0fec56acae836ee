"""One pass over several runs of a tensor, compiled for this processor: several times as fast as NumPy's many passes.

Values are read as float32, which the models compute in, and summed in float64: the sums are those of NumPy in float64
but for the order of their terms. Importing this module takes numba; nothing is compiled before the first call, and what
an earlier process has compiled is taken from where numba keeps it.
"""

import functools
import gc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

# Two blocks of float32 and one of integers stay in the processor's first cache from one loop to the next.
_BLOCK = 2048
# A tile of values, what they are compared with and the outcome stay there, too.
_TILE = 1024

_MAGNITUDE = np.int32(0x7FFFFFFF)
_LEAST, _MOST = np.int32(-(2**31)), np.int32(2**31 - 1)


class Reference(NamedTuple):
    """What the pass finds about the reference values; see `Pass`."""

    square_sum: float
    min: float
    max: float
    clipped: float


class Pass(NamedTuple):
    """What the pass finds of one edge run; of no use when a value is NaN or infinite: then so is a sum of squares.

    Attributes:
        error_sum, error_square_sum, square_sum: Sums of e - r, (e - r)^2 and e^2.
        max_abs: Largest |e - r|, rounded to float32.
        min, max: Extremes of the real values.
        saturated: Stored values that equal one of the limits.
    """

    error_sum: float
    error_square_sum: float
    square_sum: float
    max_abs: float
    min: float
    max: float
    saturated: float


def compare(
    reference: np.ndarray,
    stored: Sequence[np.ndarray],
    single: np.ndarray | None,
    affine: tuple[np.float32, np.float32],
    limits: tuple[float, float],
    representable: tuple[float, float],
) -> tuple[Reference, list[Pass]]:
    """Compares the values of one run with those of up to three others, of which it is read but once.

    Args:
        reference: [N] float32 real values, N > 0.
        stored: At most two runs: [N] stored integers of 8 or 16 bits, of one dtype.
        single: One more run, [N] float32 real values; None for none.
        affine: Scale s and zero point z of the stored values q, which mean (q - z) * s.
        limits: Smallest and largest stored value.
        representable: Smallest and largest reference value that is not clipped, of float32.

    Returns:
        What there is to say of the reference, and of each of the other runs, `single` last.
    """
    dtype = stored[0].dtype if stored else np.dtype(np.int8)
    absent = np.zeros(0, dtype)
    first, second = [*stored, absent, absent][:2]
    third = np.zeros(0, np.float32) if single is None else single
    about, *found = _kernel(dtype)(reference, first, second, third, *affine, *limits, *representable)
    runs = (first.size, second.size, third.size)
    return Reference(*about), [Pass(*figures) for size, figures in zip(runs, found, strict=True) if size]


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
    runs = _array(single), _array(stored), _array(stored), _array(single)
    return _compiled(_compare, *runs, single, single, stored, stored, single, single)


@functools.cache
def _column_kernel(dtype: np.dtype) -> Callable[..., Any]:
    stored, mask = numba.from_dtype(dtype), numba.from_dtype(np.dtype(f"i{dtype.itemsize}"))
    return _compiled(_keep_constant, _array(stored, 2), _array(stored), mask[::1])


def _array(item: Any, ndim: int = 1) -> Any:
    # Arrays that may not be written to, or lie anywhere, are the general case: one kernel serves all.
    return numba.types.Array(item, ndim, "C", readonly=True, aligned=False)


def _compiled(function: Callable[..., Any], *types: Any) -> Callable[..., Any]:
    try:
        kernel = numba.njit([types], nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no folder that it may keep the code in
        kernel = numba.njit([types], nogil=True)(function)
    # What numba tried in vain while it inferred types lingers in cycles, with the frames of all callers. They may hold
    # views of a model's memory, and LiteRT does not run while there are any.
    gc.collect()
    return kernel


def _compare(reference, first, second, single, scale, zero_point, lowest, highest, low, high):  # type: ignore[no-untyped-def]
    real, error = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    low_key, high_key = _key_of(low), _key_of(high)
    squares = clipped = np.float64(0)
    keys = np.array([_MOST, _LEAST, _MOST, _LEAST], np.int32)
    # Of each run error_sum, error_square_sum and square_sum, and its largest difference; of the stored runs the
    # extremes and the number of saturated values.
    sums, largest = np.zeros((3, 3)), np.zeros(3, np.int32)
    spans, saturated = np.array([[highest, lowest], [highest, lowest]]), np.zeros(2, np.int64)
    for start in range(0, reference.size, _BLOCK):
        r = reference[start : start + _BLOCK]
        e, difference = real[: r.size], error[: r.size]
        squares += _square_sum(r)
        r_low, r_high = _span(r)
        keys[0], keys[1] = min(keys[0], r_low), max(keys[1], r_high)
        if r_low < low_key or r_high > high_key:
            clipped += _count_outside(r, low, high)
        if first.size:
            q = first[start : start + _BLOCK]
            _dequantize(q, scale, zero_point, e)
            _add(sums, largest, 0, r, e, difference)
            saturated[0] += _widen(spans, 0, q, lowest, highest)
        if second.size:
            q = second[start : start + _BLOCK]
            _dequantize(q, scale, zero_point, e)
            _add(sums, largest, 1, r, e, difference)
            saturated[1] += _widen(spans, 1, q, lowest, highest)
        if single.size:
            s = single[start : start + _BLOCK]
            _add(sums, largest, 2, r, s, difference)
            s_low, s_high = _span(s)
            keys[2], keys[3] = min(keys[2], s_low), max(keys[3], s_high)
    extremes = np.empty(4, np.float32)
    _dequantize(spans.ravel(), scale, zero_point, extremes)
    ends, most = _of_keys(keys), largest.view(np.float32)
    return (
        (squares, ends[0], ends[1], clipped),
        (sums[0, 0], sums[0, 1], sums[0, 2], most[0], extremes[0], extremes[1], saturated[0]),
        (sums[1, 0], sums[1, 1], sums[1, 2], most[1], extremes[2], extremes[3], saturated[1]),
        (sums[2, 0], sums[2, 1], sums[2, 2], most[2], ends[2], ends[3], 0),
    )


# The steps of `Quantization.dequantize`, so that equal values stay equal to the last bit.
@numba.njit(nogil=True)
def _dequantize(stored, scale, zero_point, real):  # type: ignore[no-untyped-def]
    for i in range(stored.size):
        real[i] = (np.float32(stored[i]) - zero_point) * scale


@numba.njit(nogil=True)
def _add(sums, largest, run, reference, edge, error):  # type: ignore[no-untyped-def]
    error_sum, error_squares, edge_squares = _sums(reference, edge, error)
    sums[run, 0] += error_sum
    sums[run, 1] += error_squares
    sums[run, 2] += edge_squares
    largest[run] = max(largest[run], _largest(error))


@numba.njit(nogil=True)
def _widen(spans, run, stored, lowest, highest):  # type: ignore[no-untyped-def]
    low, high = _stored_span(stored)
    spans[run, 0], spans[run, 1] = min(spans[run, 0], low), max(spans[run, 1], high)
    return _count_equal(stored, lowest, highest) if low == lowest or high == highest else np.int16(0)


# Terms may be added in any order, several at a time.
@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _sums(reference, edge, error):  # type: ignore[no-untyped-def]
    error_sum = error_squares = edge_squares = np.float64(0)
    for i in range(reference.size):
        e = np.float64(edge[i])
        difference = e - np.float64(reference[i])
        error_sum += difference
        error_squares += difference * difference
        edge_squares += e * e
        error[i] = np.float32(difference)
    return error_sum, error_squares, edge_squares


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def _square_sum(values):  # type: ignore[no-untyped-def]
    total = np.float64(0)
    for i in range(values.size):
        total += np.float64(values[i]) * np.float64(values[i])
    return total


@numba.njit(nogil=True)
def _stored_span(stored):  # type: ignore[no-untyped-def]
    low = high = stored[0]
    for i in range(stored.size):
        low = stored[i] if stored[i] < low else low
        high = stored[i] if stored[i] > high else high
    return low, high


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
def _key_of(value):  # type: ignore[no-untyped-def]
    return _key(np.array([value], np.float32).view(np.int32)[0])


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
