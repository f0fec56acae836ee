"""Finds out what an app does differently to sound, as samples or as a spectrogram."""

import dataclasses
import re
from collections.abc import Sequence

from edge_exray.diagnosis.preprocessing import spectrograms, waveforms
from edge_exray.diagnosis.preprocessing.hypothesis import Hypothesis, Pair

# Sound has no more channels; a spectrogram has more bins.
_MAX_CHANNELS = 8


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Finds what an app does differently to an input that holds sound.

    Args:
        pairs: Samples of shape `[T]` or `[T, C]` of at most 8 channels, or spectrograms of shape `[frames, bins]`; each
            with any axes of length 1.

    Returns:
        The best explanation first; empty when both sides agree or nothing explains the difference.
    """
    if not pairs:
        return []
    shape = pairs[0].reference.shape
    lengths = [length for length in shape if length != 1]
    if len(lengths) == 2 and lengths[1] > _MAX_CHANNELS:
        return spectrograms.explain(pairs)
    if len(shape) == 2 and shape[0] == 1:
        return [_in_row(hypothesis) for hypothesis in waveforms.explain([_row(pair) for pair in pairs])]
    return waveforms.explain(pairs) if len(shape) in (1, 2) else []


def _row(pair: Pair) -> Pair:
    """Returns samples of shape `[1, T]` as `[T]`."""
    return dataclasses.replace(pair, reference=pair.reference[0], edge=pair.edge[0])


def _in_row(hypothesis: Hypothesis) -> Hypothesis:
    """Returns a hypothesis about samples of shape `[T]` for samples of shape `[1, T]`."""
    changes = []
    for change in hypothesis.changes:
        inner = re.sub(r"\bx\b", "x[0]", change.code)
        changes.append(dataclasses.replace(change, code=f"({inner})[None]"))
    return dataclasses.replace(hypothesis, changes=tuple(changes))
