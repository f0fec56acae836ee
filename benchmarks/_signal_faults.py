"""Faults of audio preprocessing, injected into recordings that pygame ships and into sounds like speech."""

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
    return lambda x: np.concatenate([np.zeros(samples), x])


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
