"""Finds out what an app does differently to sound, as samples or as a spectrogram."""

from collections.abc import Sequence

from edge_exray.diagnosis.preprocessing import waveforms
from edge_exray.diagnosis.preprocessing.hypothesis import Hypothesis, Pair


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    return waveforms.explain(pairs)
