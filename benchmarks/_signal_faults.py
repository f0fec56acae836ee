"""Faults of audio preprocessing, injected into recordings that pygame ships and into sounds like speech."""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator

import numpy as np

from benchmarks import _recordings
from benchmarks._fault_case import FaultCase
from edge_exray.diagnosis.preprocessing import signals
from edge_exray.diagnosis.preprocessing.hypothesis import Pair

_CLIPS = 8
_SAMPLES = 8000
# An app that feeds more or later samples takes them from this many.
_RECORDED = 3 * _SAMPLES

Fault = Callable[[np.ndarray], np.ndarray]
"""Whole recording `[samples]` or `[samples, channels]` to the same as the app holds it."""


def _named(pairs: list[Pair]) -> Collection[str]:
    found = signals.explain(pairs)
    return [change.kind for change in found[0].changes] if found else []


def _resampled(rate: float) -> Fault:
    """By Fourier transform, which the product does not use."""
    from scipy import signal

    return lambda x: signal.resample(x, round(len(x) * rate / _recordings.RATE))


def _crudely_resampled(rate: float) -> Fault:
    def run(x: np.ndarray) -> np.ndarray:
        at = np.arange(int(len(x) * rate / _recordings.RATE)) * _recordings.RATE / rate
        return np.interp(at, np.arange(len(x)), x)

    return run


def _narrow(rate: float) -> Fault:
    from scipy import signal

    def run(x: np.ndarray) -> np.ndarray:
        sos = signal.cheby1(8, 0.05, 0.8 * rate / 2, fs=_recordings.RATE, output="sos")
        return signal.sosfiltfilt(sos, x, axis=0)

    return run


def _delayed(samples: int) -> Fault:
    return lambda x: np.concatenate([np.zeros((samples, *x.shape[1:])), x])


def _emphasised(x: np.ndarray) -> np.ndarray:
    return np.append(x[0], x[1:] - 0.97 * x[:-1])


def _companded(x: np.ndarray) -> np.ndarray:
    code = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.log(256)
    return np.round(code * 127) / 127


def _expanded(x: np.ndarray) -> np.ndarray:
    return np.sign(x) / 255 * ((1 + 255) ** np.abs(x) - 1)


def _amplified(decibels: float) -> Fault:
    return lambda x: x * 10 ** (decibels / 20)


# Kind to form to fault. Of each stage on a sound's way through an app one fault is in a pair.
_RATE_FAULTS: dict[str, dict[str, Fault]] = {
    "sample_rate": {
        **{f"{rate:g} instead of 16 kHz": _resampled(1000 * rate) for rate in (8, 11.025, 22.05, 24, 32, 44.1, 48)},
        **{f"{rate:g} kHz, straight lines": _crudely_resampled(1000 * rate) for rate in (8, 44.1, 48)},
    },
    "bandwidth": {"8 kHz made 16 kHz": _narrow(8000)},
    "pre_emphasis": {"0.97 too many": _emphasised},
    "mu_law": {"mu-law code, 8 bits": _companded, "expanded twice": _expanded},
}
_TIME_FAULTS: dict[str, dict[str, Fault]] = {
    "time_shift": {
        **{f"{n} later": _delayed(n) for n in (3, 100, 800, 3000)},
        **{f"{n} earlier": (lambda x, n=n: x[n:]) for n in (1, 160, 2500)},
        "in a circle": lambda x: np.roll(x[:_SAMPLES], 700, axis=0),
    },
}
_LEVEL_FAULTS: dict[str, dict[str, Fault]] = {
    "gain": {f"{db:+d} dB": _amplified(db) for db in (-20, -6, -1, 3, 12, 40)},
    "int16_scale": {
        "times 32768": lambda x: x * 32768,
        "times 32767, rounded": lambda x: np.round(x * 32767),
        "over 32768": lambda x: x / 32768,
    },
    "dc_offset": {f"{offset:g}": (lambda x, offset=offset: x + offset) for offset in (0.01, -0.05, 0.3)},
    "polarity": {"inverted": lambda x: -x},
    "clipping": {f"at {limit:g}": (lambda x, limit=limit: np.clip(x, -limit, limit)) for limit in (0.1, 0.25)},
}
_CLIP_FAULTS: dict[str, dict[str, Fault]] = {
    "clip_normalisation": {
        "to the peak": lambda x: x / np.max(np.abs(x)),
        "to the power": lambda x: x / np.sqrt(np.mean(np.square(x))),
        "standardised": lambda x: (x - np.average(x)) / np.sqrt(np.var(x)),
    },
}
_CHANNEL_FAULTS: dict[str, dict[str, Fault]] = {
    "channel_order": {"left and right": lambda x: np.stack([x[:, 1], x[:, 0]], axis=1)},
    "mono_mix": {"mean of both": lambda x: np.stack([(x[:, 0] + x[:, 1]) / 2] * 2, axis=1)},
    "mono_copy": {"left twice": lambda x: np.stack([x[:, 0]] * 2, axis=1)},
}
_HEALTHY: dict[str, Fault] = {
    "equal": lambda x: x,
    "float noise": lambda x: x + np.random.default_rng(7).normal(0, 1e-6, x.shape),
    "int16": lambda x: np.round(x * 32767) / 32767,
    "int8": lambda x: np.round(x * 127) / 127,
    "float16": lambda x: x.astype(np.float16).astype(np.float64),
}
# Not healthy, but nothing that has a name: naming one would send a developer the wrong way.
_NAMELESS: dict[str, Fault] = {
    "another sound": lambda x: np.random.default_rng(len(x)).normal(0, 0.1, x.shape),
    "noise at 10 dB": lambda x: x + np.random.default_rng(7).normal(0, 0.3 * x.std(), x.shape),
}


def _then(first: Fault, second: Fault) -> Fault:
    return lambda x: second(first(x))


def _clip(x: np.ndarray) -> np.ndarray:
    """Returns the beginning of a recording, filled up with zeros."""
    short = max(0, _SAMPLES - len(x))
    return np.concatenate([x[:_SAMPLES], np.zeros((short, *x.shape[1:]))])


def _waveforms(rng: np.random.Generator, fault: Fault, *, stereo: bool = False, whole: bool = True) -> list[Pair]:
    pairs = []
    for _ in range(_CLIPS):
        recorded = _recordings.sound(rng, _RECORDED)
        if stereo:
            other = _recordings.sound(rng, _RECORDED)
            recorded = np.stack([recorded + 0.3 * other, 0.4 * recorded - 0.6 * other], axis=1)
        edge = _clip(fault(recorded)) if whole else fault(_clip(recorded))
        pairs.append(Pair(_clip(recorded).astype(np.float32), edge.astype(np.float32)))
    return pairs


def cases(seed: int) -> Iterator[FaultCase]:
    """Yields every fault in every form, pairs of faults of different stages, and healthy twins."""
    yield from _waveform_cases(seed)
    yield from _spectrogram_cases(seed)


def _waveform_cases(seed: int) -> Iterator[FaultCase]:
    numbers = itertools.count()

    def case(
        group: str, fault: str, strength: str, expected: tuple[str, ...], inject: Fault, **kind: bool
    ) -> FaultCase:
        key = [seed, next(numbers)]
        return FaultCase(
            group, fault, strength, expected, lambda: _named(_waveforms(np.random.default_rng(key), inject, **kind))
        )

    mono = {**_RATE_FAULTS, **_TIME_FAULTS, **_LEVEL_FAULTS}
    for name, forms in mono.items():
        for strength, fault in forms.items():
            yield case("audio", name, strength, (name,), fault)
    for name, forms in _CLIP_FAULTS.items():
        for strength, fault in forms.items():
            yield case("audio", name, strength, (name,), fault, whole=False)
    for name, forms in _CHANNEL_FAULTS.items():
        for strength, fault in forms.items():
            yield case("audio", name, strength, (name,), fault, stereo=True)
    for strength, fault in _HEALTHY.items():
        yield case("audio", "healthy", strength, (), fault)
        yield case("audio", "healthy", f"{strength}, stereo", (), fault, stereo=True)
    for strength, fault in _NAMELESS.items():
        yield case("audio", "nameless", strength, (), fault)
    for stages in itertools.combinations((_RATE_FAULTS, _TIME_FAULTS, _LEVEL_FAULTS), 2):
        for (one, ones), (other, others) in itertools.product(*(stage.items() for stage in stages)):
            first, second = (list(forms.items())[seed % len(forms)] for forms in (ones, others))
            inject = _then(first[1], second[1])
            yield case("audio pairs", f"{one} + {other}", f"{first[0]}; {second[0]}", (one, other), inject)
    for stage in (_TIME_FAULTS, _LEVEL_FAULTS):
        for (one, ones), (other, others) in itertools.product(_CHANNEL_FAULTS.items(), stage.items()):
            if one == "mono_mix" and other == "time_shift":
                continue
            first, second = (list(forms.items())[seed % len(forms)] for forms in (ones, others))
            inject = _then(first[1], second[1])
            yield case("audio pairs", f"{one} + {other}", f"{first[0]}; {second[0]}", (one, other), inject, stereo=True)


@dataclasses.dataclass(frozen=True)
class _Spectrum:
    """How a spectrogram is made."""

    window: str = "hann"
    length: int = 400
    hop: int = 160
    bands: int = 0
    slaney: bool = False
    power: int = 2

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns linear values, `[frames, bins]`."""
        from scipy import signal

        window = signal.get_window(self.window, self.length)
        starts = range(0, len(x) - 512 + 1, self.hop)
        spectrum = np.stack([np.abs(np.fft.rfft(x[s : s + self.length] * window, 512)) ** self.power for s in starts])
        return spectrum @ _mel_filters(self.bands, self.slaney) if self.bands else spectrum


def _mel_filters(bands: int, slaney: bool) -> np.ndarray:
    """Returns triangles on the mel scale of the HTK book, 20 Hz to 7.6 kHz, `[257, bands]`."""
    mel = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (20, 7600)), bands + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.linspace(0, _recordings.RATE / 2, 257)
    bank = np.zeros((257, bands))
    for band in range(bands):
        low, centre, high = corners[band : band + 3]
        rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
        bank[:, band] = np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low) if slaney else 1)
    return bank


_FRAMES = 64
_LINEAR, _MEL = _Spectrum(), _Spectrum(bands=40)


def _log(x: np.ndarray) -> np.ndarray:
    return np.log(x + 1e-6)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


# Name of the reference's features, from a recording.
_FEATURES: dict[str, Fault] = {
    "power": _LINEAR,
    "mel": _MEL,
    "log mel": lambda x: _log(_MEL(x)),
    "normalised log mel": lambda x: _standardised(_log(_MEL(x)[:_FRAMES])),
}
# Kind to form to (reference features, app's features).
_FEATURE_FAULTS: dict[str, dict[str, tuple[Fault, Fault]]] = {
    "log_compression": {
        "no log": (lambda x: _log(_MEL(x)), _MEL),
        "natural log": (_MEL, lambda x: _log(_MEL(x))),
        "log10": (_LINEAR, lambda x: np.log10(np.maximum(_LINEAR(x), 1e-10))),
        "decibels": (_LINEAR, lambda x: 10 * np.log10(_LINEAR(x) + 1e-10)),
        "decibels of magnitude": (
            dataclasses.replace(_LINEAR, power=1),
            lambda x: 20 * np.log10(np.maximum(dataclasses.replace(_LINEAR, power=1)(x), 1e-5)),
        ),
        "log(1 + x)": (_MEL, lambda x: np.log1p(_MEL(x))),
        "no decibels": (lambda x: 10 * np.log10(_MEL(x) + 1e-10), _MEL),
    },
    "log_base": {
        "log10 for ln": (lambda x: _log(_MEL(x)), lambda x: np.log10(_MEL(x) + 1e-6)),
        "decibels for ln": (lambda x: _log(_MEL(x)), lambda x: 10 * np.log10(_MEL(x) + 1e-6)),
    },
    "power": {
        "magnitude": (_LINEAR, dataclasses.replace(_LINEAR, power=1)),
        "power": (dataclasses.replace(_LINEAR, power=1), _LINEAR),
        "power, log": (
            lambda x: np.log(dataclasses.replace(_LINEAR, power=1)(x) + 1e-9),
            lambda x: np.log(_LINEAR(x) + 1e-12),
        ),
    },
    "mel_normalisation": {
        "Slaney's area": (_MEL, dataclasses.replace(_MEL, slaney=True)),
        "no area": (dataclasses.replace(_MEL, slaney=True), _MEL),
        "Slaney's area, log": (
            lambda x: np.log(_MEL(x) + 1e-12),
            lambda x: np.log(dataclasses.replace(_MEL, slaney=True)(x) + 1e-12),
        ),
    },
    "hop_length": {
        f"{hop} for 160 samples": (
            lambda x: _log(_MEL(x)),
            lambda x, hop=hop: _log(dataclasses.replace(_MEL, hop=hop)(x)),
        )
        for hop in (80, 128, 200, 256, 320)
    },
    "transposed": {
        name: (features, lambda x, f=features: f(x)[:_FRAMES].T.reshape(_FRAMES, -1))
        for name, features in _FEATURES.items()
    },
    "utterance_normalisation": {
        "none": (_FEATURES["normalised log mel"], _FEATURES["log mel"]),
        "mean only": (lambda x: (lambda y: y - y.mean(0))(_log(_MEL(x)[:_FRAMES])), _FEATURES["log mel"]),
        "too many": (_FEATURES["log mel"], _FEATURES["normalised log mel"]),
    },
    "time_shift": {
        f"{frames} frames": (_FEATURES["log mel"], lambda x, n=frames: _FEATURES["log mel"](x)[n:])
        for frames in (1, 3, 10)
    },
    "gain": {
        "-6 dB": (_MEL, lambda x: _MEL(x / 2)),
        "20 dB": (lambda x: np.log(_MEL(x) + 1e-12), lambda x: np.log(_MEL(x * 10) + 1e-12)),
    },
    "int16_scale": {
        "linear": (_MEL, lambda x: _MEL(x * 32768)),
        "log": (lambda x: np.log(_MEL(x) + 1e-12), lambda x: np.log(_MEL(x * 32768) + 1e-12)),
    },
}
# Kinds that both change what is left by the other one, to the app's features on a log mel reference.
_FEATURE_PAIRS: dict[tuple[str, str], tuple[Fault, Fault]] = {
    ("log_base", "time_shift"): (_FEATURES["log mel"], lambda x: np.log10(_MEL(x) + 1e-6)[5:]),
    ("log_compression", "time_shift"): (_FEATURES["log mel"], lambda x: _MEL(x)[4:]),
    ("log_compression", "transposed"): (
        _MEL,
        lambda x: (10 * np.log10(_MEL(x)[:_FRAMES] + 1e-10)).T.reshape(_FRAMES, -1),
    ),
    ("log_compression", "gain"): (_MEL, lambda x: np.log(_MEL(3 * x) + 1e-10)),
    ("log_compression", "int16_scale"): (_MEL, lambda x: np.log(_MEL(32768 * x) + 1e-10)),
    ("mel_normalisation", "time_shift"): (_MEL, lambda x: dataclasses.replace(_MEL, slaney=True)(x)[6:]),
    ("log_compression", "mel_normalisation"): (
        _MEL,
        lambda x: np.log(dataclasses.replace(_MEL, slaney=True)(x) + 1e-12),
    ),
    ("power", "gain"): (_LINEAR, lambda x: dataclasses.replace(_LINEAR, power=1)(3 * x)),
    ("log_compression", "utterance_normalisation"): (_MEL, lambda x: _standardised(_log(_MEL(x)[:_FRAMES]))),
    ("power", "transposed"): (
        _LINEAR,
        lambda x: dataclasses.replace(_LINEAR, power=1)(x)[:_FRAMES].T.reshape(_FRAMES, -1),
    ),
    ("log_base", "transposed"): (
        _FEATURES["log mel"],
        lambda x: np.log10(_MEL(x)[:_FRAMES] + 1e-6).T.reshape(_FRAMES, -1),
    ),
    ("hop_length", "log_base"): (
        _FEATURES["log mel"],
        lambda x: np.log10(dataclasses.replace(_MEL, hop=200)(x) + 1e-6),
    ),
}
# With the recording in the source, as the feature "audio".
_WINDOW_FAULTS: dict[str, dict[str, tuple[Fault, Fault]]] = {
    "window_function": {
        f"{window} for hann": (_FEATURES["log mel"], lambda x, w=window: _log(dataclasses.replace(_MEL, window=w)(x)))
        for window in ("hamming", "blackman", "boxcar")
    }
    | {"hamming for hann, power": (_LINEAR, dataclasses.replace(_LINEAR, window="hamming"))},
    "window_length": {
        f"{n} for 400 samples": (_FEATURES["log mel"], lambda x, n=n: _log(dataclasses.replace(_MEL, length=n)(x)))
        for n in (256, 512)
    },
    "hop_length": {
        f"{hop} for 160 samples, known recording": (
            _FEATURES["log mel"],
            lambda x, hop=hop: _log(dataclasses.replace(_MEL, hop=hop)(x)),
        )
        for hop in (128, 200)
    },
}


def _spectrograms(rng: np.random.Generator, features: tuple[Fault, Fault], *, source: bool = False) -> list[Pair]:
    pairs = []
    for _ in range(_CLIPS):
        recorded = _recordings.sound(rng, _RECORDED)
        sides = [side(recorded)[:_FRAMES].astype(np.float32) for side in features]
        pairs.append(Pair(*sides, {"audio": recorded.astype(np.float32)} if source else {}))
    return pairs


def _spectrogram_cases(seed: int) -> Iterator[FaultCase]:
    numbers = itertools.count(10000)

    def case(
        group: str,
        fault: str,
        strength: str,
        expected: tuple[str, ...],
        features: tuple[Fault, Fault],
        source: bool = False,
    ) -> FaultCase:
        key = [seed, next(numbers)]

        def run() -> Collection[str]:
            return _named(_spectrograms(np.random.default_rng(key), features, source=source))

        return FaultCase(group, fault, strength, expected, run)

    for name, forms in _FEATURE_FAULTS.items():
        for strength, features in forms.items():
            yield case("spectrogram", name, strength, (name,), features)
    for name, forms in _WINDOW_FAULTS.items():
        for strength, features in forms.items():
            yield case("spectrogram", name, strength, (name,), features, True)
    for name, feature in _FEATURES.items():
        yield case("spectrogram", "healthy", name, (), (feature, feature))
        noisy = _then(feature, lambda x: x + np.random.default_rng(7).normal(0, 1e-5, x.shape) * np.abs(x).mean())
        yield case("spectrogram", "healthy", f"{name}, float noise", (), (feature, noisy))
        scrambled = _then(feature, lambda x: np.random.default_rng(7).permutation(x))
        yield case("spectrogram", "nameless", f"{name}, frames scrambled", (), (feature, scrambled))
    for names, features in _FEATURE_PAIRS.items():
        yield case("spectrogram pairs", " + ".join(names), "", names, features)
