"""Finds out what an app prepares differently, from inputs of both sides of the same frames."""

from collections.abc import Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import images
from edge_exray.diagnosis.preprocessing.hypothesis import Hypothesis, Pair


def search(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Returns what the app may do differently, best first.

    The kind of input follows from shape and dtype. Pairs of another shape than the first, and those with NaN or
    infinite values, tell nothing and are left out.

    Args:
        pairs: One input of some frames.

    Returns:
        Hypotheses; empty where both sides agree up to rounding, or where nothing is known of inputs of this kind. The
        last ones may have `explains` false: they came closest.
    """
    usable = [pair for pair in pairs if _usable(pair) and pair.reference.shape == pairs[0].reference.shape]
    if not usable or all(np.array_equal(pair.reference, pair.edge) for pair in usable):
        return []
    if images.is_image(usable[0].reference):
        return images.explain(usable)
    return []


def _usable(pair: Pair) -> bool:
    both = pair.reference, pair.edge
    return (
        pair.reference.shape == pair.edge.shape
        and pair.reference.size > 0
        and all(value.dtype.kind in "fiu" and np.isfinite(value).all() for value in both)
    )
