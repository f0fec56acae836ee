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
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from edge_exray import errors, files
from edge_exray.contract import InputContract
from edge_exray.conversion import batch, modes, promises
from edge_exray.conversion.ranges import measure
from edge_exray.linting.linter import lint_graph
from edge_exray.models import metadata, saved_model
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel

REQUEST, STEP, RESULT, ERROR, FRAMES = "request.json", "step", "result.json", "error.json", "frames"
PREFIX = "input/"
"""Precedes the name of an input in the .npz of a frame."""

# Type of the activations to the set of kernels.
_KERNELS = {
    None: "TFLITE_BUILTINS",
    "int8": "TFLITE_BUILTINS_INT8",
    "int16": "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
}


def main(folder: pathlib.Path) -> None:
    """Converts what `request.json` in the folder asks for."""
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    _step(folder, "importing TensorFlow")
    import tensorflow as tf

    _step(folder, "loading the SavedModel")
    path = request["saved_model"]
    wanted = [modes.find(name) for name in request["modes"]]
    loaded = saved_model.load(path)
    signature, function = saved_model.select_function(loaded, path, request["signature"])
    notes = []
    if function is not loaded.signatures[signature]:
        notes.append(
            f"signature {signature!r} parses tf.Examples: converted from the dense features behind the parsing"
        )
    has_loop = batch.has_loop(function)
    if has_loop and batch.is_open(function):
        _step(folder, "fixing the batch to 1")
        function = batch.fix(function, saved_model.freeze(function, f"signature {signature!r} of {path}"))
        notes.append("the model has a loop, which TensorFlow Lite runs on a fixed batch only: fixed to 1")
    inputs = _specs(function.structured_input_signature[1])
    outputs = _specs(function.structured_outputs)
    contract = _contract(request, inputs, outputs)
    calibrated = [mode for mode in wanted if mode.activations]
    if has_loop and calibrated:
        # Only what is converted tells: a loop of Keras 2's LSTM becomes one fused op.
        float_model = _convert(loaded, function, modes.find("none"), folder, sorted(inputs), request)
        _refuse_loop(EdgeModel(float_model, kernels="builtin"), calibrated[0], path)
    models = {}
    for mode in wanted:
        content = _convert(loaded, function, mode, folder, sorted(inputs), request)
        _step(folder, f"checking the {mode.name} model")
        if contract is not None:
            content = metadata.attach(content, contract)
        edge = EdgeModel(content, kernels="builtin", allow_tensorflow_ops=True)
        promises.check(edge, mode, inputs, outputs)
        (folder / f"{mode.name}.tflite").write_bytes(content)
        models[mode.name] = {
            "inputs": {name: _json(spec) for name, spec in edge.inputs.items()},
            "outputs": {name: _json(spec) for name, spec in edge.outputs.items()},
            "bytes": len(content),
            "fingerprint": edge.fingerprint,
            "lint": lint_graph(edge.graph).to_dict(),
            "notes": _select_ops(edge),
            "left_float": promises.left_float(edge, mode),
        }
    ranges = None
    if "none" in models and any(modes.find(name).needs_calibration for name in models):
        frames = _frames(folder, sorted(inputs), "measuring ranges")
        ranges = measure((folder / "none.tflite").read_bytes(), frames).to_dict()
    result = {
        "signature": signature,
        "notes": notes,
        "source_fingerprint": saved_model.fingerprint(path),
        "source_bytes": saved_model.size(path),
        "versions": {"tensorflow": tf.__version__, "python": platform.python_version(), "numpy": np.__version__},
        "models": models,
        "ranges": ranges,
    }
    files.write_atomically(folder / RESULT, json.dumps(result).encode())


def _contract(
    request: dict[str, Any], inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]
) -> InputContract | None:
    if request["input_contract"] is None:
        return None
    contract = InputContract.from_dict(request["input_contract"])
    contract.check_model(*({name: spec.shape for name, spec in specs.items()} for specs in (inputs, outputs)))
    return contract


def _refuse_loop(float_edge: EdgeModel, mode: modes.Mode, path: str) -> None:
    if any(op.name == "WHILE" for op in float_edge.graph.ops):
        raise errors.ConversionError(
            f"{path} cannot become {mode.name}: it has a loop, such as an LSTM or GRU layer, and TensorFlow's "
            "calibrator cannot measure the tensors inside of it (it crashes); choose dynamic_range, float16 or none"
        )


def _convert(
    loaded: Any, function: Any, mode: modes.Mode, folder: pathlib.Path, inputs: list[str], request: dict[str, Any]
) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    _step(folder, f"converting to {mode.name}")
    # The one route that freezes every variable for all versions of Keras: from_saved_model may abort or leave some.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded)
    if mode.quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode.weights:
        converter.target_spec.supported_types = [tf.as_dtype(mode.weights)]
    converter.target_spec.supported_ops = [tf.lite.OpsSet[_KERNELS[mode.activations]]]
    if request["select_tf_ops"]:
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
    if mode.activations:
        converter.representative_dataset = lambda: _calibrate(mode, folder, inputs)
    if mode.io:
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(mode.io)
    try:
        return converter.convert()
    except ConverterError as e:
        missing = _without_kernels(str(e), function)
        if not missing:
            raise
        raise errors.ConversionError(
            f"{request['saved_model']} has ops without TensorFlow Lite kernels for {mode.name}: {'; '.join(missing)}; "
            "move them into the preprocessing of the app and of the reference and export a signature that begins "
            "behind them, or convert with select_tf_ops=True and link TensorFlow's kernels into the app"
        ) from e


def _without_kernels(message: str, function: Any) -> list[str]:
    """Returns the ops that a converter's message says it has no kernels for, each with the nodes that are such ops."""
    # The op of a node is either said by name, or it is in the list of those that Select TF ops has.
    said = set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", message))
    for line in re.findall(r"^(?:TF Select|Custom) ops: (.*)", message, re.MULTILINE):
        said.update(re.findall(r"\w+", line))
    graph_def = function.graph.as_graph_def()
    nodes = [*graph_def.node, *(node for body in graph_def.library.function for node in body.node_def)]
    found = []
    for op in sorted(said):
        places = sorted({node.name for node in nodes if node.op == op})
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        found.append(f"{op} at {', '.join(places[:5])}{more}" if places else op)
    return found


def _select_ops(edge: EdgeModel) -> list[str]:
    names = sorted({op.name for op in edge.graph.ops if op.is_custom and op.name.startswith("Flex")})
    return [f"needs TensorFlow's kernels in the app: {', '.join(names)}"] if names else []


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
        document = {"type": kind.__name__, "message": str(error)}
        files.write_atomically(folder / ERROR, json.dumps(document).encode())
        traceback.print_exception(kind, error, trace)

    return hook


if __name__ == "__main__":
    work = pathlib.Path(sys.argv[1])
    sys.excepthook = _report(work)
    main(work)
