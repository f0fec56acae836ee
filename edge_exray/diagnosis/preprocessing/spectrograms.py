"""Finds out what an app does differently to a spectrogram.

Axes, hop and lag are found on the ranks of the values, which a logarithm, a power or a gain leave alone; then come the
compression of the values, the scale of each bin and what is normalised over a whole clip.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import fitting, transforms
from edge_exray.diagnosis.preprocessing.hypothesis import Change, Hypothesis, Pair
from edge_exray.diagnosis.preprocessing.mel import usual_banks

# Factor after the natural logarithm, what it makes, and its code.
_LOGARITHMS = (
    (1.0, "natural logarithm", "np.log({})"),
    (1 / math.log(10), "log10", "np.log10({})"),
    (10 / math.log(10), "decibels of power (10 log10)", "10 * np.log10({})"),
    (20 / math.log(10), "decibels of magnitude (20 log10)", "20 * np.log10({})"),
    (1 / math.log(2), "log2", "np.log2({})"),
    (2.0, "natural logarithm of the square", "2 * np.log({})"),
    (0.5, "natural logarithm of the root", "0.5 * np.log({})"),
)
# What is added to, or the least of, values before their logarithm.
_EPSILONS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_EXPONENTIALS = (
    ("natural logarithm", "np.exp(x)", lambda x: np.exp(x)),
    ("log10", "10 ** x", lambda x: 10**x),
    ("decibels of power", "10 ** (x / 10)", lambda x: 10 ** (x / 10)),
    ("decibels of magnitude", "10 ** (x / 20)", lambda x: 10 ** (x / 20)),
    ("log(1 + x)", "np.expm1(x)", lambda x: np.expm1(x)),
)
# Spectrograms of 16-bit integers are larger by this, or by its square.
_INT16 = 32768.0
# Of the usual hops of 5, 8, 10, 12.5, 16 and 20 ms.
_HOP_RATIOS = (0.4, 0.5, 0.625, 0.75, 0.8, 1.25, 4 / 3, 1.6, 2.0, 2.5)
# By how much scales of all bins must beat one scale for all.
_WORTH_OF_BINS = 5
# What ranks the candidates: this many clips, and for hops, this many bins.
_CLIPS, _BINS = 4, 40
# The share of a clip in which both sides must overlap.
_OVERLAP = 0.3


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """Spectrograms `[clips, frames, bins]` that some changes make, and their ranks; NaN where unknown."""

    changes: tuple[Change, ...]
    values: np.ndarray
    ranks: np.ndarray

    def then(self, change: Change, values: np.ndarray) -> "_Candidate":
        return _Candidate((*self.changes, change), values, self.ranks)

    def moved(self, change: Change, move: Callable[[np.ndarray], np.ndarray]) -> "_Candidate":
        return _Candidate((*self.changes, change), move(self.values), move(self.ranks))


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Finds what an app does differently to a spectrogram.

    Args:
        pairs: Values of shape `[frames, bins]`, and any axes of length 1: linear, logarithmic or normalised.

    Returns:
        The best explanation first; empty when both sides agree or nothing explains the difference.
    """
    reference, edge, used = fitting.stack(pairs)
    if not used or fitting.agree(reference, edge):
        return []
    axes = [axis for axis, length in enumerate(reference.shape[1:]) if length != 1]
    squeezed = (len(reference), *(reference.shape[1 + axis] for axis in axes))
    reference, edge = reference.reshape(squeezed), edge.reshape(squeezed)
    if reference.ndim != 3 or edge.min() == edge.max() or reference.min() == reference.max():
        return []
    shape = used[0].reference.shape
    start = _Candidate((), reference, _ranks(reference))
    ranks = _ranks(edge)
    laid_out = _best([start, *_layouts(start, shape, axes)], ranks, 2)
    finalists = _best([*laid_out, *_hops(laid_out[0], ranks, axes[0])], ranks, 4)
    placed = [p for one in finalists for p in _placed(one, ranks, axes[0])]
    found: list[tuple[tuple[Change, ...], float]] = []
    for one in placed:
        for valued in _valued(one, edge, shape, axes):
            found.append((valued.changes, fitting.unexplained(valued.values, edge)))
    found += transforms.explain(used, reference, edge)
    return fitting.rank(found, fitting.unexplained(reference, edge), fitting.noise_of(edge))


def _layouts(candidate: _Candidate, shape: tuple[int, ...], axes: list[int]) -> Iterator[_Candidate]:
    """Yields orders of the axes that an app may feed into a buffer of the same size."""
    swap = f"np.swapaxes(x, {axes[0]}, {axes[1]})"
    code = swap if shape[axes[0]] == shape[axes[1]] else f"{swap}.reshape(x.shape)"
    change = Change("transposed", "time and frequency axes transposed", code)
    yield candidate.moved(change, lambda x: np.swapaxes(x, 1, 2).reshape(x.shape))
    change = Change("bin_order", "frequencies from high to low", f"np.flip(x, {axes[1]})")
    yield candidate.moved(change, lambda x: x[:, :, ::-1])


def _hops(candidate: _Candidate, ranks: np.ndarray, axis: int) -> list[_Candidate]:
    """Returns frames that follow each other faster or more slowly, at the ratios that agree best."""
    frames, bins = candidate.values.shape[1:]
    if frames < 8:
        return []
    thin = slice(None, _CLIPS), slice(None), slice(None, None, -(-bins // _BINS))
    scored = []
    for ratio in (*np.geomspace(1 / 3, 3, 100), *_HOP_RATIOS):
        at = np.arange(frames) * ratio
        at = at[at <= frames - 1]
        _, score = _correlate(_at(candidate.ranks[thin], at), ranks[thin])
        scored.append((-score, float(ratio), at))
    found = []
    for _, ratio, at in sorted(scored, key=lambda item: item[:2])[:2]:
        code = (
            f"scipy.ndimage.map_coordinates(x, [i * {ratio:.4g} if a == {axis} else i "
            "for a, i in enumerate(np.indices(x.shape))], order=1)"
        )
        change = Change("hop_length", f"approximately, a hop of {ratio:.3g} times the expected length", code)
        found.append(candidate.moved(change, functools.partial(_at, at=at)))
    return found


def _at(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns the frames at fractional places, by straight lines; NaN after the last place."""
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, x.shape[1] - 1)
    share = (at - low)[:, None]
    y = np.full(x.shape, np.nan)
    y[:, : len(at)] = x[:, low] * (1 - share) + x[:, high] * share
    return y


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value within its clip, of mean 0 and variance 1."""
    from scipy import stats

    ranks = stats.rankdata(values.reshape(len(values), -1), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    return (ranks / np.maximum(ranks.std(axis=1, keepdims=True), 1e-9)).reshape(values.shape)


def _correlate(values: np.ndarray, edge: np.ndarray) -> tuple[int, float]:
    """Returns the lag in frames at which the ranks agree best, and their R2 there."""
    from scipy import fft

    values = np.nan_to_num(values)
    frames = edge.shape[1]
    size = fft.next_fast_len(2 * frames, real=True)
    a, b = (fft.rfft(side, size, axis=1) for side in (values, edge))
    cross = fft.irfft((b * np.conj(a)).sum(axis=(0, 2)), size)
    lags = np.arange(size)
    lags = np.where(lags > size // 2, lags - size, lags)
    have = np.append(0, np.cumsum((values**2).sum(axis=(0, 2))))
    want = np.append(0, np.cumsum((edge**2).sum(axis=(0, 2))))
    usable = np.abs(lags) <= (1 - _OVERLAP) * frames
    lags, cross = lags[usable], cross[usable]
    power = np.where(lags >= 0, have[frames - np.maximum(lags, 0)], have[-1] - have[np.maximum(-lags, 0)])
    kept = np.where(lags >= 0, want[-1] - want[np.maximum(lags, 0)], want[frames - np.maximum(-lags, 0)])
    score = np.where(cross > 0, cross**2 / np.maximum(power * kept, 1e-9), 0)
    best = int(np.argmax(cross**2 / np.maximum(power * want[-1], 1e-9) * (cross > 0)))
    return int(lags[best]), float(min(score[best], 1.0))


def _best(candidates: list[_Candidate], ranks: np.ndarray, count: int) -> list[_Candidate]:
    """Returns the candidates whose ranks correlate best with the edge input's at any lag."""
    scored = []
    for candidate in candidates:
        _, score = _correlate(candidate.ranks[:_CLIPS], ranks[:_CLIPS])
        scored.append((math.log(1 - score + 1e-6) + math.log(3) * len(candidate.changes), candidate))
    return [candidate for _, candidate in sorted(scored, key=lambda item: item[0])[:count]]


def _placed(candidate: _Candidate, ranks: np.ndarray, axis: int) -> Iterator[_Candidate]:
    """Yields a candidate where it is, and at the lag that fits."""
    yield candidate
    x = candidate.values
    lag, _ = _correlate(candidate.ranks, ranks)
    if lag == 0:
        return
    gap = slice(0, lag) if lag > 0 else slice(x.shape[1] + lag, x.shape[1])
    rolled = np.roll(x, lag, axis=1)
    shifted = rolled.copy()
    shifted[:, gap] = np.nan
    what = f"the sound comes {abs(lag)} frames {'later' if lag > 0 else 'earlier'}"
    change = Change("time_shift", what, f"np.roll(x, {lag}, axis={axis})")
    yield candidate.then(change, rolled)
    yield candidate.then(change, shifted)


def _valued(candidate: _Candidate, edge: np.ndarray, shape: tuple[int, ...], axes: list[int]) -> Iterator[_Candidate]:
    """Yields a candidate with every compression of its values, at the level that fits."""
    for compressed in (candidate, *_compressed(candidate, edge)):
        yield compressed
        yield from _levelled(compressed, edge)
        yield from _scaled_bins(compressed, edge, shape, axes[1])
        if len(edge) > 1:
            yield from _normalised(compressed, edge, axes[0])


def _compressed(candidate: _Candidate, edge: np.ndarray) -> Iterator[_Candidate]:
    x = candidate.values
    kind = "log_compression"
    if np.nanmin(x) >= 0:
        yield candidate.then(Change(kind, "log(1 + x) instead of linear values", "np.log1p(x)"), np.log1p(x))
        for argument, least in (
            ("x + {:g}", lambda epsilon: x + epsilon),
            ("np.maximum(x, {:g})", lambda epsilon: np.maximum(x, epsilon)),
        ):
            fits = []
            for epsilon in _EPSILONS:
                y = np.log(least(epsilon))
                scale, offset = fitting.affine(y, edge)
                fits.append((fitting.unexplained(scale * y + offset, edge), epsilon, scale, y))
            _, epsilon, scale, y = min(fits, key=lambda fit: fit[0])
            named = [entry for entry in _LOGARITHMS if abs(scale / entry[0] - 1) < 0.05]
            # At any other scale, the logarithm was normalised afterwards.
            for factor, what, code in named or _LOGARITHMS[:1]:
                if scale > 0:
                    what = f"{what} instead of linear values"
                    yield candidate.then(Change(kind, what, code.format(argument.format(epsilon))), factor * y)
        yield candidate.then(Change("power", "power instead of magnitude", "x ** 2"), x**2)
        yield candidate.then(Change("power", "magnitude instead of power", "np.sqrt(x)"), np.sqrt(x))
    if edge.min() >= -1e-6 * np.abs(edge).max():
        for have, code, function in _EXPONENTIALS:
            with np.errstate(over="ignore"):
                y = function(x)
            # Beyond that, the values were linear from the beginning.
            if np.nanmax(y) < 1e30:
                yield candidate.then(Change(kind, f"linear values instead of {have}", code), y)


def _levelled(candidate: _Candidate, edge: np.ndarray) -> Iterator[_Candidate]:
    """Yields scale and offset, in the words of the kind of values that they change."""
    x = candidate.values
    known = np.isfinite(x)
    through_zero = float(np.vdot(x[known], edge[known]) / max(np.vdot(x[known], x[known]), 1e-300))
    offset = float(np.mean(edge[known] - x[known]))
    if through_zero > 0 and abs(through_zero - 1) > 1e-3:
        yield candidate.then(_scale(candidate, through_zero), through_zero * x)
    if offset:
        yield candidate.then(_offset(offset), x + offset)
    a, b = fitting.affine(x, edge)
    if a > 0 and b and abs(a - 1) > 1e-3:
        scaled = candidate.then(_scale(candidate, a), a * x)
        yield scaled.then(_offset(b), a * x + b)


def _is_logarithmic(x: np.ndarray) -> bool:
    """True when values cannot be linear: negative, or without the few loud ones that rise out of a spectrum."""
    return bool(np.nanmin(x) < 0 or np.nanmedian(x) > 0.2 * np.nanmax(x))


def _scale(candidate: _Candidate, scale: float) -> Change:
    code = f"x * {scale:.6g}"
    # A fit to values that are only approximately there comes out too small.
    tolerance = 0.15 if any(change.kind == "hop_length" for change in candidate.changes) else 0.01
    if _is_logarithmic(candidate.values):
        usual = [(2.0, "power", "power instead of magnitude in the logarithm")]
        usual += [(0.5, "power", "magnitude instead of power in the logarithm")]
        for (have, had, _), (want, wanted, _) in itertools.permutations(_LOGARITHMS[:5], 2):
            usual.append((want / have, "log_base", f"{wanted} instead of {had}, or the like"))
        factor, kind, what = min(usual, key=lambda entry: abs(scale / entry[0] - 1))
        if abs(scale / factor - 1) < tolerance:
            return Change(kind, what, code)
        return Change("scale", f"values times {scale:.4g}", code)
    for power in (1, 2):
        for factor, what in ((_INT16**power, "int16 values instead of floats"), (_INT16**-power, "floats for int16")):
            if abs(scale / factor - 1) < 0.01:
                return Change("int16_scale", f"the spectrum of {what}", code)
    return Change("gain", f"values times {scale:.4g}, as of another gain", code)


def _offset(offset: float) -> Change:
    code = f"x {'-' if offset < 0 else '+'} {abs(offset):.6g}"
    for factor, _, _ in _LOGARITHMS[:5]:
        for power in (1, 2):
            if abs(abs(offset) / (factor * power * math.log(_INT16)) - 1) < 2e-3:
                what = "int16 values instead of floats" if offset > 0 else "floats instead of int16 values"
                return Change("int16_scale", f"the logarithm of the spectrum of {what}", code)
    return Change("gain", f"an offset of {offset:.4g}, as of another gain before a logarithm", code)


def _scaled_bins(candidate: _Candidate, edge: np.ndarray, shape: tuple[int, ...], axis: int) -> Iterator[_Candidate]:
    """Yields another scale, or offset of logarithms, of each bin."""
    x = candidate.values
    known = np.isfinite(x)
    y, target = np.where(known, x, 0), np.where(known, edge, 0)
    power = (y**2).sum(axis=(0, 1))
    if np.any(power == 0) or len(edge) * edge.shape[1] < 8:
        return
    literal_shape = [-1, *([1] * (len(shape) - 1 - axis))]

    def literal(values: np.ndarray) -> str:
        array = f"np.array({[float(f'{v:.5g}') for v in values]})"
        return array if len(literal_shape) == 1 else f"{array}.reshape({literal_shape})"

    a, b = fitting.affine(x, edge)
    # As many figures as there are bins always fit better than two.
    enough = fitting.unexplained(a * x + b, edge) / _WORTH_OF_BINS
    scales = (y * target).sum(axis=(0, 1)) / power
    if np.all(scales > 0) and fitting.unexplained(x * scales, edge) < enough:
        yield candidate.then(_bins(np.log(scales), f"x * {literal(scales)}"), x * scales)
    count = np.maximum(known.sum(axis=(0, 1)), 1)
    offsets = (target - y).sum(axis=(0, 1)) / count
    if fitting.unexplained(x + offsets, edge) < enough:
        yield candidate.then(_bins(offsets, f"x + {literal(offsets)}"), x + offsets)


def _bins(logarithms: np.ndarray, code: str) -> Change:
    """Names what the logarithm of the scale of each bin looks like.

    Slaney's normalisation divides each mel filter by its width: the filters are equally wide below 1 kHz and grow by a
    constant factor above (Slaney, Auditory Toolbox, 1998).
    """
    names, widths = _mel_banks(len(logarithms))
    centre = logarithms - logarithms.mean()
    likeness = widths @ centre / max(np.linalg.norm(centre), 1e-30)
    nearest = int(np.argmax(np.abs(likeness)))
    # Rounding of the widths to whole bins of the spectrum keeps the correlation short of 1.
    if abs(likeness[nearest]) > 0.97:
        way = "with" if likeness[nearest] < 0 else "without"
        what = f"mel filters {way} area normalisation ({names[nearest]}, or the like)"
        return Change("mel_normalisation", what, code)
    return Change("bin_scale", "another scale of each bin", code)


@functools.cache
def _mel_banks(bins: int) -> tuple[list[str], np.ndarray]:
    """Returns usual mel filter banks: names and logarithms of the widths of their filters, of mean 0 and norm 1."""
    found = {}
    for bank in usual_banks(bins):
        logarithms = np.log(bank.widths())
        centre = logarithms - logarithms.mean()
        if np.linalg.norm(centre) > 1e-6:
            found[f"{bank.scale}'s mel scale, {bank.low:g} to {bank.high:g} Hz"] = centre / np.linalg.norm(centre)
    return list(found), np.array(list(found.values()))


def _normalised(candidate: _Candidate, edge: np.ndarray, axis: int) -> Iterator[_Candidate]:
    """Yields clips that are normalised one by one, by the app or by the reference only."""
    x = candidate.values
    kind = "utterance_normalisation"
    for axes, each, keep in (((1, 2), "clip", ""), ((1,), "bin of a clip", f"{axis}, keepdims=True")):
        mean, std = np.nanmean(x, axis=axes, keepdims=True), np.nanstd(x, axis=axes, keepdims=True)
        if not np.all(std > 0):
            continue
        what, code = f"the mean of each {each} taken out", f"x - x.mean({keep})"
        yield candidate.then(Change(kind, what, code), x - mean)
        what, code = f"each {each} standardised", f"(x - x.mean({keep})) / x.std({keep})"
        yield candidate.then(Change(kind, what, code), (x - mean) / std)
        if candidate.changes[-1:] and candidate.changes[-1].kind in ("log_compression", "power"):
            continue
        if np.abs(mean).max() > 0.02 * std.max() or x.shape[1] < 8:
            continue
        deviations = np.nanstd(edge, axis=axes, keepdims=True)
        standard = np.ptp(std) < 0.02 * std.max() and np.ptp(deviations) > 0.02 * deviations.max()
        scale = deviations / std if standard else np.ones_like(std)
        restored = x * scale + np.nanmean(edge, axis=axes, keepdims=True)
        levels = float(np.median(scale)), float(np.median(restored))
        code = f"x * {levels[0]:.4g} + {levels[1]:.4g}"
        what = f"no {'standardisation' if standard else 'removal of the mean'} of each {each}"
        yield candidate.then(Change(kind, what, code), restored)
