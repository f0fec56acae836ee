"""What this machine can do at best, measured with the kernels that models run on.

The model is the roofline of Williams, Waterman and Patterson (CACM 52(4), 2009): an op attains no more than the peak of
the arithmetic unit, and no more than its operations per byte times the bandwidth of the memory. One bandwidth is too
crude for edge models: their tensors fit the caches, which are several times as fast as the memory behind them. So
the bandwidth is measured for several sizes of what an op touches, as in the cache-aware roofline (Ilic, Pratas and
Sousa, IEEE Computer Architecture Letters 13(1), 2014).

Each ceiling is the best of many runs of one generated op in LiteRT, on its production kernels: a 1 x 1 convolution of
256 channels for the peaks, which attained as much as any larger or smaller one that was tried; ADD for the bandwidths.
NumPy copies as fast as LiteRT adds where the tensors fit a cache or fit none, but has no int8 product of matrices and
pays more for the call of a small op.
"""

import dataclasses
import functools
import time
from typing import Any

import numpy as np

from edge_exray.models import flatbuffer
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.arithmetic import Work

_PIXELS, _CHANNELS = 28, 256
# From what fits the first caches to what fits none, three tensors together.
_TOUCHED_BYTES = (3 << 16, 3 << 18, 3 << 20, 3 << 22, 3 << 23, 3 << 25)
_SECONDS = 0.1
_FEWEST_RUNS = 5
_PER_GIGA = 1e9
_MS = 1e3


@dataclasses.dataclass(frozen=True)
class Bandwidth:
    """Speed of the caches and the memory for an op.

    Attributes:
        bytes: What it reads and writes.
        gb_per_s: Gigabytes (1e9) a second.
    """

    bytes: int
    gb_per_s: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The ceilings of a machine.

    Attributes:
        num_threads: Threads that they hold for.
        gflops_float32: Peak of 1e9 float operations a second.
        gflops_int8: Peak of 1e9 operations on integers of 8 bits a second.
        gb_per_s: Bandwidth of the memory: of tensors that fit no cache.
        bandwidths: Bandwidth by size, smallest first; the last one is that of the memory.
    """

    num_threads: int
    gflops_float32: float
    gflops_int8: float
    gb_per_s: float
    bandwidths: tuple[Bandwidth, ...]

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Roofline":
        """Reads `roofline` of a document of `schemas/kernel_profile.schema.json`."""
        return cls(**{**document, "bandwidths": tuple(Bandwidth(**each) for each in document["bandwidths"])})

    def bandwidth(self, touched: int) -> float:
        """Returns the gigabytes a second for an op that touches so many bytes, between the sizes that were measured."""
        sizes, speeds = zip(*((b.bytes, b.gb_per_s) for b in self.bandwidths), strict=True)
        return float(np.interp(np.log(max(touched, 1)), np.log(sizes), speeds))

    def bound_ms(self, work: Work, in_integers: bool, inference_bytes: int) -> float | None:
        """Returns the least time in milliseconds that an op can take; None when its work is not known or none.

        What an op reads has just been written, and may lie in a cache that holds it. Its weights were read an inference
        ago: they come from where all that an inference touches has room.

        Args:
            work: What the op has to do.
            in_integers: Whether it multiplies integers. Those of 16 bits have no peak of their own; they are slower.
            inference_bytes: What all ops of the model read and write together.
        """
        if work.flops is None or work.bytes is None or not (work.flops or work.bytes):
            return None
        peak = self.gflops_int8 if in_integers else self.gflops_float32
        moving = (work.bytes - work.constant_bytes) / self.bandwidth(work.bytes)
        moving += work.constant_bytes / self.bandwidth(inference_bytes)
        return _MS * max(work.flops / peak, moving) / _PER_GIGA


@functools.cache
def measure_roofline(num_threads: int = 1) -> Roofline:
    """Measures the ceilings of this machine in about a second; later calls of the process return the same.

    Args:
        num_threads: Threads of the interpreter.
    """
    bandwidths = tuple(
        Bandwidth(size, size / _best_seconds(_addition(size // 12), num_threads) / _PER_GIGA) for size in _TOUCHED_BYTES
    )
    return Roofline(
        num_threads=num_threads,
        gflops_float32=_peak("float32", num_threads),
        gflops_int8=_peak("int8", num_threads),
        gb_per_s=bandwidths[-1].gb_per_s,
        bandwidths=bandwidths,
    )


def _peak(dtype: str, num_threads: int) -> float:
    operations = 2 * _PIXELS**2 * _CHANNELS**2
    return operations / _best_seconds(convolution(dtype, _PIXELS, _CHANNELS), num_threads) / _PER_GIGA


def _best_seconds(content: bytes, num_threads: int) -> float:
    model = EdgeModel(content, num_threads=num_threads)
    for details in model.interpreter.get_input_details():
        # Ones, because memory that nobody has written is not there yet and costs nothing to read.
        model.interpreter.set_tensor(details["index"], np.ones(details["shape"], details["dtype"]))
    model.interpreter.invoke()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or len(times) < _FEWEST_RUNS:
        start = time.perf_counter()
        model.interpreter.invoke()
        times.append(time.perf_counter() - start)
    # The best run: whatever else the machine does can only slow an op.
    return min(times)


def convolution(dtype: str, pixels: int, channels: int) -> bytes:
    """Returns a .tflite with a 1 x 1 convolution of a square image that keeps the number of channels.

    Args:
        dtype: `"float32"` or `"int8"`.
        pixels: Height and width of the image.
        channels: Channels.
    """
    from ai_edge_litert import schema_py_generated as schema

    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    image, weights = (1, pixels, pixels, channels), (channels, 1, 1, channels)
    values = np.random.default_rng(0).integers(-127, 128, weights).astype(dtype)
    bias = np.zeros(channels, "float32" if dtype == "float32" else "int32")
    # Of any scales the kernels do the same; these keep the sums within the output.
    tensors = [
        _tensor(image, dtype, 1.0),
        _tensor(weights, dtype, 1.0, values),
        _tensor(bias.shape, bias.dtype.name, 1.0, bias),
        _tensor(image, dtype, 1024.0),
    ]
    return _model("CONV_2D", tensors, inputs=1, options=(options, "Conv2DOptions"))


def _addition(elements: int) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    tensors = [_tensor((elements,), "float32", 1.0) for _ in range(3)]
    return _model("ADD", tensors, inputs=2, options=(schema.AddOptionsT(), "AddOptions"))


def _tensor(shape: tuple[int, ...], dtype: str, scale: float, values: np.ndarray | None = None) -> tuple[Any, Any]:
    from ai_edge_litert import schema_py_generated as schema

    tensor, buffer = schema.TensorT(), schema.BufferT()
    tensor.shape = np.array(shape, np.int32)
    tensor.type = getattr(schema.TensorType, dtype.upper())
    if dtype != "float32":
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.array([scale], np.float32)
        tensor.quantization.zeroPoint = np.zeros(1, np.int64)
    if values is not None:
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return tensor, buffer


def _model(op: str, tensors: list[tuple[Any, Any]], *, inputs: int, options: tuple[Any, str]) -> bytes:
    """Returns a .tflite with one op: the first tensors are inputs of the model, the last is its output."""
    from ai_edge_litert import schema_py_generated as schema

    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    model.version = 3
    # Buffer 0 means no buffer.
    model.buffers = [schema.BufferT(), *(buffer for _, buffer in tensors)]
    for i, (tensor, _) in enumerate(tensors):
        tensor.name, tensor.buffer = f"t{i}", i + 1
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, op)
    code.version = 3
    operator.inputs = np.arange(len(tensors) - 1, dtype=np.int32)
    operator.outputs = graph.outputs = np.array([len(tensors) - 1], np.int32)
    operator.builtinOptions = options[0]
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, options[1])
    graph.tensors, graph.operators = [tensor for tensor, _ in tensors], [operator]
    graph.inputs = np.arange(inputs, dtype=np.int32)
    model.operatorCodes, model.subgraphs = [code], [graph]
    return flatbuffer.pack(model, 1024)
