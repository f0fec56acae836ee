import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_exray.drift.quantiles import RELATIVE_ACCURACY, QuantileSketch

VALUES = st.lists(st.just(0.0) | st.floats(1e-300, 1e300), max_size=12)


def of(values) -> QuantileSketch:
    sketch = QuantileSketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(VALUES, st.integers(0, 12), st.randoms(use_true_random=False))
def test_any_split_merged_in_any_order_is_one_pass(values, cut, random):
    whole = of(values)
    random.shuffle(values)
    merged = of(values[cut:])
    merged.merge(of(values[:cut]))
    assert merged == whole


@pytest.mark.parametrize("q", [0, 0.25, 0.5, 0.9, 0.99, 1])
def test_quantiles_are_within_the_accuracy(q):
    values = [*np.random.default_rng(0).lognormal(-5, 3, 999).tolist(), 0.0]
    exact = np.quantile(values, q, method="lower")
    assert of(values).quantile(q) == pytest.approx(exact, rel=RELATIVE_ACCURACY * 1.01)


def test_nothing_seen_has_no_quantile():
    assert math.isnan(QuantileSketch().quantile(0.5))
    assert of([0.0]).quantile(0.5) == 0
