"""The child process that converts: `python -m edge_exray.conversion.worker FOLDER`.

TensorFlow's converter can abort the process it runs in. This one has nothing to lose: all it knows is a folder,
in which it finds `request.json` and the calibration frames, and leaves

    step           what it is doing, for the parent to tell what it died of
    <mode>.tflite  the models
    result.json    facts about them, written last
    error.json     `{"type", "message"}` of the exception that ended it, in place of the result
"""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import platform
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from edge_exray import errors, files, processes
from edge_exray.contract import InputContract
from edge_exray.conversion import batch, layers, modes, promises, recipes
from edge_exray.conversion.ranges import measure
from edge_exray.linting.linter import lint_graph
from edge_exray.models import metadata, saved_model
from edge_exray.models.alignment import pair_by_name
from edge_exray.models.graph import Op, tensorflow_ops
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

# The first TensorFlow that was seen to convert fused LSTMs to float16; 2.16 takes memory until there is no more.
_FUSED_LSTM_FLOAT16 = (2, 21)


def main(folder: pathlib.Path) -> None:
    """Converts what `request.json` in the folder asks for."""
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    _step(folder, "importing TensorFlow")
    import tensorflow as tf

    _step(folder, "loading the SavedModel")
    path = request["saved_model"]
    wanted = [modes.find(name, request["recipe"]) for name in request["modes"]]
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
    source = _Source(loaded, function, folder, request)
    calibrated = [mode for mode in wanted if mode.needs_calibration]
    if has_loop:
        _refuse_loop(source, wanted, path)
    models = {}
    for mode in wanted:
        made = source.make(mode)
        content = made.content
        _step(folder, f"checking the {mode.name} model")
        if contract is not None:
            content = metadata.attach(content, contract)
        edge = _open(content, mode)
        kept = source.check(edge, made)
        promises.check(edge, mode, inputs, outputs, kept)
        (folder / f"{mode.name}.tflite").write_bytes(content)
        models[mode.name] = {
            "inputs": {name: _json(spec) for name, spec in edge.inputs.items()},
            "outputs": {name: _json(spec) for name, spec in edge.outputs.items()},
            "bytes": len(content),
            "fingerprint": edge.fingerprint,
            "lint": lint_graph(edge.graph).to_dict(),
            "notes": [*made.notes, *_select_ops(edge)],
            "left_float": promises.left_float(edge, mode, kept),
            "recipe": made.recipe,
            "kept_layers": [source.float_model.graph.tensors[op.outputs[0]].spec.name for op in made.kept],
        }
    if contract is not None and calibrated:
        notes += _breaches(contract, source.frames("checking the input contract"))
    ranges = None
    if "none" in models and calibrated and not _select_ops(source.float_model):
        frames = source.frames("measuring ranges")
        ranges = measure((folder / "none.tflite").read_bytes(), frames).to_dict()
    versions = {"tensorflow": tf.__version__, "python": platform.python_version(), "numpy": np.__version__}
    if any(model["recipe"] for model in models.values()):
        versions["ai-edge-quantizer"] = importlib.metadata.version("ai-edge-quantizer")
    result = {
        "signature": signature,
        "notes": notes,
        "source_fingerprint": saved_model.fingerprint(path),
        "source_bytes": saved_model.size(path),
        "versions": versions,
        "models": models,
        "ranges": ranges,
    }
    files.write_atomically(folder / RESULT, json.dumps(result).encode())


def _open(content: bytes, mode: modes.Mode) -> EdgeModel:
    """Opens what was made as a device will, on production kernels: there are models that only the others take."""
    try:
        return EdgeModel(content, allow_tensorflow_ops=True)
    except errors.ModelError as e:
        reason = str(e).removeprefix("<bytes> ")
        raise errors.ConversionError(
            f"the {mode.name} model was made, but no device would run it, it {reason}; "
            "choose another quantization or recipe"
        ) from e


def _fit(value: np.ndarray, spec: TensorSpec, frame: int) -> np.ndarray:
    if not spec.fits(value.shape):
        raise errors.DataError(
            f"calibration frame {frame}: input {spec.name} needs shape {list(spec.shape)}, with batch axis, was given "
            f"{list(value.shape)}"
        )
    try:
        return spec.cast(value)
    except ValueError as e:
        raise errors.DataError(f"calibration frame {frame}: what was given for input {spec.name} {e}") from e


def _breaches(contract: InputContract, frames: Iterator[dict[str, np.ndarray]]) -> list[str]:
    """Tells in words whether calibration frames break the contract, which they are prepared by."""
    found = [violations[0] for frame in frames if (violations := contract.check(frame))]
    if not found:
        return []
    return [f"{len(found)} calibration frames break the input contract, which may be false: {found[0]}"]


def _contract(
    request: dict[str, Any], inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]
) -> InputContract | None:
    if request["input_contract"] is None:
        return None
    contract = InputContract.from_dict(request["input_contract"])
    contract.check_model(*({name: spec.shape for name, spec in specs.items()} for specs in (inputs, outputs)))
    return contract


def _refuse_loop(source: "_Source", wanted: Sequence[modes.Mode], path: str) -> None:
    """Refuses what is known not to work with a loop, before it costs an hour or all memory."""
    import tensorflow as tf

    for mode in wanted:
        if not mode.needs_calibration and mode.name != "float16":
            continue
        # Only what is converted tells: a loop of Keras 2's LSTM becomes one fused op.
        ops = {op.name for op in source.float_model.graph.ops}
        if mode.needs_calibration and "WHILE" in ops:
            raise errors.ConversionError(
                f"{path} cannot become {mode.name}: it has a loop, such as an LSTM or GRU layer, and no "
                "calibrator measures the tensors inside of it; choose dynamic_range, float16 or none"
            )
        is_old = tuple(map(int, tf.__version__.split(".")[:2])) < _FUSED_LSTM_FLOAT16
        is_tensorflow = source.request["quantizer"] == modes.TENSORFLOW
        if mode.name == "float16" and is_tensorflow and is_old and "UNIDIRECTIONAL_SEQUENCE_LSTM" in ops:
            raise errors.ConversionError(
                f"{path} cannot become float16: the converter of TensorFlow {tf.__version__} never ends on "
                'a fused LSTM, such as Keras 2 makes; choose dynamic_range, or quantizer="ai_edge_quantizer"'
            )


@dataclasses.dataclass(frozen=True)
class _Made:
    """One model.

    Attributes:
        content: Its file.
        kept: Ops of the float model that were to stay in float.
        recipe: Of ai-edge-quantizer, where that made it.
        notes: In words.
    """

    content: bytes
    kept: Sequence[Op] = ()
    recipe: recipes.Recipe | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass
class _Source:
    """What all modes are made of: a concrete function of a loaded SavedModel."""

    loaded: Any
    function: Any
    folder: pathlib.Path
    request: dict[str, Any]

    @functools.cached_property
    def float_content(self) -> bytes:
        return self._convert(modes.find("none"))

    @functools.cached_property
    def float_model(self) -> EdgeModel:
        return EdgeModel(self.float_content, kernels="builtin", allow_tensorflow_ops=True)

    def make(self, mode: modes.Mode) -> _Made:
        if not mode.quantized:
            return _Made(self.float_content)
        patterns = self.request["keep_float_layers"]
        kept = layers.find(self.float_model, patterns) if patterns else []
        if kept and len(kept) == len(layers.named(self.float_model)):
            raise errors.SpecError("keep_float_layers names every layer: choose a float quantization instead")
        if mode.name != modes.RECIPE and self.request["quantizer"] == modes.TENSORFLOW:
            return _Made(self._convert(mode, kept), kept)
        graph = self.float_model.graph
        recipe = self.request["recipe"] if mode.name == modes.RECIPE else recipes.for_mode(mode)
        notes = tuple(recipes.without_effect(graph, recipe))
        recipe = recipes.keep(recipe, graph, kept)
        _step(self.folder, f"quantizing to {mode.name}")
        return _Made(recipes.quantize(self.float_content, recipe, self._calibrate(mode)), kept, recipe, notes)

    def check(self, edge: EdgeModel, made: _Made) -> set[int]:
        """Compares a model with what was asked of its layers one by one, and returns the ops that stayed in float."""
        if not made.kept and not made.recipe:
            return set()
        twins, graph = pair_by_name(edge, self.float_model), self.float_model.graph
        if made.recipe:
            recipes.check(edge.graph, twins, graph, made.recipe)
        return promises.find_kept(edge.graph, twins, graph, made.kept)

    def frames(self, doing: str) -> Iterator[dict[str, np.ndarray]]:
        paths = sorted((self.folder / FRAMES).iterdir())
        specs = _specs(self.function.structured_input_signature[1])
        inputs = sorted(specs)
        for i, path in enumerate(paths, 1):
            _step(self.folder, f"{doing} on frame {i} of {len(paths)}")
            with np.load(path) as stored:
                frame = {name.removeprefix(PREFIX): array for name, array in stored.items()}
            if sorted(frame) != inputs:
                raise errors.DataError(f"calibration frame {i} has the inputs {sorted(frame)}, the model has {inputs}")
            yield {name: _fit(frame[name], spec, i) for name, spec in specs.items()}

    def _calibrate(self, mode: modes.Mode) -> Iterator[dict[str, np.ndarray]]:
        yield from self.frames(f"calibrating {mode.name}")
        _step(self.folder, f"quantizing to {mode.name}")

    def _convert(self, mode: modes.Mode, kept: Sequence[Op] = ()) -> bytes:
        import tensorflow as tf
        from tensorflow.lite.python.convert_phase import ConverterError

        _step(self.folder, f"converting to {mode.name}")
        # The one route that freezes every variable for all versions of Keras: from_saved_model may abort or leave some.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([self.function], self.loaded)
        if mode.quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode.weights:
            converter.target_spec.supported_types = [tf.as_dtype(mode.weights)]
        converter.target_spec.supported_ops = [tf.lite.OpsSet[_KERNELS[mode.activations]]]
        if self.request["select_tf_ops"]:
            converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
        if mode.activations:
            converter.representative_dataset = lambda: self._calibrate(mode)
        try:
            if kept:
                return self._quantize_all_but(kept, converter, mode)
            if mode.io:
                converter.inference_input_type = converter.inference_output_type = tf.as_dtype(mode.io)
            return converter.convert()
        except ConverterError as e:
            missing = _without_kernels(str(e), self.function)
            if not missing:
                raise
            way_out = ", or convert with select_tf_ops=True and link TensorFlow's kernels into the app"
            if self.request["select_tf_ops"]:
                way_out = "; TensorFlow's kernels for apps do not have them either"
            raise errors.ConversionError(
                f"{self.request['saved_model']} has ops without TensorFlow Lite kernels for {mode.name}: "
                f"{'; '.join(missing)}; move them into the preprocessing of the app and of the reference and export a "
                f"signature that begins behind them{way_out}"
            ) from e

    def _quantize_all_but(self, kept: Sequence[Op], converter: Any, mode: modes.Mode) -> bytes:
        import tensorflow as tf
        from tensorflow.lite.python.convert import mlir_quantize

        # The two steps of QuantizationDebugger, the public way to except layers, which makes four models more and
        # leaves inputs and outputs in float.
        converter._experimental_calibrate_only = True
        io = tf.as_dtype(mode.io or "float32")
        tensors = self.float_model.graph.tensors
        names = {tensors[t].spec.name for op in kept for t in op.outputs}
        return mlir_quantize(converter.convert(), input_data_type=io, output_data_type=io, denylisted_nodes=names)


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
    names = tensorflow_ops(edge.content)
    return [f"needs TensorFlow's kernels in the app: {', '.join(sorted(names))}"] if names else []


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
    processes.end_with_parent()
    work = pathlib.Path(sys.argv[1])
    sys.excepthook = _report(work)
    main(work)
