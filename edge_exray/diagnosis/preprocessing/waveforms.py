"""Finds out what an app does differently to a waveform.

The search follows a sound's way through an app: which channels, at which rate, coded how, starting where, how loud. A
candidate of each stage is judged by its best correlation with the edge input over all lags, which later stages leave
alone; lag, loudness and clipping are then fitted to the few best.
"""

import dataclasses
import fractions
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import fitting
from edge_exray.diagnosis.preprocessing.hypothesis import Change, Hypothesis, Pair

# The usual sample rates in kHz; the first of equal ratios is named.
_RATES = (16, 8, 22.05, 44.1, 48, 11.025, 12, 24, 32)

# What ranks the candidates: this many clips, and this many samples of each.
_CLIPS = 4
_SAMPLES = 1 << 15

# Candidates of which lag and loudness are fitted.
_FINALISTS = 6

_INT16 = (32768, 32767)
_MU = 255

# Coefficients of a pre-emphasis in use.
_EMPHASIS = (0.97, 0.95, 0.9)

# A gain of less than this many dB is rounding.
_AUDIBLE_DB = 0.02


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """Waveforms `[clips, samples, channels]` that some changes make; NaN where the reference does not tell."""

    changes: tuple[Change, ...]
    values: np.ndarray
    ratio: fractions.Fraction | None = None

    def then(self, change: Change, values: np.ndarray) -> "_Candidate":
        return _Candidate((*self.changes, change), values)


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Finds what an app does differently to a waveform.

    Args:
        pairs: Values of shape `[T]` or `[T, C]`, float or integer, at any scale.

    Returns:
        The best explanation first; empty when both sides agree or nothing explains the difference.
    """
    reference, edge, used = fitting.stack(pairs)
    if not used or fitting.agree(reference, edge):
        return []
    mono = reference.ndim == 2
    if mono:
        reference, edge = reference[..., None], edge[..., None]
    if edge.min() == edge.max() or reference.min() == reference.max():
        return []
    start = _Candidate((), reference)
    target = _Target(edge, _CLIPS, _SAMPLES)
    routed = target.best([start, *(start.then(*r) for r in _routings(reference))], 2)
    changed = [one for r in routed for one in (*_recoded(r), *_resampled(r, mono), *_filtered(r))]
    finalists = target.best([*routed, *changed], _FINALISTS)
    finalists += [
        _band_limited(f, one) for f in finalists if f.ratio for one in routed if f.changes[:-1] == one.changes
    ]
    if all(f.changes for f in finalists):
        finalists.append(start)
    long_target = _Target(edge, _CLIPS, 4 * _SAMPLES)
    # What explains all of the recording comes before what leaves out a part of it.
    placed = [*_recut(used, reference, mono), *_padded(reference, mono)]
    placed += [p for f in finalists for p in _placed(f, long_target, mono)]
    found = [(c.changes, fitting.unexplained(c.values, edge)) for p in placed for c in _levelled(p, edge)]
    return fitting.rank(found, fitting.unexplained(reference, edge), fitting.noise_of(edge))


class _Target:
    """The edge input, prepared for many correlations with candidates."""

    def __init__(self, edge: np.ndarray, clips: int, samples: int):
        from scipy import fft

        self._cut = (slice(clips), slice(samples))
        edge = edge[self._cut]
        edge = (edge - edge.mean(axis=1, keepdims=True)).astype(np.float32)
        self._samples = edge.shape[1]
        self._size = fft.next_fast_len(2 * self._samples, real=True)
        self._spectrum = fft.rfft(edge, self._size, axis=1)
        self._power = _growing_power(edge)

    def lag(self, values: np.ndarray) -> tuple[int, float]:
        """Returns the lag in samples at which the edge input follows the values best, and R2 of a scale there."""
        from scipy import fft

        values = values[self._cut]
        known = np.isfinite(values)
        filled = np.where(known, values, 0)
        mean = filled.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
        centre = np.where(known, filled - mean, 0).astype(np.float32)
        spectrum = (self._spectrum * np.conj(fft.rfft(centre, self._size, axis=1))).sum(axis=(0, 2))
        cross = fft.irfft(spectrum, self._size).astype(np.float64)
        samples, have, want = self._samples, _growing_power(centre), self._power
        lags = np.arange(self._size)
        lags = np.where(lags > self._size // 2, lags - self._size, lags)
        # Beyond 90 % of the length nothing is left to compare.
        usable = np.abs(lags) < 0.9 * samples
        lags, cross = lags[usable], cross[usable]
        later, earlier = np.maximum(lags, 0), np.maximum(-lags, 0)
        power = np.where(lags >= 0, have[samples - later], have[-1] - have[earlier])
        kept = np.where(lags >= 0, want[-1] - want[later], want[samples - earlier])
        # By the power of the whole edge input, so that a short overlap does not win by chance.
        peak = np.where(power > 1e-6 * have[-1], cross**2 / np.maximum(power * want[-1], 1e-300), 0)
        best = int(np.argmax(peak))
        return int(lags[best]), min(1.0, float(cross[best] ** 2 / max(power[best] * kept[best], 1e-300)))

    def best(self, candidates: list[_Candidate], count: int) -> list[_Candidate]:
        """Returns the candidates that correlate best at any lag; equal ones keep their order."""
        scored = []
        for candidate in candidates:
            _, score = self.lag(candidate.values)
            # As much as fitting.rank asks of a change: a third of what is left.
            scored.append((math.log(1 - score + 1e-6) + math.log(3) * len(candidate.changes), candidate))
        return [candidate for _, candidate in sorted(scored, key=lambda item: item[0])[:count]]


def _growing_power(x: np.ndarray) -> np.ndarray:
    return np.append(0.0, np.cumsum(np.einsum("nsc,nsc->s", x, x, dtype=np.float64)))


def _routings(x: np.ndarray) -> Iterator[tuple[Change, np.ndarray]]:
    """Yields which channels the app may feed where."""
    channels = x.shape[2]
    if channels == 1:
        return
    mix = np.broadcast_to(x.mean(axis=2, keepdims=True), x.shape)
    yield Change("mono_mix", "all channels mixed to one", "np.repeat(x.mean(-1, keepdims=True), x.shape[-1], -1)"), mix
    for channel in range(channels):
        copy = np.broadcast_to(x[..., channel : channel + 1], x.shape)
        yield Change("mono_copy", f"channel {channel} in place of all", f"x[..., {[channel] * channels}]"), copy
    if channels <= 4:
        for order in list(itertools.permutations(range(channels)))[1:]:
            what = "left and right swapped" if channels == 2 else f"channels in the order {list(order)}"
            yield Change("channel_order", what, f"x[..., {list(order)}]"), x[..., list(order)]


def _recoded(candidate: _Candidate) -> Iterator[_Candidate]:
    """Yields mu-law companding and its reverse, after ITU-T G.711 with mu = 255."""
    x = candidate.values
    full, scaled = (1, "x") if np.abs(x).max() <= 1.001 else (32768, "x / 32768")
    y = np.clip(x / full, -1, 1)
    code = f"np.sign(x) * np.log1p({_MU} * np.abs({scaled})) / np.log({_MU + 1})"
    encoded = np.sign(y) * np.log1p(_MU * np.abs(y)) / np.log1p(_MU)
    yield candidate.then(Change("mu_law", "mu-law code instead of linear samples", code), encoded)
    code = f"np.sign(x) * ({_MU + 1} ** np.abs({scaled}) - 1) / {_MU}"
    decoded = np.sign(y) * np.expm1(np.abs(y) * np.log1p(_MU)) / _MU
    yield candidate.then(Change("mu_law", "linear samples instead of mu-law code", code), decoded)


def _resampled(candidate: _Candidate, mono: bool) -> Iterator[_Candidate]:
    """Yields the usual confusions of sample rates: the app's samples are taken for samples of another rate."""
    seen = set()
    for want, have in itertools.permutations(_RATES, 2):
        ratio = fractions.Fraction(str(have)) / fractions.Fraction(str(want))
        if ratio in seen:
            continue
        seen.add(ratio)
        up, down = ratio.numerator, ratio.denominator
        what = f"another sample rate ({float(ratio):.4g} times the expected, such as {have:g} instead of {want:g} kHz)"
        if ratio > 1:
            code = f"scipy.signal.resample_poly(x, {up}, {down})[:len(x)]"
        else:
            pad = f"(0, len(x) - -(-len(x) * {up} // {down}))"
            code = f"np.pad(scipy.signal.resample_poly(x, {up}, {down}), {pad if mono else f'({pad}, (0, 0))'})"
        stretched = candidate.then(Change("sample_rate", what, code), _stretched(candidate.values, float(ratio)))
        yield dataclasses.replace(stretched, ratio=ratio)


def _stretched(x: np.ndarray, ratio: float) -> np.ndarray:
    """Returns waveforms at `ratio` times their rate, by straight lines, cut to their length; NaN where they end."""
    samples = x.shape[1]
    at = np.arange(samples) / ratio
    known = at <= samples - 1
    low = np.floor(at[known]).astype(np.intp)
    high = np.minimum(low + 1, samples - 1)
    share = (at[known] - low)[:, None]
    y = np.full(x.shape, np.nan)
    y[:, known] = x[:, low] * (1 - share) + x[:, high] * share
    return y


def _band_limited(stretched: _Candidate, before: _Candidate) -> _Candidate:
    """Returns what `_resampled` does, by a band-limited resampler instead of straight lines."""
    from scipy import signal

    assert stretched.ratio
    values = np.full(before.values.shape, np.nan)
    made = signal.resample_poly(before.values, stretched.ratio.numerator, stretched.ratio.denominator, axis=1)
    made = made[:, : values.shape[1]]
    values[:, : made.shape[1]] = made
    return dataclasses.replace(stretched, values=values)


def _filtered(candidate: _Candidate) -> Iterator[_Candidate]:
    """Yields narrow bands, as of a recording at a lower rate that was resampled to the right one, and emphasis."""
    from scipy import signal

    x = candidate.values
    for factor in (2, 3, 4, 6):
        narrow = signal.resample_poly(signal.resample_poly(x, 1, factor, axis=1), factor, 1, axis=1)[:, : x.shape[1]]
        what = f"only the lower 1/{factor} of the band, as of a recording at 1/{factor} of the sample rate"
        code = f"scipy.signal.resample_poly(scipy.signal.resample_poly(x, 1, {factor}), {factor}, 1)[:len(x)]"
        yield candidate.then(Change("bandwidth", what, code), narrow)
    for coefficient in _EMPHASIS:
        taps = [1, -coefficient]
        code = f"scipy.signal.lfilter({taps}, [1], x, axis=0)"
        emphasised = signal.lfilter(taps, [1], x, axis=1)
        yield candidate.then(Change("pre_emphasis", f"a pre-emphasis with {coefficient:g} too many", code), emphasised)
        code = f"scipy.signal.lfilter([1], {taps}, x, axis=0)"
        plain = signal.lfilter([1], taps, x, axis=1)
        yield candidate.then(Change("pre_emphasis", f"no pre-emphasis with {coefficient:g}", code), plain)


def _placed(candidate: _Candidate, target: _Target, mono: bool) -> Iterator[_Candidate]:
    """Yields a candidate at the lag that fits, and with the ways to fill what the reference does not tell."""
    x = candidate.values
    yield candidate
    if not np.all(np.isfinite(x)):
        # The app has either more of the recording or nothing but zeros.
        yield dataclasses.replace(candidate, values=np.nan_to_num(x))
    lag, _ = target.lag(x)
    if lag == 0:
        return
    samples = x.shape[1]
    rolled = np.roll(x, lag, axis=1)
    shifted = rolled.copy()
    gap = slice(0, lag) if lag > 0 else slice(samples + lag, samples)
    shifted[:, gap] = np.nan
    way = "later" if lag > 0 else "earlier"
    kept, pad = (f"x[:{-lag}]", f"({lag}, 0)") if lag > 0 else (f"x[{-lag}:]", f"(0, {-lag})")
    code = f"np.pad({kept}, {pad if mono else f'({pad}, (0, 0))'})"
    what = f"the sound comes {abs(lag)} samples {way}"
    yield candidate.then(Change("time_shift", what, code), np.nan_to_num(shifted))
    yield candidate.then(Change("time_shift", what, code), shifted)
    code = f"np.roll(x, {lag}, axis=0)"
    yield candidate.then(Change("time_shift", f"{what}, and what falls out comes in at the other end", code), rolled)


def _padded(reference: np.ndarray, mono: bool) -> Iterator[_Candidate]:
    """Yields clips whose zeros, which fill them up, are at the other end."""
    silent = np.all(reference == 0, axis=2)
    if not (silent[:, -1] | silent[:, 0]).any():
        return
    leading, trailing = np.argmax(~silent, axis=1), np.argmax(~silent[:, ::-1], axis=1)
    lags = np.where(trailing > 0, trailing, -leading)
    moved = np.stack([np.roll(clip, lag, axis=0) for clip, lag in zip(reference, lags, strict=True)])
    side = "start" if silent[:, -1].any() else "end"
    loud = "(x != 0)" if mono else "x.any(axis=-1)"
    lag = f"np.argmax({loud}[::-1])" if side == "start" else f"-np.argmax({loud})"
    yield _Candidate((Change("padding_side", f"silence filled in at the {side}", f"np.roll(x, {lag}, axis=0)"),), moved)


def _recut(pairs: Sequence[Pair], reference: np.ndarray, mono: bool) -> Iterator[_Candidate]:
    """Yields other cuts of the recording, where it is in the source and the reference is a cut of it."""
    samples = reference.shape[1]
    recordings = [r for r in (_recording(pair.source, samples, mono) for pair in pairs) if r is not None]
    if len(recordings) < len(pairs):
        return
    cuts = {place: np.stack([_cut(r, samples, place) for r in recordings]) for place in ("beginning", "middle", "end")}
    fits = {place: fitting.affine(values, reference) for place, values in cuts.items()}
    scaled = {place: scale * cuts[place] + offset for place, (scale, offset) in fits.items()}
    kept = min(scaled, key=lambda place: fitting.unexplained(scaled[place], reference))
    if fitting.unexplained(scaled[kept], reference) > 0.01:
        return
    scale, offset = fits[kept]
    for place, cut in cuts.items():
        if place != kept:
            values = scale * cut + offset
            what = f"the {place} of the recording instead of the {kept}"
            lag, _ = _Target(values, _CLIPS, _SAMPLES).lag(reference)
            yield _Candidate((Change("truncation", what, f"np.roll(x, {lag}, axis=0)"),), values)


def _recording(source: Mapping[str, np.ndarray], samples: int, mono: bool) -> np.ndarray | None:
    """Returns the first feature that may hold a longer recording, `[samples, channels]`."""
    for array in source.values():
        squeezed = np.squeeze(array) if array.dtype.kind in "fiu" else np.empty(0)
        if len(squeezed.shape) == (1 if mono else 2) and len(squeezed) > samples:
            return squeezed.reshape(len(squeezed), -1).astype(np.float64)
    return None


def _cut(recording: np.ndarray, samples: int, place: str) -> np.ndarray:
    start = {"beginning": 0, "middle": (len(recording) - samples) // 2, "end": len(recording) - samples}[place]
    return recording[start : start + samples]


def _levelled(candidate: _Candidate, edge: np.ndarray) -> Iterator[_Candidate]:
    """Yields a candidate as it is, and at the loudness, offset and limits that fit."""
    x = candidate.values
    yield candidate
    scale, offset = fitting.affine(x, edge)
    known = np.isfinite(x)
    through_zero = float(np.vdot(x[known], edge[known]) / max(np.vdot(x[known], x[known]), 1e-300))
    for a, b in ((1.0, float(np.mean(edge[known] - x[known]))), (through_zero, 0.0), (scale, offset)):
        yield from _affine(candidate, a, b)
    yield from _clipped(candidate, edge)
    if len(x) > 1:
        yield from _normalised(candidate, edge)


def _affine(candidate: _Candidate, a: float, b: float) -> Iterator[_Candidate]:
    """Yields scale and offset in the words of sound; a usual factor also exactly."""
    if not a:
        return  # the candidate has nothing in common with the edge input
    x = candidate.values
    inverted = candidate.then(Change("polarity", "inverted polarity", "-x"), -x) if a < 0 else candidate
    gains = [abs(a), *(f for n in _INT16 for f in (float(n), 1 / n) if abs(abs(a) / f - 1) < 2e-2)]
    for gain in gains:
        levelled = inverted
        if abs(20 * math.log10(gain)) > _AUDIBLE_DB:
            levelled = inverted.then(_gain(gain), inverted.values * gain)
        yield levelled
        if b:
            change = Change("dc_offset", f"an offset of {b:.4g}", f"x {'-' if b < 0 else '+'} {abs(b):.6g}")
            yield levelled.then(change, levelled.values + b)


def _gain(gain: float) -> Change:
    for full in _INT16:
        if abs(gain / full - 1) < 1e-5:
            return Change("int16_scale", f"int16 values (times {full}) instead of floats in [-1, 1]", f"x * {full}")
        if abs(gain * full - 1) < 1e-5:
            return Change("int16_scale", f"floats in [-1, 1] instead of int16 values (over {full})", f"x / {full}")
    if 0.85 < gain / 32768 < 1.15:
        return Change("int16_scale", "int16 values instead of floats in [-1, 1]", f"x * {gain:.6g}")
    if 0.85 < gain * 32768 < 1.15:
        return Change("int16_scale", "floats in [-1, 1] instead of int16 values", f"x * {gain:.6g}")
    return Change("gain", f"a gain of {20 * math.log10(gain):+.1f} dB", f"x * {gain:.6g}")


def _clipped(candidate: _Candidate, edge: np.ndarray) -> Iterator[_Candidate]:
    """Yields a loudness at which the peaks are cut off, when the edge input stays at its extremes."""
    low, high = edge.min(), edge.max()
    cut = (edge <= low) | (edge >= high)
    # Rounding to few levels puts some samples at the extremes as well; a clipped wave stays there in a row.
    rows = cut[:, 1:] & cut[:, :-1] & (edge[:, 1:] == edge[:, :-1])
    if rows.sum() < 8 or cut.mean() > 0.9:
        return
    inner = np.where(cut, np.nan, candidate.values)
    scale, offset = fitting.affine(inner, edge)
    known = np.isfinite(inner)
    through_zero = float(np.vdot(inner[known], edge[known]) / max(np.vdot(inner[known], inner[known]), 1e-300))
    change = Change("clipping", f"clipped to [{low:.4g}, {high:.4g}]", f"np.clip(x, {low:.6g}, {high:.6g})")
    for a, b in ((1.0, 0.0), (through_zero, 0.0), (scale, offset)):
        for levelled in _affine(candidate, a, b):
            yield levelled.then(change, np.clip(levelled.values, low, high))


def _normalised(candidate: _Candidate, edge: np.ndarray) -> Iterator[_Candidate]:
    """Yields clips whose loudness is levelled one by one, by the app or by the reference only."""
    x = np.nan_to_num(candidate.values)
    axes = (1, 2)
    mean, std = x.mean(axis=axes, keepdims=True), x.std(axis=axes, keepdims=True)
    peak, rms = np.abs(x).max(axis=axes, keepdims=True), np.sqrt((x**2).mean(axis=axes, keepdims=True))
    if not (std > 0).all():
        return
    kind = "clip_normalisation"
    yield candidate.then(Change(kind, "each clip scaled to its peak", "x / np.abs(x).max()"), x / peak)
    yield candidate.then(Change(kind, "each clip scaled to its power", "x / np.sqrt((x ** 2).mean())"), x / rms)
    yield candidate.then(Change(kind, "each clip standardised", "(x - x.mean()) / x.std()"), (x - mean) / std)
    yield candidate.then(Change(kind, "each clip freed of its mean", "x - x.mean()"), x - mean)
    for what, figure in (("peak", peak), ("power", rms), ("deviation", std)):
        if np.ptp(figure) > 1e-3 * figure.max():
            continue
        fits = [fitting.affine(a, b) for a, b in zip(candidate.values, edge, strict=True)]
        scales, offsets = (np.array([fit[i] for fit in fits]).reshape(-1, 1, 1) for i in (0, 1))
        if np.ptp(scales) < 0.01 * np.abs(scales).max():
            continue
        change = Change(kind, f"no scaling of each clip to its {what}", f"x * {float(np.median(scales)):.4g}")
        yield candidate.then(change, candidate.values * scales + offsets * (what == "deviation"))
        return
