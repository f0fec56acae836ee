import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_exray.diagnosis.preprocessing import tables
from edge_exray.diagnosis.preprocessing.hypothesis import Pair

FRAMES = 16
MEANS, DEVIATIONS = np.array([70.0, 1.7, 24.0, 3000.0, 0.4]), np.array([9.0, 0.1, 4.0, 800.0, 0.2])
ROWS = np.random.default_rng(2).normal(MEANS, DEVIATIONS, (FRAMES, 5))


def pairs(reference, edge):
    sides = np.float32(reference), np.float32(edge)
    return [Pair(one, other) for one, other in zip(*sides, strict=True)]


def changed(column, function):
    rows = ROWS.copy()
    rows[:, column] = function(rows[:, column])
    return rows


def kinds(found):
    return [change.kind for change in found[0].changes]


STANDARD = (ROWS - MEANS) / DEVIATIONS
UNIT = (ROWS - ROWS.min(0)) / np.ptp(ROWS, axis=0)
HOT = np.eye(4)[np.arange(FRAMES) % 4]
MISSING = np.random.default_rng(4).random(ROWS.shape) < 0.2
CASES = {
    "feature_order": (ROWS, ROWS[:, [3, 1, 0, 2, 4]]),
    "one_hot_order": (np.hstack([ROWS, HOT]), np.hstack([ROWS, HOT[:, [1, 3, 2, 0]]])),
    "unit": (ROWS, changed(1, lambda metres: metres * 100)),
    "log": (ROWS, changed(3, np.log1p)),
    "rounding": (ROWS, np.trunc(ROWS)),
    "clipping": (ROWS, np.minimum(ROWS, np.quantile(ROWS, 0.8, axis=0))),
    "standardisation": (STANDARD, ROWS),
    "min_max": (UNIT, ROWS),
    "imputation": (np.where(MISSING, -1, ROWS), np.where(MISSING, 0, ROWS)),
}


@pytest.mark.parametrize("kind", CASES)
def test_names_what_differs(kind):
    best = tables.explain(pairs(*CASES[kind]))[0]
    assert kinds([best]) == [kind]
    assert best.residual < 1e-5


@pytest.mark.parametrize(
    "kind", ["feature_order", "one_hot_order", "unit", "log", "rounding", "standardisation", "min_max"]
)
def test_its_code_makes_the_rows_of_the_app(kind):
    sample = pairs(*CASES[kind])
    code = tables.explain(sample)[0].code
    for pair in sample:
        made = eval(code, {"np": np, "x": pair.reference.astype(np.float64)})
        np.testing.assert_allclose(made, pair.edge, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda celsius: celsius * 1.8 + 32, "Fahrenheit instead of Celsius"),
        (np.deg2rad, "radians instead of degrees"),
        (lambda kilograms: kilograms / 0.45359237, "pounds instead of kilograms"),
        (lambda x: x * 0.731, "times 0.731"),
    ],
)
def test_names_usual_units(function, words):
    assert words in tables.explain(pairs(ROWS, changed(0, function)))[0].description


def test_standardisation_tells_mean_and_deviation():
    description = tables.explain(pairs(STANDARD, ROWS))[0].description
    assert description.startswith("no standardisation")
    assert "0: 70 and 9" in description
    extra = tables.explain(pairs(ROWS, STANDARD))[0]
    assert extra.description.startswith("an extra standardisation")


def test_several_changes_in_different_features():
    edge = changed(3, lambda grams: grams / 1000)[:, [1, 0, 2, 3, 4]]
    assert set(kinds(tables.explain(pairs(ROWS, edge)))) == {"feature_order", "unit"}


def test_missing_values_that_the_app_passes_on():
    edge = np.where(MISSING, np.nan, ROWS)
    assert kinds(tables.explain(pairs(np.where(MISSING, 0, ROWS), edge))) == ["imputation"]


def test_one_number_a_frame():
    scalars = [Pair(np.float32(v), np.float32(v * 60)) for v in ROWS[:, 0]]
    best = tables.explain(scalars)[0]
    assert kinds([best]) == ["unit"]
    assert eval(best.code, {"x": scalars[0].reference}) == pytest.approx(scalars[0].edge, rel=1e-5)


def test_one_frame_proves_an_order_but_no_line():
    assert kinds(tables.explain(pairs(ROWS[:1], ROWS[:1, ::-1]))) == ["feature_order"]
    assert tables.explain(pairs(ROWS[:1], ROWS[:1] * 0.73 + 2)) == []


@pytest.mark.parametrize("edge", [ROWS, ROWS * (1 + 1e-7), np.float32(ROWS)])
def test_equal_rows_have_no_explanation(edge):
    assert tables.explain(pairs(ROWS, edge)) == []


def test_other_rows_are_not_explained():
    other = np.random.default_rng(8).normal(MEANS, DEVIATIONS, ROWS.shape)
    assert tables.explain(pairs(ROWS, other)) == []


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 1000))
def test_finds_every_permutation(order, seed):
    rows = np.random.default_rng(seed).normal(0, 1, (8, 5))
    found = tables.explain(pairs(rows, rows[:, order]))
    if list(order) == sorted(order):
        assert found == []
    else:
        assert found[0].code == f"x[..., {list(order)}]"
