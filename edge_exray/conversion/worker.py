"""The child process that converts: `python -m edge_exray.conversion.worker FOLDER`.

TensorFlow's converter can abort the process it runs in. This one has nothing to lose: all it knows is a folder,
in which it finds `request.json` and the calibration frames, and leaves

    step           what it is doing, for the parent to tell what it died of
    <mode>.tflite  the models
    result.json    facts about them, written last
    error.json     `{"type", "message"}` of the exception that ended it, in place of the result
"""

import dataclasses
import json
import pathlib
import platform
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.conversion import modes, promises
from edge_exray.conversion.ranges import measure
from edge_exray.linting.linter import lint_graph
from edge_exray.models import saved_model
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel

REQUEST, STEP, RESULT, ERROR, FRAMES = "request.json", "step", "result.json", "error.json", "frames"
PREFIX = "input/"
"""Precedes the name of an input in the .npz of a frame."""


def main(folder: pathlib.Path) -> None:
    """Converts what `request.json` in the folder asks for."""
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    _step(folder, "importing TensorFlow")
    import tensorflow as tf

    _step(folder, "loading the SavedModel")
    path = request["saved_model"]
    loaded = saved_model.load(path)
    signature = saved_model.resolve_signature(loaded, path, request["signature"])
    function = loaded.signatures[signature]
    inputs = _specs(function.structured_input_signature[1])
    outputs = _specs(function.structured_outputs)
    models = {}
    for mode in map(modes.find, request["modes"]):
        content = _convert(loaded, function, mode, folder, sorted(inputs))
        _step(folder, f"checking the {mode.name} model")
        edge = EdgeModel(content, kernels="builtin")
        promises.check(edge, mode, inputs, outputs)
        (folder / f"{mode.name}.tflite").write_bytes(content)
        models[mode.name] = {
            "inputs": {name: _json(spec) for name, spec in edge.inputs.items()},
            "outputs": {name: _json(spec) for name, spec in edge.outputs.items()},
            "bytes": len(content),
            "fingerprint": edge.fingerprint,
            "lint": lint_graph(edge.graph).to_dict(),
        }
    ranges = None
    if "none" in models and any(modes.find(name).needs_calibration for name in models):
        frames = _frames(folder, sorted(inputs), "measuring ranges")
        ranges = measure((folder / "none.tflite").read_bytes(), frames).to_dict()
    result = {
        "signature": signature,
        "source_fingerprint": saved_model.fingerprint(path),
        "versions": {"tensorflow": tf.__version__, "python": platform.python_version(), "numpy": np.__version__},
        "models": models,
        "ranges": ranges,
    }
    (folder / RESULT).write_text(json.dumps(result), "utf-8")


def _convert(loaded: Any, function: Any, mode: modes.Mode, folder: pathlib.Path, inputs: list[str]) -> bytes:
    import tensorflow as tf

    _step(folder, f"converting to {mode.name}")
    # The one route that freezes every variable for all versions of Keras: from_saved_model may abort or leave some.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded)
    if mode.quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode.weights:
        converter.target_spec.supported_types = [tf.as_dtype(mode.weights)]
    if mode.integer_kernels:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _calibrate(mode, folder, inputs)
    if mode.io:
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(mode.io)
    return converter.convert()


def _calibrate(mode: modes.Mode, folder: pathlib.Path, inputs: list[str]) -> Iterator[dict[str, np.ndarray]]:
    yield from _frames(folder, inputs, f"calibrating {mode.name}")
    _step(folder, f"quantizing to {mode.name}")


def _frames(folder: pathlib.Path, inputs: list[str], doing: str) -> Iterator[dict[str, np.ndarray]]:
    paths = sorted((folder / FRAMES).iterdir())
    for i, path in enumerate(paths, 1):
        _step(folder, f"{doing} on frame {i} of {len(paths)}")
        with np.load(path) as stored:
            frame = {name.removeprefix(PREFIX): array for name, array in stored.items()}
        if sorted(frame) != inputs:
            raise errors.DataError(f"calibration frame {i} has the inputs {sorted(frame)}, the model has {inputs}")
        yield frame


def _step(folder: pathlib.Path, step: str) -> None:
    (folder / STEP).write_text(step, "utf-8")


def _specs(tensors: dict[str, Any]) -> dict[str, TensorSpec]:
    return {name: saved_model.describe(name, tensor) for name, tensor in tensors.items()}


def _json(spec: TensorSpec) -> dict[str, Any]:
    return {**dataclasses.asdict(spec), "dtype": str(spec.dtype)}


def _report(folder: pathlib.Path) -> Any:
    """Returns an exception hook that also leaves the error where the parent looks for it."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        (folder / ERROR).write_text(json.dumps({"type": kind.__name__, "message": str(error)}), "utf-8")
        traceback.print_exception(kind, error, trace)

    return hook


if __name__ == "__main__":
    work = pathlib.Path(sys.argv[1])
    sys.excepthook = _report(work)
    main(work)
