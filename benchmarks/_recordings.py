"""Sounds for the fault suite: the recordings that pygame ships, and sounds like speech."""

import functools
import importlib.util
import pathlib

import numpy as np

RATE = 16000
"""Samples per second of every sound; the recordings, made at 11 kHz, sound higher than they are."""

# Centre frequencies (Hz) of the first three formants of five vowels, after Peterson and Barney (1952), men.
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


@functools.cache
def _recorded() -> tuple[np.ndarray, ...]:
    from scipy.io import wavfile

    spec = importlib.util.find_spec("pygame")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the fault suite plays pygame's recordings: pip install 'edge-exray[dev]'")
    folder = pathlib.Path(spec.origin).parent / "examples" / "data"
    sounds = [wavfile.read(folder / name)[1] for name in ("house_lo.wav", "boom.wav", "car_door.wav", "punch.wav")]
    return tuple((sound.astype(np.float64) - 128) / 128 for sound in sounds)


def recording(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Returns a piece of music or some effects in a row, `[samples]` within [-1, 1], with the faint noise of a room."""
    sounds = _recorded()
    if rng.random() < 0.5:
        track = np.tile(sounds[0], -(-2 * samples // len(sounds[0])))
    else:
        track = np.concatenate([sounds[rng.integers(1, len(sounds))] for _ in range(-(-2 * samples // 3700))])
    start = rng.integers(0, len(track) - samples)
    piece = track[start : start + samples] * rng.uniform(0.4, 0.9) + rng.normal(0, 1e-4, samples)
    return np.clip(piece, -1, 1)


def speech(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Returns syllables of voiced and unvoiced sound with pauses, `[samples]` within [-1, 1]: made up, not spoken."""
    from scipy import signal

    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < samples:
        length = int(rng.uniform(0.06, 0.2) * RATE)
        pitch = rng.uniform(90, 220) * np.linspace(1, rng.uniform(0.85, 1.15), length)
        voiced = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + rng.normal(0, 0.01, length)
        for formant in _VOWELS[rng.integers(len(_VOWELS))]:
            voiced = (
                signal.lfilter(*signal.iirpeak(formant, formant / rng.uniform(60, 150), fs=RATE), voiced) + 0.1 * voiced
            )
        hiss = signal.lfilter([1, -0.9], [1], rng.normal(0, 1, length // 2)) * np.hanning(length // 2)
        voiced = voiced * np.hanning(length)
        pause = np.zeros(int(rng.uniform(0, 0.05) * RATE))
        pieces += [voiced / np.abs(voiced).max(), pause, 0.15 * hiss / np.abs(hiss).max(), pause]
    track = np.concatenate(pieces)[:samples]
    return np.clip(track * rng.uniform(0.3, 0.9) + rng.normal(0, 1e-4, samples), -1, 1)


def sound(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Returns a recording or speech."""
    return (recording if rng.random() < 0.5 else speech)(rng, samples)
