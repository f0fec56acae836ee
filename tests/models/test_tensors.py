import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_exray.models.tensors import Quantization, TensorSpec
from edge_exray.models.tflite import EdgeModel

DTYPES = [np.dtype(d) for d in ("int8", "uint8", "int16")]


@st.composite
def quantizations(draw) -> tuple[Quantization, np.dtype]:
    dtype = draw(st.sampled_from(DTYPES))
    limits = np.iinfo(dtype)
    scale = draw(st.floats(2**-20, 2**10, width=32))
    return Quantization((scale,), (draw(st.integers(limits.min, limits.max)),)), dtype


@given(quantizations(), hnp.arrays(np.float64, hnp.array_shapes(max_dims=3), elements=st.floats(0, 1)))
def test_round_trip_loses_half_a_step_at_most(case, position):
    quantization, dtype = case
    low, high = quantization.range(dtype)
    real = (low + position * (high - low)).astype(np.float32)
    stored = quantization.quantize(real, dtype)
    # float32 has 24 bits: in 65,536 steps it is off by less than a hundredth of one.
    assert np.abs(quantization.dequantize(stored) - real).max() <= 0.51 * quantization.scale[0]
    assert (stored.dtype, stored.shape) == (dtype, real.shape)


@given(quantizations())
def test_every_stored_value_survives_the_way_to_real_and_back(case):
    quantization, dtype = case
    limits = np.iinfo(dtype)
    stored = np.arange(limits.min, limits.max + 1).astype(dtype)
    np.testing.assert_array_equal(quantization.quantize(quantization.dequantize(stored), dtype), stored)


@pytest.mark.parametrize("dtype", [*DTYPES, np.dtype("int32")])
@pytest.mark.parametrize("zero_point", [0, 3])
def test_values_out_of_range_are_clipped_and_nan_is_zero(dtype, zero_point):
    quantization = Quantization((0.5,), (zero_point,))
    low, high = quantization.range(dtype)
    real = np.array([2 * low - 9, 3 * low - 9, -np.inf, 2 * high, 3 * high, np.inf, np.nan], np.float32)
    limits = np.iinfo(dtype)
    assert quantization.quantize(real, dtype).tolist() == [limits.min] * 3 + [limits.max] * 3 + [zero_point]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_channel_has_its_own_scale_and_zero_point(axis):
    quantization = Quantization((0.5, 2.0), (0, 10), axis)
    stored = np.moveaxis(np.array([[[10, -3]], [[10, 11]]], np.int8), 0, axis)
    real = np.moveaxis(np.array([[[5.0, -1.5]], [[0.0, 2.0]]], np.float32), 0, axis)
    np.testing.assert_array_equal(quantization.dequantize(stored), real)
    np.testing.assert_array_equal(quantization.quantize(real, np.dtype(np.int8)), stored)
    assert quantization.range(np.dtype(np.int8)) == (2.0 * (-128 - 10), 2.0 * (127 - 10))


def test_wide_integers_are_shifted_before_they_are_rounded_to_float32():
    assert Quantization((1.0,), (2**24,)).dequantize(np.array([2**24 + 1], np.int32)).tolist() == [1.0]


def test_same_as_tensorflow():
    import tensorflow as tf

    scale = 1 / 32  # exact, so that both sides clip at the same values
    real = np.random.default_rng(0).uniform(-6, 6, 1000).astype(np.float32)
    expected = tf.quantization.fake_quant_with_min_max_args(real, -128 * scale, 127 * scale)
    quantization = Quantization((scale,), (0,))
    np.testing.assert_allclose(quantization.dequantize(quantization.quantize(real, np.dtype(np.int8))), expected)


def test_same_as_the_quantize_and_dequantize_ops_of_a_model(edge_models, images):
    model = EdgeModel(edge_models["int8_float_io"], kernels="builtin", preserve_tensors=True)
    first, last = model.graph.ops[0], model.graph.ops[-1]
    assert (first.name, last.name) == ("QUANTIZE", "DEQUANTIZE")
    for image in 1.5 * images:  # also beyond what was seen in calibration
        probabilities = model.infer({"image": image[None]})["probabilities"]
        spec = model.graph.tensors[first.outputs[0]].spec
        np.testing.assert_array_equal(
            spec.quantization.quantize(image[None], spec.dtype), model.tensor(first.outputs[0])
        )
        spec = model.graph.tensors[last.inputs[0]].spec
        np.testing.assert_array_equal(spec.real(model.tensor(last.inputs[0])), probabilities)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (np.array([1.5], np.float64), "float32", [1.5]),
        (np.array([200], np.uint8), "float32", [200.0]),
        (np.array([7], np.int64), "int32", [7]),
        (np.array([True]), "int32", [1]),
    ],
)
def test_cast_keeps_values(value, dtype, expected):
    cast = TensorSpec("x", (1,), np.dtype(dtype)).cast(value)
    assert cast.dtype == dtype
    assert cast.tolist() == expected


@pytest.mark.parametrize(
    ("value", "dtype", "quantization", "words"),
    [
        (np.array([1.5]), "int32", None, "is float64, the model needs int32"),
        (np.array([3, 2**31]), "int32", None, "values that do not fit int32, from 3 to 2147483648"),
        (np.array([200], np.uint8), "int8", None, "values that do not fit int8"),
        (np.array([1], np.uint8), "int8", Quantization((1.0,), (0,)), "is uint8, the model stores int8"),
        (np.array([b"1"], object), "float32", None, "is object, the model needs float32"),
    ],
)
def test_cast_that_would_change_values_is_refused(value, dtype, quantization, words):
    with pytest.raises(ValueError, match=words):
        TensorSpec("x", (1,), np.dtype(dtype), quantization).cast(value)


@pytest.mark.parametrize(
    ("shape", "fits"), [((3, 4), True), ((1, 4), True), ((3, 5), False), ((4,), False), ((3, 4, 1), False)]
)
def test_unknown_dimensions_take_any_size(shape, fits):
    assert TensorSpec("x", (-1, 4), np.dtype(np.float32)).fits(shape) is fits
