"""Other ways to compare the layers of a float and a quantised edge model, for the benchmarks to measure against."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import zoo
from edge_exray.frames.functions import Frame
from edge_exray.replay.replayer import ModelPaths

Contestant = Callable[[Sequence[Frame]], Any]


def ai_edge_quantizer(paths: ModelPaths) -> Contestant:
    """Returns ai-edge-quantizer's comparison with the three of its metrics that are nearest to ours.

    It is what `Quantizer.validate` calls. That stops where constants of one name differ in shape, which TensorFlow's
    converter makes; here its metrics skip those.
    """
    from ai_edge_quantizer import model_validator
    from ai_edge_quantizer.utils import validation_utils
    from ai_edge_quantizer.utils.validation_utils import ValidationErrorMetric

    metrics = [ValidationErrorMetric.MSE, ValidationErrorMetric.COSINE_SIMILARITY, ValidationErrorMetric.SNR]

    def skipping(metric: ValidationErrorMetric) -> Callable[[Any, Any], float]:
        function = validation_utils.get_validation_func(metric)
        return lambda edge, reference: function(edge, reference) if np.size(edge) == np.size(reference) else np.nan

    functions = [skipping(metric) for metric in metrics]
    models = [pathlib.Path(path).read_bytes() for path in (paths.float_edge, paths.edge)]

    def run(frames: Sequence[Frame]) -> Any:
        data = {zoo.SIGNATURE: [frame.reference for frame in frames]}
        return model_validator.compare_model(*models, data, metrics, functions, num_threads=1)

    return run


def quantization_debugger(paths: ModelPaths, calibration: Sequence[Mapping[str, np.ndarray]]) -> Contestant:
    """Returns TensorFlow's debugger with its own metrics: five per layer, of the differences only."""
    import tensorflow as tf

    loaded = tf.saved_model.load(paths.cloud)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures[zoo.SIGNATURE]], loaded)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: iter(calibration)
    current: list[Frame] = []

    def data() -> Iterator[list[np.ndarray]]:
        for frame in current:
            yield list(frame.reference.values())

    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=data)

    def run(frames: Sequence[Frame]) -> Any:
        current[:] = frames
        debugger.run()
        return debugger.layer_statistics

    return run


def plain_script(paths: ModelPaths) -> Contestant:
    """Returns what one writes in an hour: both interpreters, get_tensor of every tensor of the same name, NumPy."""
    from ai_edge_litert.interpreter import Interpreter

    sides = [Interpreter(path, experimental_preserve_all_tensors=True) for path in (paths.float_edge, paths.edge)]
    for side in sides:
        side.allocate_tensors()
    by_name = {detail["name"]: detail for detail in sides[0].get_tensor_details()}
    named = [(by_name[d["name"]], d) for d in sides[1].get_tensor_details() if d["name"] in by_name]
    pairs = [(detail, other) for detail, other in named if np.array_equal(detail["shape"], other["shape"])]

    def real(side: Any, detail: dict[str, Any]) -> np.ndarray:
        parameters = detail["quantization_parameters"]
        value = side.get_tensor(detail["index"]).astype(np.float32)
        if len(parameters["scales"]) != 1:
            return value
        return (value - parameters["zero_points"][0]) * parameters["scales"][0]

    def run(frames: Sequence[Frame]) -> Any:
        figures: dict[str, list[tuple[float, float, float]]] = {}
        for frame in frames:
            for side in sides:
                [detail] = side.get_input_details()
                [value] = frame.reference.values()
                if detail["dtype"] == np.int8:
                    scale, zero_point = detail["quantization"]
                    value = np.clip(np.round(value / scale) + zero_point, -128, 127).astype(np.int8)
                side.set_tensor(detail["index"], value)
                side.invoke()
            for detail, other in pairs:
                r, e = real(sides[0], detail).ravel(), real(sides[1], other).ravel()
                nrmse = np.sqrt(np.mean((e - r) ** 2)) / max(r.max() - r.min(), 1e-30)
                cosine = np.dot(r, e) / max(np.linalg.norm(r) * np.linalg.norm(e), 1e-30)
                figures.setdefault(other["name"], []).append((nrmse, cosine, np.abs(e - r).max()))
        return figures

    return run
