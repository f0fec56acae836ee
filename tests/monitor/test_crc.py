import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_exray.monitor import crc


# The last ones are from RFC 3720, appendix B.4.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_known_values(data, expected):
    assert crc.portable_crc32c(data) == expected
    assert crc.crc32c(data) == expected


@given(st.integers(0, 40_000), st.integers(0, 40_000), st.integers(0, 2**32 - 1))
def test_the_portable_one_is_the_native_one_in_pieces_of_any_size(first, second, seed):
    google_crc32c = pytest.importorskip("google_crc32c")
    data = np.random.default_rng(seed).integers(0, 256, first + second, dtype=np.uint8)
    start = crc.portable_crc32c(data[:first])
    assert crc.portable_crc32c(data[first:], start) == google_crc32c.value(data.tobytes())


def test_more_than_one_block_at_once(monkeypatch):
    google_crc32c = pytest.importorskip("google_crc32c")
    monkeypatch.setattr(crc, "_BLOCK", 2**15)
    data = np.random.default_rng(0).integers(0, 256, 3 * 2**15 + 11, dtype=np.uint8)
    assert crc.portable_crc32c(data) == google_crc32c.value(data.tobytes())


def test_an_array_is_taken_as_its_bytes():
    data = np.arange(100, dtype=np.uint8)
    assert crc.crc32c(data) == crc.crc32c(data.tobytes()) == crc.portable_crc32c(data)
