import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_exray.diagnosis.preprocessing import signals
from edge_exray.diagnosis.preprocessing.hypothesis import Pair
from edge_exray.diagnosis.preprocessing.mel import MelBank

RATE, SAMPLES, CLIPS = 16000, 4000, 4
NAMES = {"np": np, "scipy": scipy}


def recordings(count=CLIPS, samples=4 * SAMPLES):
    """Chirps in noise, each with a loudness of its own."""
    rng = np.random.default_rng(1)
    time = np.arange(samples) / RATE
    found = []
    for _ in range(count):
        chirp = np.sin(2 * np.pi * (rng.uniform(100, 400) + rng.uniform(200, 900) * time) * time)
        swell = 0.1 + np.sin(np.pi * rng.uniform(3, 7) * time) ** 2
        noise = scipy.signal.lfilter([1], [1, -0.7], rng.normal(0, 0.05, samples))
        found.append(rng.uniform(0.2, 0.7) * (chirp * swell * 0.8 + noise))
    return found


SOUNDS = recordings()
STEREO = [np.stack([a + 0.2 * b, 0.5 * b], axis=1) for a, b in zip(SOUNDS, SOUNDS[1:] + SOUNDS[:1], strict=True)]


def pairs(app, sounds=SOUNDS, source=False):
    """Beginnings of the recordings, and of what an app makes of the recordings."""
    return [
        Pair(np.float32(x[:SAMPLES]), np.float32(app(x)[:SAMPLES]), {"audio": np.float32(x)} if source else {})
        for x in sounds
    ]


def kinds(found):
    return [change.kind for change in found[0].changes]


def companded(x):
    return np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)


WAVEFORMS = {
    "sample_rate": pairs(lambda x: scipy.signal.resample(x, len(x) * 441 // 160)),
    "bandwidth": pairs(lambda x: scipy.signal.sosfiltfilt(scipy.signal.butter(12, 0.48, output="sos"), x)),
    "pre_emphasis": pairs(lambda x: np.append(x[0], x[1:] - 0.97 * x[:-1])),
    "mu_law": pairs(companded),
    "time_shift": pairs(lambda x: np.append(np.zeros(300), x)),
    "truncation": pairs(lambda x: x[-SAMPLES:], source=True),
    "gain": pairs(lambda x: x / 2),
    "int16_scale": pairs(lambda x: np.round(x * 32767)),
    "dc_offset": pairs(lambda x: x + 0.1),
    "polarity": pairs(np.negative),
    "clipping": pairs(lambda x: np.clip(x, -0.2, 0.2)),
    "clip_normalisation": pairs(lambda x: x / np.abs(x[:SAMPLES]).max()),
    "channel_order": pairs(lambda x: x[:, ::-1], STEREO),
    "mono_mix": pairs(lambda x: np.repeat(x.mean(1, keepdims=True), 2, 1), STEREO),
    "mono_copy": pairs(lambda x: x[:, [1, 1]], STEREO),
}


@pytest.mark.parametrize("kind", WAVEFORMS)
def test_names_what_differs_in_a_waveform(kind):
    assert kinds(signals.explain(WAVEFORMS[kind])) == [kind]


@pytest.mark.parametrize("kind", [kind for kind in WAVEFORMS if kind != "truncation"])
def test_its_code_makes_the_samples_of_the_app(kind):
    best = signals.explain(WAVEFORMS[kind])[0]
    pair = WAVEFORMS[kind][0]
    made = eval(best.code, NAMES, {"x": pair.reference.astype(np.float64)})
    assert made.shape == pair.edge.shape
    assert np.mean((made - pair.edge) ** 2) < 0.02 * np.var(pair.edge)


def test_words_of_sound():
    assert "44.1 instead of 16 kHz" in signals.explain(WAVEFORMS["sample_rate"])[0].description
    assert "-6.0 dB" in signals.explain(WAVEFORMS["gain"])[0].description
    assert "32767" in signals.explain(WAVEFORMS["int16_scale"])[0].description


def test_two_changes_together():
    both = pairs(lambda x: np.append(np.zeros(50), x) * 32768)
    assert set(kinds(signals.explain(both))) == {"time_shift", "int16_scale"}


def test_silence_at_the_other_end():
    short = [np.append(x[: 1500 + 400 * i], np.zeros(SAMPLES)) for i, x in enumerate(SOUNDS)]
    filled = [Pair(x[:SAMPLES], np.roll(x[:SAMPLES], SAMPLES - 1500 - 400 * i)) for i, x in enumerate(short)]
    best = signals.explain(filled)[0]
    assert kinds([best]) == ["padding_side"]
    for pair in filled:
        np.testing.assert_array_equal(eval(best.code, NAMES, {"x": pair.reference}), pair.edge)


def test_samples_in_a_row():
    rows = [Pair(pair.reference[None], pair.edge[None]) for pair in WAVEFORMS["gain"]]
    best = signals.explain(rows)[0]
    assert eval(best.code, NAMES, {"x": rows[0].reference}).shape == (1, SAMPLES)


@pytest.mark.parametrize(
    "app",
    [
        lambda x: x,
        lambda x: x + 1e-6 * np.cos(np.arange(len(x))),
        lambda x: np.round(x * 127) / 127,
        lambda x: np.round(x * 32767) / 32767,
    ],
)
def test_waveforms_that_agree_have_no_explanation(app):
    assert signals.explain(pairs(app)) == []


def test_a_silent_channel_is_no_obstacle():
    stereo = [np.stack([sound, np.zeros_like(sound)], axis=-1) for sound in SOUNDS]
    assert kinds(signals.explain([Pair(x, x[:, ::-1]) for x in stereo])) == ["channel_order"]


def test_another_sound_is_not_explained():
    assert signals.explain(pairs(lambda x: np.random.default_rng(int(1e6 * abs(x[9]))).normal(0, 0.1, len(x)))) == []
    assert signals.explain([]) == []


@settings(max_examples=4, deadline=None)
@given(st.floats(-30, 30).filter(lambda db: abs(db) > 0.5))
def test_measures_a_gain(decibels):
    best = signals.explain(pairs(lambda x: x * 10 ** (decibels / 20), SOUNDS[:2]))[0]
    assert best.description == f"a gain of {decibels:+.1f} dB"


FRAMES, BANDS = 40, 24
BANK = MelBank(BANDS, 0, 8000, RATE, "HTK")


def mel(x, *, hop=160, window="hann", slaney=False, power=2):
    frames = np.stack([x[t : t + 400] for t in range(0, hop * (FRAMES + 12), hop)])
    spectrum = np.abs(np.fft.rfft(frames * scipy.signal.get_window(window, 400), 512)) ** power
    return (spectrum @ BANK.filters(512)) * (2 / BANK.widths() if slaney else 1)


def log(x):
    return np.log(x + 1e-6)


def spectrograms(reference, edge, source=False):
    return [
        Pair(*(np.float32(side(x)[:FRAMES]) for side in (reference, edge)), {"audio": x} if source else {})
        for x in SOUNDS
    ]


def log_mel(x):
    return log(mel(x))


SPECTROGRAMS = {
    "log_compression": spectrograms(mel, log_mel),
    "log_base": spectrograms(log_mel, lambda x: 10 * np.log10(mel(x) + 1e-6)),
    "power": spectrograms(lambda x: mel(x, power=1), lambda x: mel(x, power=1) ** 2),
    "mel_normalisation": spectrograms(mel, lambda x: mel(x, slaney=True)),
    "transposed": spectrograms(log_mel, lambda x: log_mel(x)[:FRAMES].T.reshape(FRAMES, BANDS)),
    "bin_order": spectrograms(log_mel, lambda x: log_mel(x)[:, ::-1]),
    "utterance_normalisation": spectrograms(log_mel, lambda x: log_mel(x) - log_mel(x)[:FRAMES].mean(0)),
    "time_shift": spectrograms(log_mel, lambda x: log_mel(x)[3:]),
    "gain": spectrograms(mel, lambda x: mel(x * 3)),
    "int16_scale": spectrograms(log_mel, lambda x: log(mel(x)) + np.log(32768.0**2)),
    "hop_length": spectrograms(log_mel, lambda x: log(mel(x, hop=200)), source=True),
    "window_function": spectrograms(log_mel, lambda x: log(mel(x, window="hamming")), source=True),
}


@pytest.mark.parametrize("kind", SPECTROGRAMS)
def test_names_what_differs_in_a_spectrogram(kind):
    assert kinds(signals.explain(SPECTROGRAMS[kind])) == [kind]


@pytest.mark.parametrize(
    "kind",
    ["log_compression", "log_base", "power", "mel_normalisation", "transposed", "utterance_normalisation", "gain"],
)
def test_its_code_makes_the_spectrogram_of_the_app(kind):
    best = signals.explain(SPECTROGRAMS[kind])[0]
    for pair in SPECTROGRAMS[kind]:
        made = eval(best.code, NAMES, {"x": pair.reference.astype(np.float64)})
        assert np.mean((made - pair.edge) ** 2) < 1e-3 * np.var(pair.edge)


def test_spectrograms_with_a_channel_axis():
    deep = [Pair(pair.reference[..., None], pair.edge[..., None]) for pair in SPECTROGRAMS["mel_normalisation"]]
    best = signals.explain(deep)[0]
    assert kinds([best]) == ["mel_normalisation"]
    np.testing.assert_allclose(eval(best.code, NAMES, {"x": deep[0].reference}), deep[0].edge, rtol=1e-3)


def test_spectrograms_that_agree_or_have_nothing_in_common():
    assert signals.explain(spectrograms(log_mel, log_mel)) == []
    scrambled = spectrograms(log_mel, lambda x: np.random.default_rng(0).permutation(log_mel(x)))
    assert signals.explain(scrambled) == []
