"""A mergeable sketch of how a non-negative figure is distributed over frames."""

import dataclasses
import math

import ddsketch

RELATIVE_ACCURACY = 0.01
"""Largest error of a quantile, relative to its value."""

_MAPPING = ddsketch.LogarithmicMapping(RELATIVE_ACCURACY)


@dataclasses.dataclass
class QuantileSketch:
    """Counts of values in bins of logarithmic width (DDSketch: Masson, Rim and Lee, VLDB 2019).

    Unlike sketches that compress what they have seen (t-digest, KLL), counts in fixed bins merge into the same sketch
    in any order and any split. The number of bins grows with the logarithm of the range: 230 for a factor of 100.

    Attributes:
        bins: Index of the bin to the number of values in it.
        zeros: Number of values that are zero.
    """

    bins: dict[int, int] = dataclasses.field(default_factory=dict)
    zeros: int = 0

    def add(self, value: float) -> None:
        """Adds a value that is finite and not negative."""
        if value <= _MAPPING.min_possible:
            self.zeros += 1
        else:
            bin_ = _MAPPING.key(value)
            self.bins[bin_] = self.bins.get(bin_, 0) + 1

    def merge(self, other: "QuantileSketch") -> None:
        """Adds what `other` has seen."""
        self.zeros += other.zeros
        for bin_, count in other.bins.items():
            self.bins[bin_] = self.bins.get(bin_, 0) + count

    def quantile(self, q: float) -> float:
        """Returns the value below which a share `q` of the values lies; NaN when there are none."""
        sketch = ddsketch.DDSketch(RELATIVE_ACCURACY)
        if self.zeros:
            sketch.add(0.0, self.zeros)
        for bin_, count in self.bins.items():
            sketch.add(_MAPPING.value(bin_), count)
        value = sketch.get_quantile_value(q)
        return math.nan if value is None else float(value)
