"""Damages .tflite files the way faults of converters and file systems do, and keeps them loadable.

Each function takes the bytes of a file and returns those of the damaged one.
"""

from collections.abc import Callable

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_FILTER_INPUT = 1
_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8}


def scale_weights(content: bytes, op_index: int, factor: float) -> bytes:
    """Multiplies the filter of one convolution or dense layer, and leaves its bias as it is.

    Args:
        content: The bytes of a .tflite.
        op_index: Index of the op in subgraph 0.
        factor: What the weights are multiplied by; int8 weights are rounded and clipped, their scales stay.
    """

    def scale(model: schema.ModelT) -> None:
        def times_factor(stored: np.ndarray) -> np.ndarray:
            if stored.dtype.kind == "f":
                return stored * stored.dtype.type(factor)
            limits = np.iinfo(stored.dtype)
            return np.clip(np.round(stored * factor), limits.min, limits.max).astype(stored.dtype)

        _change_constant(model, op_index, _FILTER_INPUT, times_factor)

    return _edit(content, scale)


def _change_constant(
    model: schema.ModelT, op_index: int, input_index: int, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Changes the stored values of a constant input of an op."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.operators[op_index].inputs[input_index]]
    stored = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(_DTYPES[tensor.type])
    changed = change(stored)
    assert not np.array_equal(changed, stored), f"input {input_index} of op {op_index} did not change"
    model.buffers[tensor.buffer].data = np.frombuffer(changed.tobytes(), np.uint8)


def _edit(content: bytes, change: Callable[[schema.ModelT], None]) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(content)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
