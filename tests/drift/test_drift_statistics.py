import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models.tensors import Quantization, TensorSpec

FLOATS = st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf, -math.inf])
PAIRS = st.integers(0, 6).flatmap(lambda size: st.tuples(*[hnp.arrays(np.float64, size, elements=FLOATS)] * 2))
# Each frame with the worker that sees it, in any order.
RUNS = st.lists(st.tuples(PAIRS, st.integers(0, 3)), max_size=8).flatmap(
    lambda frames: st.tuples(st.just(frames), st.permutations(frames), st.permutations(range(4)))
)

INT8 = TensorSpec("x", (-1,), np.dtype(np.int8), Quantization((0.5,), (10,)))


def of(*frames, spec: TensorSpec | None = None) -> DriftStatistics:
    statistics = DriftStatistics()
    for reference, edge in frames:
        statistics.update(np.asarray(reference), np.asarray(edge), spec)
    return statistics


@given(RUNS)
def test_any_split_merged_in_any_order_is_one_pass(run):
    frames, shuffled, order = run
    whole = of(*(pair for pair, _ in frames))
    workers = [of(*(pair for pair, worker in shuffled if worker == i)) for i in range(4)]
    merged = DriftStatistics()
    for i in order:
        merged.merge(workers[i])
    for name, expected in dataclasses.asdict(whole).items():
        if name.endswith("_sum"):
            # Terms of up to 4e6 may cancel out.
            assert getattr(merged, name) == pytest.approx(expected, rel=1e-9, abs=1e-9 * 4e6)
        else:
            assert getattr(merged, name) == expected, name


@pytest.fixture(scope="module")
def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    references = [rng.normal(2, 3, (1, 5, 4)).astype(np.float32) for _ in range(20)]
    return [(r, r + rng.normal(0.1, 0.2, r.shape).astype(np.float32)) for r in references]


def test_figures_are_those_of_all_values_together(frames):
    r, e = (np.concatenate([pair[i].ravel() for pair in frames]).astype(np.float64) for i in (0, 1))
    rmse = np.sqrt(np.mean((e - r) ** 2))
    expected = {
        "frames": 20,
        "nrmse": rmse / max(r.max() - r.min(), e.max() - e.min()),
        "rmse": rmse,
        "max_abs": np.abs(e - r).max(),
        "mean_bias": np.mean(e - r),
        "sqnr_db": 10 * np.log10(np.sum(r**2) / np.sum((e - r) ** 2)),
        "cosine": r @ e / np.linalg.norm(r) / np.linalg.norm(e),
        "reference_range": [r.min(), r.max()],
        "edge_range": [e.min(), e.max()],
        "reference_nonfinite": 0,
        "edge_nonfinite": 0,
    }
    summary = of(*frames).summary()
    assert math.isnan(summary.pop("saturated_share"))
    assert math.isnan(summary.pop("clipped_share"))
    assert summary == {key: pytest.approx(value, rel=1e-12) for key, value in expected.items()}


@pytest.mark.parametrize(
    ("reference", "edge", "nrmse", "sqnr_db"),
    [
        ([0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 2.0, 2.0], 1 / 4, 10 * math.log10(21 / 4)),
        ([0.0, 1.0], [0.0, 9.0], math.sqrt(32) / 9, 10 * math.log10(1 / 64)),
        ([3.0, 3.0], [3.0, 3.0], 0, math.inf),
        ([3.0, 3.0], [5.0, 5.0], math.inf, 10 * math.log10(9 / 4)),
        ([0.0, 0.0], [0.0, 1.0], math.sqrt(0.5), -math.inf),
    ],
    ids=["wider reference", "wider edge", "equal", "constants that differ", "reference all zero"],
)
def test_known_answers(reference, edge, nrmse, sqnr_db):
    statistics = of((reference, edge))
    assert statistics.nrmse == pytest.approx(nrmse)
    assert statistics.sqnr_db == pytest.approx(sqnr_db)


def test_nothing_seen_is_nan_not_zero():
    for empty in (DriftStatistics(), of(([], [])), of(([math.nan], [1.0]))):
        for name in ("nrmse", "rmse", "sqnr_db", "cosine", "mean_bias", "saturated_share", "clipped_share"):
            assert math.isnan(getattr(empty, name)), name
        assert math.isnan(empty.summary()["max_abs"])


def test_nonfinite_values_are_counted_on_their_side_and_poison_nothing():
    reference = [math.nan, math.inf, 1.0, 2.0, 3.0]
    edge = [1.0, math.inf, -math.inf, 2.0, 3.5]
    statistics = of((reference, edge))
    assert (statistics.reference_nonfinite, statistics.edge_nonfinite) == (2, 2)
    assert (statistics.values, statistics.finite) == (5, 2)
    clean = of(([2.0, 3.0], [2.0, 3.5]))
    for name in ("rmse", "nrmse", "sqnr_db", "cosine", "mean_bias", "max_abs", "edge_min", "reference_max"):
        assert getattr(statistics, name) == getattr(clean, name)


def test_stored_values_are_compared_as_real_ones():
    statistics = of(([0.0, 5.0, -1.0], np.array([10, 20, 6], np.int8)), spec=INT8)
    assert statistics.mean_bias == pytest.approx(-1 / 3)
    assert (statistics.edge_min, statistics.edge_max) == (-2.0, 5.0)


def test_saturated_and_clipped_values_are_counted():
    # -128 is -69 and 127 is 58.5; up to a step of 0.5 beyond is rounding.
    reference = [-69.0, -69.4, -70.0, 58.5, 58.9, 59.5, math.inf, 0.0]
    edge = np.array([-128, -128, -128, 127, 127, 127, 127, 126], np.int8)
    statistics = of((reference, edge), spec=INT8)
    assert (statistics.saturated, statistics.clipped, statistics.quantized) == (7, 3, 8)
    assert (statistics.saturated_share, statistics.clipped_share) == (7 / 8, 3 / 8)


def test_float_and_wide_integer_tensors_do_not_saturate():
    wide = TensorSpec("x", (-1,), np.dtype(np.int32), Quantization((1.0,), (0,)))
    for statistics in (
        of(([1.0], np.array([2**31 - 1], np.int32)), spec=wide),
        of(([1.0], np.array([127], np.int8))),
    ):
        assert (statistics.saturated, statistics.quantized) == (0, 0)


def test_shapes_may_differ_but_sizes_may_not():
    assert of((np.ones((1, 2, 3)), np.ones((6, 1)))).nrmse == 0
    with pytest.raises(ValueError, match="reference has 6 values, edge has 5"):
        of((np.ones((2, 3)), np.ones(5)))
