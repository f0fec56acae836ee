"""Finds out what an app prepares differently, from inputs of both sides of the same frames."""

from collections.abc import Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import images, signals, tables, tokens
from edge_exray.diagnosis.preprocessing.hypothesis import Hypothesis, Pair

# Sound has more samples; a table has hardly as many features.
_SHORTEST_SIGNAL = 256
# A row of ids has more; fewer whole numbers are features.
_SHORTEST_TEXT = 4


def search(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Returns what the app may do differently, best first.

    The kind of input follows from shape, dtype and values; where that leaves two, both are tried. Pairs of another
    shape than the first are left out, and but for tables those with NaN or infinite values.

    Args:
        pairs: One input of some frames.

    Returns:
        Hypotheses; empty where both sides agree up to rounding, or where nothing is known of the difference. The last
        ones may have `explains` false: they came closest.
    """
    alike = [pair for pair in pairs if pair.reference.shape == pair.edge.shape == pairs[0].reference.shape]
    alike = [pair for pair in alike if pair.reference.size and pair.reference.dtype.kind in "fiub"]
    if not alike or all(np.array_equal(pair.reference, pair.edge) for pair in alike):
        return []
    finite = [pair for pair in alike if np.isfinite(pair.reference).all() and np.isfinite(pair.edge).all()]
    found: list[Hypothesis] = []
    if finite and images.is_image(finite[0].reference):
        found = images.explain(finite)
        if finite[0].reference.shape[-1] > 1 or not found or found[0].explains:
            return found
    shape = alike[0].reference.shape
    if finite and max(shape, default=1) >= 2 and alike[0].reference.size >= _SHORTEST_SIGNAL and not _whole(finite):
        found = signals.explain(finite) + found
    elif finite and alike[0].reference.size >= _SHORTEST_TEXT and _whole(finite):
        found = tokens.explain(finite) + found
    # Ids are no measurements, whatever numbers they are.
    is_ids = alike[0].reference.dtype.kind in "iu" and alike[0].reference.size >= _SHORTEST_TEXT
    if not found and not is_ids and sum(length > 1 for length in shape) <= 1:
        found = tables.explain(alike)
    return sorted(found, key=lambda hypothesis: not hypothesis.explains)


def _whole(pairs: Sequence[Pair]) -> bool:
    """Returns whether all reference values are whole numbers as ids are; samples of whole numbers have signs."""
    return all(
        pair.reference.dtype.kind in "iu"
        or (np.array_equal(pair.reference, np.rint(pair.reference)) and pair.reference.min() >= 0)
        for pair in pairs
    )
