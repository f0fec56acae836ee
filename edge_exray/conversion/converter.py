"""Converts a SavedModel to .tflite in a child process, which TensorFlow's converter may abort without harm."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import psutil

from edge_exray import errors, files, processes, schemas
from edge_exray.contract import InputContract
from edge_exray.conversion import modes, recipes
from edge_exray.conversion.worker import ERROR, FRAMES, PREFIX, REQUEST, RESULT, STEP
from edge_exray.frames import examples
from edge_exray.models.tensors import Quantization, TensorSpec
from edge_exray.version import __version__

FORMAT_VERSION = 1
DEFAULT_TIMEOUT = 1800.0

_OUTPUT = "output"
_POLL = 0.05  # seconds
# The system that runs out of memory ends other programs first.
_FREE_SHARE = 0.9

# Tests put another program here to see it die.
_WORKER = (sys.executable, "-m", "edge_exray.conversion.worker")

# Information, warnings and the stack trace of TensorFlow's logger (glog).
_CHATTER = re.compile(r"[IW]\d{4} |INFO:|WARNING:|\s*@ +0x|\*\*\* ")


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The frames that the ranges of the activations were measured on.

    Attributes:
        frames: Their number.
        sha256: Hash of their content and order, in hexadecimal.
    """

    frames: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How a .tflite was made.

    Attributes:
        path: Where it is.
        quantization: Name of its mode.
        quantizer: What quantised it: one of `edge_exray.conversion.modes.QUANTIZERS`, None without quantization.
        recipe: The entries that ai-edge-quantizer was given, the layers to keep in float last; None when it was not.
        keep_float_layers: The layers to keep in float, as they were named.
        kept_layers: The layers that these names found, by their names in the float edge model.
        signature: The signature of the SavedModel that it computes.
        inputs, outputs: Name in that signature to description of the tensor in the .tflite.
        bytes: Size of the file.
        fingerprint: SHA-256 of the file, in hexadecimal.
        source: Path of the SavedModel.
        source_fingerprint: See `edge_exray.models.saved_model.fingerprint`.
        left_float: See `edge_exray.conversion.promises.left_float`.
        notes: What had to be changed, and what of a recipe had no effect, in words.
        source_bytes: Size of the graph and the variables of the SavedModel.
        calibration: None when the mode needs none.
        versions: Of everything that had a part in it.
        seconds: Time of the child process, which may have made other models as well.
        lint: What the static checks found, see `edge_exray.linting.findings.LintResult.to_dict`.
        ranges: What the calibration frames do to the tensors of the float model, see
            `edge_exray.conversion.ranges.RangeReport.to_dict`; None without a calibration, or
            when the float model was not made in the same run.
        input_contract: What the file carries of `InputContract.to_dict`; None without one.
    """

    path: str
    quantization: str
    quantizer: str | None
    recipe: list[dict[str, Any]] | None
    keep_float_layers: list[str]
    kept_layers: list[str]
    signature: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    bytes: int
    fingerprint: str
    left_float: list[str]
    notes: list[str]
    source: str
    source_fingerprint: str
    source_bytes: int
    calibration: Calibration | None
    versions: dict[str, str]
    seconds: float
    lint: dict[str, Any]
    ranges: dict[str, Any] | None
    input_contract: dict[str, Any] | None

    def to_json(self) -> str:
        """Returns the JSON text that `schemas/conversion.schema.json` describes."""
        document = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        for specs in (document["inputs"], document["outputs"]):
            for spec in specs.values():
                spec["dtype"] = str(spec["dtype"])
        text = json.dumps(document, indent=1)
        schemas.check(json.loads(text), "conversion", errors.ArtifactError)
        return text


def convert(
    saved_model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quantization: str = "int8",
    signature: str | None = None,
    calibration: Iterable[Mapping[str, np.ndarray]] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    memory_limit: int | None = None,
    select_tf_ops: bool = False,
    input_contract: InputContract | Mapping[str, Any] | str | None = None,
    quantizer: str = modes.TENSORFLOW,
    recipe: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    keep_float_layers: Sequence[str] = (),
) -> Conversion:
    """Converts one signature of a SavedModel; the same model, calibration and versions give the same bytes.

    Args:
        saved_model: Directory of the SavedModel.
        out: The .tflite file to write.
        quantization: Name of the mode, see `edge_exray.conversion.modes.MODES`, or "recipe".
        signature: Name of the signature; None takes the only one with dense inputs, and enters a model that only
            parses tf.Examples behind the parsing.
        calibration: Frames to measure the activations on, for the modes that need it: input name to array with
            batch axis. Consumed once, never held in memory together.
        timeout: Seconds after which the conversion is given up.
        memory_limit: Bytes of resident memory above which it is; None takes nine tenths of what is free now.
        select_tf_ops: Ops without TensorFlow Lite kernels stay TensorFlow's, which the app must link ("Select
            TensorFlow operators" in the LiteRT guide); they are told in the notes.
        input_contract: What apps must know of the inputs, an `InputContract` or its JSON; stored in the file, see
            `edge_exray.models.metadata`.
        quantizer: What makes the quantised modes: "tensorflow", its converter, or "ai_edge_quantizer", which quantises
            the float edge model.
        recipe: What ai-edge-quantizer makes of the model in the mode "recipe": the name of one of its recipes such as
            "dynamic_wi4_afp32", the path of a JSON file, or the entries.
        keep_float_layers: Layers that stay in float in the quantised models: their names in the float edge model, or
            regular expressions that match a whole name, see `edge_exray.conversion.layers.find`. With TensorFlow's
            converter in int8 and int8_float_io only.

    Raises:
        SpecError: A mode, quantizer or recipe is unknown, a mode needs a calibration that was not given, a layer to
            keep is not there, or the input contract does not fit the model.
        ExrayError: ai-edge-quantizer is asked for, and not installed.
        DataError: The calibration has no frames, or one does not have the model's inputs.
        ModelError: There is no SavedModel, or no such dense signature.
        ConversionError: The converter failed, died, or needed too much time or memory, or its result breaks a promise
            of its mode.
    """
    jobs = {os.fspath(out): quantization}
    return convert_many(
        saved_model,
        jobs,
        signature=signature,
        calibration=calibration,
        timeout=timeout,
        memory_limit=memory_limit,
        select_tf_ops=select_tf_ops,
        input_contract=input_contract,
        quantizer=quantizer,
        recipe=recipe,
        keep_float_layers=keep_float_layers,
    )[0]


def convert_many(
    saved_model: str | os.PathLike[str],
    outputs: Mapping[str, str],
    *,
    signature: str | None = None,
    calibration: Iterable[Mapping[str, np.ndarray]] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    memory_limit: int | None = None,
    select_tf_ops: bool = False,
    input_contract: InputContract | Mapping[str, Any] | str | None = None,
    quantizer: str = modes.TENSORFLOW,
    recipe: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    keep_float_layers: Sequence[str] = (),
) -> list[Conversion]:
    """Converts one signature of a SavedModel in several modes, in one child process that loads it once.

    The same SavedModel, calibration and versions give the same bytes. The batch axis stays as the signature has it.

    Args:
        saved_model: Directory of the SavedModel.
        outputs: The .tflite files to write, each with the name of its mode.
        signature, calibration, timeout, memory_limit, select_tf_ops, input_contract, quantizer, recipe,
            keep_float_layers: See `convert`.

    Returns:
        One result for each output, in their order. Either all files are written or none.

    Raises:
        ExrayError: See `convert`; no file is written.
    """
    entries = None if recipe is None else recipes.resolve(recipe)
    wanted = [modes.find(name, entries) for name in dict.fromkeys(outputs.values())]
    modes.check_choice(wanted, quantizer, recipe, keep_float_layers)
    if quantizer == modes.AI_EDGE_QUANTIZER:
        recipes.require()
    calibrated = [mode.name for mode in wanted if mode.needs_calibration]
    if calibrated and calibration is None:
        raise errors.SpecError(
            f"quantization {calibrated[0]!r} needs a calibration: give it frames of real data (calibration=...)"
        )
    declared = InputContract.of(input_contract)
    contract = declared.to_dict() if declared else None
    source = os.path.abspath(saved_model)
    with files.scratch("exray-convert-") as folder:
        used = _write_frames(folder / FRAMES, calibration) if calibrated and calibration is not None else None
        request = {
            "saved_model": source,
            "signature": signature,
            "modes": [mode.name for mode in wanted],
            "select_tf_ops": select_tf_ops,
            "input_contract": contract,
            "quantizer": quantizer,
            "recipe": entries,
            "keep_float_layers": list(keep_float_layers),
        }
        (folder / REQUEST).write_text(json.dumps(request), "utf-8")
        start = time.perf_counter()
        free = psutil.virtual_memory().available
        result = _run(folder, source, timeout, memory_limit or int(_FREE_SHARE * free))
        seconds = time.perf_counter() - start
        for out, mode in outputs.items():
            files.write_atomically(out, (folder / f"{mode}.tflite").read_bytes())
    return [
        Conversion(
            path=os.fspath(out),
            quantization=mode,
            quantizer=_quantizer(modes.find(mode, entries), quantizer),
            recipe=result["models"][mode]["recipe"],
            keep_float_layers=list(keep_float_layers) if result["models"][mode]["kept_layers"] else [],
            kept_layers=result["models"][mode]["kept_layers"],
            signature=result["signature"],
            inputs=_specs(result["models"][mode]["inputs"]),
            outputs=_specs(result["models"][mode]["outputs"]),
            bytes=result["models"][mode]["bytes"],
            fingerprint=result["models"][mode]["fingerprint"],
            left_float=result["models"][mode]["left_float"],
            notes=result["notes"] + result["models"][mode]["notes"],
            source=source,
            source_fingerprint=result["source_fingerprint"],
            source_bytes=result["source_bytes"],
            calibration=used if mode in calibrated else None,
            versions={"edge-exray": __version__, **result["versions"]},
            seconds=round(seconds, 3),
            lint=result["models"][mode]["lint"],
            ranges=result["ranges"] if mode in calibrated else None,
            input_contract=contract,
        )
        for out, mode in outputs.items()
    ]


def _quantizer(mode: modes.Mode, chosen: str) -> str | None:
    if not mode.quantized:
        return None
    return modes.AI_EDGE_QUANTIZER if mode.name == modes.RECIPE else chosen


def _write_frames(folder: pathlib.Path, frames: Iterable[Mapping[str, np.ndarray]]) -> Calibration:
    folder.mkdir()
    digest = hashlib.sha256()
    count = 0
    for frame in frames:
        if not isinstance(frame, Mapping):
            raise errors.DataError(
                f"calibration frame {count + 1} is of type {type(frame).__name__}: give a mapping of input name to "
                "array with batch axis for each frame"
            )
        # A prefix, because savez has parameters of its own, which an input may be named like.
        arrays: dict[str, Any] = {f"{PREFIX}{name}": value for name, value in frame.items()}
        np.savez(folder / f"{count:08d}.npz", **arrays)
        digest.update(examples.fingerprint(frame).encode())
        count += 1
    if not count:
        raise errors.DataError("the calibration set has no frames: quantizing activations needs some real ones")
    return Calibration(count, digest.hexdigest())


def _run(folder: pathlib.Path, source: str, timeout: float, memory_limit: int) -> dict[str, Any]:
    """Runs the child process in the folder and returns its result, or raises what stopped it."""
    environment = {
        **processes.environment(),
        # Conversion is work for the CPU: another process may have claimed the memory of the GPU.
        "CUDA_VISIBLE_DEVICES": "-1",
        # TensorFlow's own temporary folders, which it would leave when it dies.
        "TMPDIR": str(folder),
        # Only what ends a process, so that its last words are about its end.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with open(folder / _OUTPUT, "wb") as output:
        child = subprocess.Popen(
            [*_WORKER, str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            excess = _watch(child, timeout, memory_limit)
        finally:
            child.kill()
            child.wait()
    if excess:
        raise errors.ConversionError(
            f"the conversion of {source} was stopped {excess[0]} while {_step(folder)}: {excess[1]}"
        )
    if child.returncode == 0 and (folder / RESULT).exists():
        return json.loads((folder / RESULT).read_text("utf-8"))
    if (folder / ERROR).exists():
        raise _error(json.loads((folder / ERROR).read_text("utf-8")), source, _step(folder))
    output_text = (folder / _OUTPUT).read_text("utf-8", "replace")
    raise errors.ConversionError(
        f"the converter {_death(child.returncode, output_text)} while {_step(folder)}, {source}{_quote(output_text)}"
    )


def _watch(child: subprocess.Popen, timeout: float, memory_limit: int) -> tuple[str, str] | None:
    """Waits for the end of the child process, or for it to exceed a limit: then which and what to do about it."""
    process = psutil.Process(child.pid)
    end = time.monotonic() + timeout
    # The memory is polled: a limit of the system counts address space, of which TensorFlow reserves far more than
    # it uses, and its breach is an abort without words.
    while True:
        try:
            child.wait(min(_POLL, max(0.0, end - time.monotonic())))
            return None
        except subprocess.TimeoutExpired:
            used = _resident(process)
        if used > memory_limit:
            return (
                f"at {used / 2**20:.0f} MiB of memory, the limit is {memory_limit / 2**20:.0f} MiB,",
                "allow it more memory, or convert a smaller model",
            )
        if time.monotonic() >= end:
            return f"after {timeout:g} s", "allow it more time, or calibrate on fewer frames"


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        # It ended since it was last waited for.
        return 0


def _error(document: dict[str, str], source: str, step: str) -> errors.ExrayError:
    kind = getattr(errors, document["type"], None)
    if kind is not None:
        return kind(document["message"])
    # MLIR says each error at its place in the graph, then again for the whole function, among notes.
    said = dict.fromkeys(re.findall(r"error: (.*\S)", document["message"]))
    said.update(dict.fromkeys(re.findall(r"^(?:TF Select|Custom) ops: .*", document["message"], re.MULTILINE)))
    words = "; ".join(said) or " ".join(document["message"].split())
    failure = f"the conversion of {source} failed while {step}: {document['type']}: {words}"
    if step.startswith("quantizing"):
        remedy = "choose another quantization, int8 has kernels for more ops than int16x8"
        if step.endswith(modes.RECIPE):
            remedy = "choose another recipe, or keep the layer that it fails at in float (keep_float_layers)"
        failure = f"{failure.rstrip('.')}; {remedy}"
    return errors.ConversionError(failure)


def _step(folder: pathlib.Path) -> str:
    step = folder / STEP
    return step.read_text("utf-8") if step.exists() else "starting"


def _death(status: int, output: str) -> str:
    if status >= 0:
        return f"ended with status {status}"
    starved = -status == signal.SIGKILL or "std::bad_alloc" in output
    cause = ": the system may have run out of memory" if starved else ""
    return f"was killed by {signal.Signals(-status).name}{cause}"


def _quote(output: str) -> str:
    """Returns the last line that a dying process said and that is not chatter, introduced by a colon, or nothing."""
    said = [line.strip() for line in output.splitlines() if line.strip() and not _CHATTER.match(line)]
    return f": {said[-1]}" if said else ""


def _specs(documents: dict[str, Any]) -> dict[str, TensorSpec]:
    return {name: _spec(document) for name, document in documents.items()}


def _spec(document: dict[str, Any]) -> TensorSpec:
    quantization = document["quantization"]
    if quantization is not None:
        scale, zero_point = tuple(quantization["scale"]), tuple(quantization["zero_point"])
        quantization = Quantization(scale, zero_point, quantization["axis"])
    return TensorSpec(document["name"], tuple(document["shape"]), np.dtype(document["dtype"]), quantization)
