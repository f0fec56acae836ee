"""The real values of the constants of a .tflite, and whether two of them are equal but for rounding."""

import dataclasses

import numpy as np

from edge_exray.models.graph import Graph

# float32 constants of two conversions: batch norm may have been folded in another order.
_RELATIVE = 1e-5
_SLACK = 1e-3


@dataclasses.dataclass(frozen=True)
class Constant:
    """Real values of a constant tensor.

    Attributes:
        values: float64, in the shape of the tensor.
        step: float64, broadcastable to `values`: distance between two values that the tensor can store; 0 for float32.
    """

    values: np.ndarray
    step: np.ndarray


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a constant lies from its reference.

    Attributes:
        equal: No element differs by more than the rounding of float32.
        rounded: Every element lies within half a step, or within rounding.
        steps: Largest difference in steps; None when the constant is stored as float32.
        relative: Largest difference as a share of the largest reference value.
        share: Share of the elements that lie beyond half a step.
    """

    equal: bool
    rounded: bool
    steps: float | None
    relative: float
    share: float


def is_real(graph: Graph, index: int) -> bool:
    """Returns whether a constant holds real numbers, stored as floats or quantised, and not shapes or indices."""
    spec = graph.tensors[index].spec
    return spec.dtype.kind == "f" or (spec.quantization is not None and spec.dtype.kind in "iu")


def read(graph: Graph, index: int) -> Constant | None:
    """Reads a constant that an op has as input, directly or unpacked from float16.

    Returns:
        None when the tensor is computed, holds no real numbers, or is not readable (see `Tensor.unreadable`).
    """
    source = graph.stored_constant(index)
    if source is None or not is_real(graph, source) or graph.tensors[source].unreadable:
        return None
    spec, stored = graph.tensors[source].spec, graph.constant(source)
    wide = stored.astype(np.float64)
    if spec.dtype.kind == "f":
        # Of the size of a number: the step below a power of two is half of the one above, which counts here.
        step = np.spacing(np.abs(stored)) if spec.dtype == np.float16 else np.zeros(())
        return Constant(wide, step.astype(np.float64))
    assert spec.quantization is not None
    scale, zero_point = spec.quantization.broadcast(stored.ndim)
    return Constant((wide - zero_point) * scale, scale)


def compare(constant: Constant, reference: Constant) -> Difference | None:
    """Compares a constant with its reference of higher precision.

    Returns:
        None when the shapes differ by more than dimensions of size one.
    """
    if _dense_shape(constant.values) != _dense_shape(reference.values):
        return None
    real = reference.values.reshape(constant.values.shape)
    distance = np.abs(constant.values - real)
    largest = float(np.abs(real).max(initial=0.0))
    rounding = _RELATIVE * np.abs(real) + 0.1 * _RELATIVE * largest
    # Written so that NaN on either side counts as a difference.
    beyond = ~(distance <= (0.5 + _SLACK) * constant.step + rounding)
    is_stepped = bool(np.any(constant.step))
    with np.errstate(divide="ignore", invalid="ignore"):
        in_steps = np.where(distance <= rounding, 0.0, distance / constant.step)
    worst = float(distance.max(initial=0.0))
    return Difference(
        equal=bool((distance <= rounding).all()),
        rounded=not beyond.any(),
        steps=float(in_steps.max(initial=0.0)) if is_stepped else None,
        relative=worst / largest if largest else (0.0 if worst == 0 else float("inf")),
        share=float(beyond.mean()) if beyond.size else 0.0,
    )


def factor(constant: Constant, reference: Constant) -> float | None:
    """Returns the number, by least squares, that turns the reference into the constant; None when none does."""
    real = reference.values.reshape(constant.values.shape)
    power = float(np.sum(np.square(real)))
    if not power:
        return None
    slope = float(np.sum(real * constant.values)) / power
    error = np.square(constant.values - slope * real)
    # Stored values that are scaled and rounded once more lie a step apart at most.
    allowed = np.square(constant.step) + np.square(_RELATIVE * np.abs(real).max())
    return slope if float(error.mean()) <= float(np.mean(allowed)) else None


def _dense_shape(values: np.ndarray) -> tuple[int, ...]:
    return tuple(n for n in values.shape if n != 1)
