import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_exray.drift import comparison, constants
from edge_exray.drift.fusion import fusion
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.drift.values import Values
from edge_exray.models.tensors import Quantization, TensorSpec

# Few distinct values, of which those at 1e3 cancel out, and both zeros.
VALUES = np.array([0.0, -0.0, 1.0, -2.5, 1e3, -1e3, 0.1, math.nan, math.inf, -math.inf], np.float32)


@st.composite
def runs(draw):
    """Draws frames, each with the worker that sees it, the same in another order, and an order of the workers."""
    sizes = draw(st.lists(st.integers(0, 6), max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = []
    for size in sizes:
        dtype = rng.choice([np.float32, np.float64])
        # NaN and infinities, which leave little to sum, come in every other frame only.
        values = VALUES if rng.random() < 0.5 else VALUES[:-3]
        frames.append((tuple(rng.choice(values, (2, size)).astype(dtype)), int(rng.integers(4))))
    return frames, [frames[i] for i in rng.permutation(len(frames))], rng.permutation(4).tolist()


INT8 = TensorSpec("x", (-1,), np.dtype(np.int8), Quantization((0.5,), (10,)))


def of(*frames, spec: TensorSpec | None = None) -> DriftStatistics:
    statistics = DriftStatistics()
    for reference, edge in frames:
        statistics.update(np.asarray(reference), np.asarray(edge), spec)
    return statistics


@given(runs())
def test_any_split_merged_in_any_order_is_one_pass(run):
    frames, shuffled, order = run
    whole = of(*(pair for pair, _ in frames))
    workers = [of(*(pair for pair, worker in shuffled if worker == i)) for i in range(4)]
    merged = DriftStatistics()
    for i in order:
        merged.merge(workers[i])
    for name, expected in vars(whole).items():
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
        "reference_rms": np.sqrt(np.mean(r**2)),
        "edge_rms": np.sqrt(np.mean(e**2)),
        "reference_nonfinite": 0,
        "edge_nonfinite": 0,
    }
    summary = of(*frames).summary()
    assert math.isnan(summary.pop("saturated_share"))
    assert math.isnan(summary.pop("clipped_share"))
    del summary["reference_dead_share"], summary["edge_dead_share"], summary["frame_nrmse"]
    assert summary == {key: pytest.approx(value, rel=1e-7) for key, value in expected.items()}


def test_quantiles_over_frames_are_those_of_their_rmse(frames):
    statistics = of(*frames)
    rmse = [np.sqrt(np.mean((e.astype(np.float64) - r) ** 2)) for r, e in frames]
    span = statistics.rmse / statistics.nrmse
    figures = statistics.summary()["frame_nrmse"]
    for name, q in (("p50", 0.5), ("p90", 0.9)):
        exact = np.quantile(rmse, q, method="lower") / span
        assert figures[name] == pytest.approx(exact, rel=0.011)


def test_channels_that_never_change_are_dead():
    rng = np.random.default_rng(1)
    statistics = DriftStatistics()
    for frame in range(3):
        reference = rng.normal(size=(1, 40, 1, 4)).astype(np.float32)
        edge = reference.copy()
        edge[..., 1] = 0  # dead on the edge only
        edge[..., 2] = frame  # constant in each frame, but not over frames
        edge[0, :-1, 0, 3] = 5
        statistics.update(reference, edge)
        if not frame:
            assert math.isnan(statistics.edge_dead_share)
    assert (statistics.reference_dead_share, statistics.edge_dead_share) == (0, 1 / 4)


@pytest.mark.parametrize("spec", [None, INT8], ids=["float32", "int8"])
@pytest.mark.parametrize("size", [1, 4097, 3 * (1 << 16) + 5])
def test_blocks_give_what_float64_gives(spec, size):
    rng = np.random.default_rng(size)
    reference = rng.normal(0, 20, size).astype(np.float32)
    edge = np.clip(np.round(reference / 0.5) + 10, -128, 127).astype(np.int8) if spec else reference * np.float32(1.01)
    real = INT8.real(edge) if spec else edge
    fast, exact = of((reference, edge), spec=spec), of((reference.astype(np.float64), real.astype(np.float64)))
    for name in ("rmse", "nrmse", "sqnr_db", "cosine", "reference_min", "reference_max", "edge_min", "edge_max"):
        assert getattr(fast, name) == pytest.approx(getattr(exact, name), rel=1e-6), name
    assert fast.max_abs == pytest.approx(exact.max_abs, rel=1e-5)
    assert fast.mean_bias == pytest.approx(exact.mean_bias, abs=1e-6 * exact.rmse)
    if spec:
        assert fast.saturated == np.count_nonzero((edge == -128) | (edge == 127))
        assert fast.clipped == np.count_nonzero((reference < -69.5) | (reference > 59))


@pytest.fixture
def without_numba(monkeypatch):
    """Makes comparisons run as where numba is not installed."""
    monkeypatch.setattr(comparison, "fusion", lambda: None)
    monkeypatch.setattr(constants, "fusion", lambda: None)


_INTEGERS = {
    dtype: TensorSpec("x", (-1,), np.dtype(dtype), Quantization((scale,), (zero_point,)))
    for dtype, scale, zero_point in ((np.int8, 0.037, -3), (np.uint8, 0.037, 130), (np.int16, 2e-4, 0))
}


def pairs(dtype: type) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns frames of a reference and an edge run, with dead channels, saturated and clipped values and zeros."""
    rng = np.random.default_rng(5)
    found = []
    for size in (1, 3, 2047, 2048, 2049, 40_000):
        reference = (rng.normal(0.1, 2.5, (size, 5)) * rng.choice([1, -0.0], (size, 1))).astype(np.float32)
        reference[:, 3] = 1.5
        spec = _INTEGERS.get(dtype)
        edge = reference * np.float32(1.01)
        edge[:, 2] = 0
        found.append((reference, spec.quantization.quantize(edge, np.dtype(dtype)) if spec else edge))
    found[-1][0].flags.writeable = False
    reference, edge = found[-2]
    found.append((np.where(reference > 4, np.nan, reference), edge))
    return found


@pytest.mark.parametrize("dtype", [np.float32, *_INTEGERS])
def test_the_compiled_pass_finds_what_numpy_finds(dtype, request):
    assert fusion() is not None, "numba is not installed"
    spec = _INTEGERS.get(dtype)
    compiled = [of(pair, pair, spec=spec) for pair in pairs(dtype)]
    request.getfixturevalue("without_numba")
    for fast, (reference, edge) in zip(compiled, pairs(dtype), strict=True):
        slow = of((reference, edge), (reference, edge), spec=spec)
        magnitude = math.sqrt(slow.error_square_sum * slow.finite)
        for name, expected in vars(slow).items():
            if name.endswith("_sum"):
                assert getattr(fast, name) == pytest.approx(expected, rel=1e-9, abs=1e-9 * magnitude), name
            elif name == "frame_rmse":
                # A figure at the border of two bins may fall into either.
                assert fast.frame_nrmse(0.5) == pytest.approx(slow.frame_nrmse(0.5), rel=0.02, nan_ok=True)
            else:
                assert getattr(fast, name) == expected, name
    if spec:
        assert min(fast.saturated, fast.clipped) > 0


def quantized(real: np.ndarray, scale: float, dtype=np.int8) -> Values:
    spec = TensorSpec("x", real.shape, np.dtype(dtype), Quantization((scale,), (3,)))
    return Values(spec.quantization.quantize(real, spec.dtype), spec)


def test_several_runs_are_compared_as_each_alone():
    rng = np.random.default_rng(6)
    reference = rng.normal(0, 2, (70, 61)).astype(np.float32)
    noisy = reference + rng.normal(0, 0.1, reference.shape).astype(np.float32)
    broken = noisy.copy()
    broken[3, 4] = np.nan
    edges = [
        quantized(noisy, 0.02),
        Values(noisy),
        quantized(reference, 0.02),
        quantized(noisy, 0.1),
        Values(broken),
        quantized(noisy, 0.02, np.int16),
        Values(noisy.astype(np.float64)),
        quantized(noisy, 0.02),
    ]
    together = comparison.compare_each(Values(reference), edges)
    assert together == [comparison.compare(Values(reference), edge) for edge in edges]
    assert [found.saturated > 0 for found in together] == [True, False, True, False, False, False, False, True]
    assert [found.edge_nonfinite for found in together] == [0, 0, 0, 0, 1, 0, 0, 0]


def test_the_mirrored_comparison_is_that_of_the_exchanged_sides():
    rng = np.random.default_rng(7)
    one, other = rng.integers(-50, 50, (2, 3000)).astype(np.float32)  # whose sums are exact in any order
    other[5] = np.inf
    for left, right in ((one, one * 2), (one, other)):
        found = comparison.compare(Values(left), Values(right)).mirrored()
        assert found == comparison.compare(Values(right), Values(left))


def test_sums_keep_the_digits_that_float32_loses():
    reference = np.zeros((1 << 11, 1 << 12), np.float32)
    edge = np.full(reference.shape, 0.1, np.float32)
    exact = float(np.float32(0.1))
    assert float(np.cumsum(edge)[-1]) / edge.size != pytest.approx(exact, rel=1e-2)
    statistics = of((reference, edge))
    assert statistics.mean_bias == pytest.approx(exact, rel=2e-5)
    assert statistics.rmse == pytest.approx(exact, rel=2e-5)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_squares_that_float32_has_no_room_for(scale):
    reference = np.array([1, 2, 3], np.float32)
    edge = np.array([1, 2, 4], np.float32)
    plain, scaled = of((reference, edge)), of((reference * np.float32(scale), edge * np.float32(scale)))
    for name in ("nrmse", "sqnr_db", "cosine"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-6)


def test_int8_steps_that_float32_has_no_room_for():
    reference, stored = np.array([1, 2, 3.5], np.float32), np.array([1, 2, 3], np.int8)
    for scale in (1.0, 1e-14, 1e14):
        spec = TensorSpec("x", (3,), np.dtype(np.int8), Quantization((scale,), (0,)))
        assert of((reference * np.float32(scale), stored), spec=spec).nrmse == pytest.approx(np.sqrt(1 / 12) / 2.5)


def test_a_tiny_angle_keeps_its_digits():
    reference = np.array([1.0, 0.0])
    edge = np.array([1.0, 1e-9])
    assert 1 - of((reference, edge)).cosine == pytest.approx(0.5e-18, abs=1e-16)
    many = np.tile(np.array([1.0, 1.0], np.float32), 4096)
    tilted = many * np.tile(np.array([1.001, 0.999], np.float32), 4096)
    assert 1 - of((many, tilted)).cosine == pytest.approx(0.5e-6, rel=1e-3)


def test_values_that_stand_in_two_comparisons_are_the_same_in_both(frames):
    reference, edge = frames[0]
    shared = Values(reference)
    first, second = DriftStatistics(), DriftStatistics()
    first.update(shared, edge)
    second.update(edge, shared)
    np.testing.assert_equal(first.summary(), of((reference, edge)).summary())
    assert second.reference_square_sum == first.edge_square_sum
    assert (second.edge_min, second.edge_max) == (first.reference_min, first.reference_max)


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
