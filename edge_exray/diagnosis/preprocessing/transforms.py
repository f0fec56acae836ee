"""Finds the settings of the Fourier transforms with which training and the app make spectrograms of one recording."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import fitting
from edge_exray.diagnosis.preprocessing.hypothesis import Change, Pair
from edge_exray.diagnosis.preprocessing.mel import MelBank, usual_banks

_SIZES = (256, 512, 1024, 2048, 400)
_LENGTHS = (160, 200, 256, 320, 400, 480, 512, 551, 640, 800, 882, 1024, 1102, 1200, 1280, 2048)
_HOPS = (64, 80, 100, 128, 160, 200, 220, 240, 256, 320, 400, 441, 480, 512, 640, 1024)
_WINDOWS = ("hann", "hamming", "blackman", "boxcar")
_PLACES = ("left", "centred", "middle")

# Clips and frames of each that settings are tried on.
_CLIPS, _FRAMES = 3, 48
# R2 of the ranks from which on settings are those of the reference.
_UNDERSTOOD = 0.99


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a spectrogram is made.

    Attributes:
        size: Samples of a Fourier transform.
        length: Samples of a window.
        hop: Samples from one window to the next.
        window: Name for `scipy.signal.get_window`.
        place: Where the first window is: from the first sample (`"left"`), around it (`"centred"`), or in the middle of
            the first transform (`"middle"`).
        bank: Mel filters; None for all bins of the transform.
    """

    size: int
    length: int
    hop: int
    window: str
    place: str
    bank: MelBank | None

    def power(self, recording: np.ndarray, frames: int) -> np.ndarray:
        """Returns the power spectrogram of a recording, `[frames, bins]`."""
        from scipy import signal

        first = {"left": 0, "centred": -(self.length // 2), "middle": (self.size - self.length) // 2}[self.place]
        margin = self.size
        padded = np.pad(
            recording, (margin, margin + frames * self.hop), mode="reflect" if len(recording) > 1 else "edge"
        )
        starts = margin + first + self.hop * np.arange(frames)
        pieces = padded[starts[:, None] + np.arange(self.length)]
        window = signal.get_window(self.window, self.length)
        spectrum = np.abs(np.fft.rfft(pieces * window, self.size, axis=1)) ** 2
        return spectrum @ self.bank.filters(self.size) if self.bank else spectrum


def explain(
    pairs: Sequence[Pair], reference: np.ndarray, edge: np.ndarray
) -> Iterator[tuple[tuple[Change, ...], float]]:
    """Yields which settings differ, when the recordings are in the source and those of the reference can be found.

    Args:
        pairs: With recordings of shape `[samples]` in their sources.
        reference, edge: Spectrograms `[clips, frames, bins]`, linear or compressed by any monotonous function.
    """
    recordings = [recording_of(pair.source, reference.shape[1]) for pair in pairs]
    usable = [r for r in recordings if r is not None]
    if len(usable) < len(pairs):
        return
    ours, our_score = _found(_starts(reference), usable, reference)
    if ours is None or our_score < _UNDERSTOOD:
        return
    theirs, their_score = _found([ours], usable, edge)
    if theirs is None or their_score < _UNDERSTOOD or theirs == ours:
        return
    # What compresses the values is read off the reference: the map is monotonous, so sorted values belong together.
    frames = reference.shape[1]
    power = np.stack([ours.power(recording, frames) for recording in usable])
    made = np.stack([theirs.power(recording, frames) for recording in usable])
    order = np.argsort(power, axis=None)
    values = np.maximum.accumulate(reference.ravel()[order])
    predicted = np.interp(made.ravel(), power.ravel()[order], values).reshape(edge.shape)
    yield tuple(_changes(ours, theirs)), fitting.unexplained(predicted, edge)


def recording_of(source: Mapping[str, np.ndarray], frames: int) -> np.ndarray | None:
    """Returns the first feature that may be the recording of a spectrogram."""
    for array in source.values():
        if array.dtype.kind in "fiu":
            samples = np.squeeze(array).astype(np.float64)
            if samples.ndim == 1 and len(samples) > 32 * frames:
                return samples
    return None


def _starts(reference: np.ndarray) -> list[Settings]:
    """Returns settings from which to search: all bins of a transform, or mel filters."""
    bins = reference.shape[2]
    if bins % 2 and bins > 100:
        size = 2 * (bins - 1)
        return [Settings(size, size, hop, "hann", "left", None) for hop in _HOPS]
    return [Settings(512, 400, hop, "hann", "left", MelBank(bins, 0, 8000, 16000, "HTK")) for hop in _HOPS]


def _found(starts: list[Settings], recordings: list[np.ndarray], target: np.ndarray) -> tuple[Settings | None, float]:
    """Returns the settings that make the target best, by changing one or two at a time, and R2 of the ranks."""
    from scipy import stats

    frames = min(_FRAMES, target.shape[1])
    wanted = stats.rankdata(target[:_CLIPS, :frames])

    @functools.cache
    def score(settings: Settings) -> float:
        made = [settings.power(recording, frames) for recording in recordings[:_CLIPS]]
        return float(np.corrcoef(stats.rankdata(np.stack(made)), wanted)[0, 1]) ** 2

    best = max(starts, key=score)
    steps: tuple[Callable[[Settings], list[Settings]], ...] = (
        lambda s: [dataclasses.replace(s, hop=h, place=p) for h in _HOPS for p in _PLACES],
        lambda s: [dataclasses.replace(s, bank=b) for b in usual_banks(s.bank.bands)] if s.bank else [],
        lambda s: [dataclasses.replace(s, size=n) for n in _SIZES if n >= s.length] if s.bank else [],
        lambda s: [
            dataclasses.replace(s, length=n, window=w) for n in {*_LENGTHS, s.size} if n <= s.size for w in _WINDOWS
        ],
    )
    for _ in range(3):
        before = best
        for step in steps:
            # Another setting has to be better: those that were there stay at a tie.
            challenger = max(step(best), key=score, default=best)
            if score(challenger) > score(best) + 1e-6:
                best = challenger
        if best == before or score(best) < 0.5:
            break
    return best, score(best)


def _changes(ours: Settings, theirs: Settings) -> Iterator[Change]:
    """Names the settings that differ. What another window makes is not in the reference input, so no code tells it."""
    for name, kind, what in (
        ("window", "window_function", "a {} window instead of {}"),
        ("length", "window_length", "windows of {} instead of {} samples"),
        ("hop", "hop_length", "a hop of {} instead of {} samples"),
        ("size", "fft_size", "Fourier transforms of {} instead of {} samples"),
        ("bank", "mel_filters", "mel filters of {} instead of {}"),
        ("place", "frame_position", "the first window {} instead of {}"),
    ):
        have, want = getattr(ours, name), getattr(theirs, name)
        if have != want:
            code = "x"
            if kind == "hop_length":
                code = f"x[(np.arange(len(x)) * {theirs.hop} // {ours.hop}).clip(max=len(x) - 1)]"
            yield Change(kind, what.format(want, have), code)
