"""How sure a figure of some frames is: confidence intervals, and how many frames a decision takes.

The bounds are one-sided: each of them holds with the confidence by itself. A model that is beyond a limit therefore
passes with a probability of at most 1 - confidence, and one within the limit fails with at most the same: exactly so
for a share, nearly for the others. An interval covers the figure with 2 confidence - 1, as in tests of equivalence
(Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987).
"""

import dataclasses
import enum
import functools
import math
from typing import Protocol

import numpy as np

# More frames than that are no advice.
_MOST_FRAMES = 10_000_000

_RESAMPLES = 2000
_SEED = 20210418


class Estimate(Protocol):
    """A figure that is known from some frames only."""

    @property
    def value(self) -> float:
        """The figure on these frames."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Returns a lower and an upper bound, each of which holds with `confidence`."""

    def on(self, frames: float) -> "Estimate":
        """Returns the estimate that as many frames would give if the figure stayed what it is."""

    @property
    def frames(self) -> float:
        """The number of frames."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of the frames, with the exact interval of Clopper and Pearson (Biometrika 26, 1934).

    Attributes:
        count: Frames that have the property; a fraction only in `on`.
        frames: All frames, at least one.
    """

    count: float
    frames: float

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.count / self.frames

    def interval(self, confidence: float) -> tuple[float, float]:
        """Returns the quantiles of two beta distributions; see `Estimate.interval`."""
        from scipy import special

        rest = self.frames - self.count
        low = float(special.betaincinv(self.count, rest + 1, 1 - confidence)) if self.count else 0.0
        high = float(special.betaincinv(self.count + 1, rest, confidence)) if rest else 1.0
        return low, high

    def p_beyond(self, limit: float) -> float:
        """Returns the probability of as many frames or more if the share were `limit`: the exact binomial test."""
        from scipy import special

        return float(special.betainc(self.count, self.frames - self.count + 1, limit)) if self.count else 1.0

    def on(self, frames: float) -> "Share":
        """See `Estimate.on`."""
        return Share(self.value * frames, frames)


@dataclasses.dataclass(frozen=True)
class PairedDrop:
    """Drop of a share from one model to another on the same frames: (lost - gained) / frames.

    Interval and test are those of the score statistic of Tango (Statistics in Medicine 17, 1998), which agree with each
    other and hold when no frame changes. Their level is that of the normal distribution: with a confidence of 0.95 and
    150 frames, a drop at a limit of 0.02 passes with a probability of 4 to 5 %, and fails with 6 to 9 %.

    Attributes:
        lost: Frames that only the first model gets right; a fraction only in `on`.
        gained: Frames that only the second model gets right.
        frames: All frames, at least one.
    """

    lost: float
    gained: float
    frames: float

    @property
    def value(self) -> float:
        """The drop, in [-1, 1]; negative when the second model is better."""
        return (self.lost - self.gained) / self.frames

    def interval(self, confidence: float) -> tuple[float, float]:
        """Returns the drops at which the score statistic is the quantile of `confidence`; see `Estimate.interval`."""
        from scipy import optimize, special

        z = float(special.ndtri(confidence))

        def beyond(drop: float, side: float) -> float:
            return self.lost - self.gained - self.frames * drop - side * z * self._deviation(drop)

        def bound(side: float) -> float:
            # A hair beside the drop itself, where the statistic is 0 whatever its deviation.
            start = self.value - side * 1e-9
            end = -side
            if abs(self.value - end) <= 1e-9:
                return end
            return float(optimize.brentq(beyond, *sorted((start, end)), args=(side,)))

        return bound(1.0), bound(-1.0)

    def p_beyond(self, limit: float) -> float:
        """Returns the p-value of the score test against a drop of at most `limit`."""
        from scipy import special

        excess = self.lost - self.gained - self.frames * limit
        deviation = self._deviation(limit)
        if not deviation:
            return 0.0 if excess > 0 else 1.0
        return float(special.ndtr(-excess / deviation))

    def p_equal(self) -> float:
        """Returns the two-sided p-value of the exact test of McNemar (Psychometrika 12, 1947) for no difference."""
        from scipy import special

        changed = self.lost + self.gained
        return min(1.0, 2 * float(special.bdtr(min(self.lost, self.gained), changed, 0.5))) if changed else 1.0

    def on(self, frames: float) -> "PairedDrop":
        """See `Estimate.on`."""
        factor = frames / self.frames
        return PairedDrop(self.lost * factor, self.gained * factor, frames)

    def _deviation(self, drop: float) -> float:
        """Standard deviation of lost - gained if the drop were this, with the most likely share of gained frames."""
        n = self.frames
        b = -self.lost - self.gained + (2 * n - self.lost + self.gained) * drop
        c = -self.gained * drop * (1 - drop)
        gained = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        return math.sqrt(max(n * (2 * gained + drop * (1 - drop)), 0.0))


@dataclasses.dataclass(frozen=True)
class NormalizedError:
    """RMSE over all frames and over a range, with a percentile bootstrap over frames (Efron and Tibshirani, 1993).

    Attributes:
        frame_errors: RMSE of each frame; infinite where one side is not finite.
        span: The range that the errors are measured in.
    """

    frame_errors: np.ndarray
    span: float

    @property
    def value(self) -> float:
        """The normalised RMSE; infinite when there are errors and no range."""
        return float(self._normalized(np.mean(np.square(self.frame_errors))))

    @property
    def frames(self) -> float:
        """The number of frames."""
        return len(self.frame_errors)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Returns quantiles of the figure over resampled frames, the same on every run; see `Estimate.interval`."""
        if not math.isfinite(self.value):
            return self.value, self.value
        low, high = np.quantile(self._resampled, [1 - confidence, confidence])
        return float(low), float(high)

    def on(self, frames: float) -> "Estimate":
        """See `Estimate.on`."""
        return _Stretched(self, frames)

    @functools.cached_property
    def _resampled(self) -> np.ndarray:
        # Sorted, because parallel workers store frames in any order.
        squares = np.sort(np.square(self.frame_errors))
        random = np.random.default_rng(_SEED)
        means = [squares[random.integers(squares.size, size=squares.size)].mean() for _ in range(_RESAMPLES)]
        return self._normalized(np.array(means))

    def _normalized(self, mean_square: np.ndarray | np.floating) -> np.ndarray:
        if self.span:
            return np.sqrt(mean_square) / self.span
        return np.where(np.asarray(mean_square) > 0, math.inf, 0.0)


@dataclasses.dataclass(frozen=True)
class _Stretched:
    """An estimate on another number of frames: the error of a mean falls with the root of their number."""

    base: Estimate
    frames: float

    @property
    def value(self) -> float:
        return self.base.value

    def interval(self, confidence: float) -> tuple[float, float]:
        factor = math.sqrt(self.base.frames / self.frames)
        low, high = self.base.interval(confidence)
        return self.value + (low - self.value) * factor, self.value + (high - self.value) * factor

    def on(self, frames: float) -> "Estimate":
        return dataclasses.replace(self, frames=frames)


class Side(enum.Enum):
    """Where a figure lies, as far as the frames tell."""

    WITHIN = "within"
    BEYOND = "beyond"
    UNDECIDED = "undecided"


def side(estimate: Estimate, limit: float, confidence: float) -> Side:
    """Tells on which side of a limit a figure lies: both bounds must lie there.

    A limit of 0 asks for something that never happens, which no number of frames shows; it is kept when it does not
    happen on these frames.
    """
    low, high = estimate.interval(confidence)
    if high <= limit or (limit == 0 and estimate.value <= 0):
        return Side.WITHIN
    return Side.UNDECIDED if low <= limit else Side.BEYOND


def needed_frames(estimate: Estimate, limit: float, confidence: float) -> int | None:
    """Returns how many frames would decide what these do not, if the figure stays what it is.

    A figure may lie so near the limit that hardly any number does. Then it is the number that makes the figure known to
    half the limit, or twice as well as now; None where no sensible number does that either, as for a limit of 0.
    """
    tolerance = min(limit, estimate.interval(confidence)[1] - estimate.value) / 2

    def enough(frames: int) -> bool:
        larger = estimate.on(frames)
        known = larger.interval(confidence)[1] - larger.value <= tolerance
        return known or side(larger, limit, confidence) is not Side.UNDECIDED

    least = most = math.ceil(estimate.frames)
    while not enough(most):
        least, most = most, 2 * most
        if most > _MOST_FRAMES:
            return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most
