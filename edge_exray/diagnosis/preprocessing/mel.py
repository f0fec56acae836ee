"""The usual mel filter banks."""

import dataclasses
import functools
import itertools
import math

import numpy as np

# Hz per mel below 1 kHz, and the factor from one mel to the next above, of Slaney's Auditory Toolbox (1998).
_SLANEY_STEP, _SLANEY_FACTOR = 200 / 3, math.log(6.4) / 27


@dataclasses.dataclass(frozen=True)
class MelBank:
    """Triangular filters at equal distances on a mel scale.

    Attributes:
        bands: Number of filters.
        low, high: Where the first begins and the last ends, in Hz.
        rate: Sample rate in Hz.
        scale: `"HTK"` (2595 log10(1 + f / 700)) or `"Slaney"` (linear to 1 kHz, then logarithmic).
    """

    bands: int
    low: float
    high: float
    rate: float
    scale: str

    def __str__(self) -> str:
        return f"{self.scale}'s scale from {self.low:g} to {self.high:g} Hz at {self.rate:g} Hz"

    def corners(self) -> np.ndarray:
        """Returns where in Hz the triangles begin, peak and end: each at the peaks of its neighbours."""
        if self.scale == "HTK":
            mel = np.linspace(math.log1p(self.low / 700), math.log1p(self.high / 700), self.bands + 2)
            return 700 * np.expm1(mel)
        low, high = (
            f / _SLANEY_STEP if f < 1000 else 15 + math.log(f / 1000) / _SLANEY_FACTOR for f in (self.low, self.high)
        )
        mel = np.linspace(low, high, self.bands + 2)
        return np.where(mel < 15, mel * _SLANEY_STEP, 1000 * np.exp(_SLANEY_FACTOR * (mel - 15)))

    def widths(self) -> np.ndarray:
        """Returns the width in Hz of each triangle."""
        corners = self.corners()
        return corners[2:] - corners[:-2]

    @functools.lru_cache(maxsize=1024)  # noqa: B019 (a bank is a small constant)
    def filters(self, size: int) -> np.ndarray:
        """Returns the weights of the bins of a transform of `size` samples, `[bins, bands]`, of peak 1."""
        frequencies = np.fft.rfftfreq(size, 1 / self.rate)[:, None]
        corners = self.corners()
        low, centre, high = corners[:-2], corners[1:-1], corners[2:]
        return np.maximum(0, np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre)))


@functools.cache
def usual_banks(bands: int) -> tuple[MelBank, ...]:
    """Returns the filter banks that toolkits make by default, and some that people ask them for."""
    found = []
    for low, rate, scale in itertools.product(
        (0, 20, 60, 80, 125), (8000, 16000, 22050, 44100, 48000), ("Slaney", "HTK")
    ):
        for high in sorted({rate / 2, 3800, 4000, 7500, 7600, 8000}):
            if high <= rate / 2:
                found.append(MelBank(bands, low, high, rate, scale))
    return tuple(found)
