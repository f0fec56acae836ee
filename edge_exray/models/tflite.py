"""The edge model: a .tflite that can be run and looked inside."""

import functools
import hashlib
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from edge_exray import errors
from edge_exray.models import flatbuffer, locations
from edge_exray.models import graph as graphs
from edge_exray.models.messages import first_line
from edge_exray.models.tensors import Quantization, TensorSpec

# What production, built-in and reference mean to LiteRT's interpreter.
KERNELS = {
    "xnnpack": litert.OpResolverType.BUILTIN,
    "builtin": litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": litert.OpResolverType.BUILTIN_REF,
}


class EdgeModel:
    """A .tflite on one set of kernels.

    Args:
        model: Path of the file, or its bytes.
        kernels: `"xnnpack"` (production), `"builtin"` (no delegate) or `"reference"`.
        num_threads: Threads of the interpreter.
        preserve_tensors: Keeps every intermediate tensor readable after `infer`; without it most of them are
            overwritten and `layer` refuses.
        signature: Name of the signature whose input and output names to use; may be left out when the model has
            at most one. A model without signatures goes by its tensor names.
        delegates: Extra delegates for the interpreter.
        allow_tensorflow_ops: Opens a model with ops of TensorFlow to be described; it does not run.

    Raises:
        ModelError: The file is missing or damaged, holds an op that this runtime cannot run, or lacks the
            signature.

    Attributes:
        path: Where the model came from.
        content: The bytes of the model; of a signature that a later graph of the file computes, with that graph first.
        bytes: Size of the file.
        inputs, outputs: Signature name to description of the tensor.
        stored_inputs: Input name to its name in the file; another one after `rename`.
        interpreter: The LiteRT interpreter.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        kernels: str = "xnnpack",
        num_threads: int = 1,
        preserve_tensors: bool = False,
        signature: str | None = None,
        delegates: Sequence[Any] = (),
        allow_tensorflow_ops: bool = False,
    ) -> None:
        if kernels not in KERNELS:
            raise errors.ModelError(f"unknown kernels {kernels!r}: choose from {', '.join(KERNELS)}")
        self.path = "<bytes>" if isinstance(model, bytes) else os.fspath(model)
        self._file = model if isinstance(model, bytes) else _read(self.path)
        self.bytes = len(self._file)
        locations.check_identifier(self._file, self.path)
        self._preserves = preserve_tensors
        load = functools.partial(
            litert.Interpreter,
            experimental_op_resolver_type=KERNELS[kernels],
            experimental_preserve_all_tensors=preserve_tensors,
            experimental_delegates=list(delegates) or None,
            num_threads=num_threads,
        )
        try:
            with warnings.catch_warnings():
                # LiteRT warns that preserving tensors is meant for debugging: that is what it is used for here.
                warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
                self.interpreter = load(model_content=self._file)
                # Read only now that LiteRT has found the file sound.
                self.content = flatbuffer.lead_with(self._file, signature) if signature else self._file
                if self.content is not self._file:
                    self.interpreter = load(model_content=self.content)
            if not self._has_tensorflow_ops(allow_tensorflow_ops):
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as e:
            raise errors.ModelError(f"{self.path} does not load in LiteRT: {first_line(e)}") from e
        self._input_index, self._output_index = self._names(signature)
        self.stored_inputs = {name: name for name in self._input_index}
        self.inputs = {name: self._spec(name, i) for name, i in self._input_index.items()}
        self.outputs = {name: self._spec(name, i) for name, i in self._output_index.items()}

    @functools.cached_property
    def graph(self) -> graphs.Graph:
        """The static graph of `content`."""
        return graphs.read_graph(self.content)

    @property
    def signatures(self) -> list[str]:
        """Names of the signatures of the file, sorted."""
        return sorted(self.interpreter._get_full_signature_list())

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self._file).hexdigest()

    def input_tensors(self) -> dict[str, int]:
        """Returns input name to tensor index."""
        return dict(self._input_index)

    def output_tensors(self) -> dict[str, int]:
        """Returns output name to tensor index."""
        return dict(self._output_index)

    def rename(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Gives inputs and outputs other names.

        Args:
            inputs, outputs: New name to the name so far, for all of them.
        """
        self.stored_inputs = {name: self.stored_inputs[old] for name, old in inputs.items()}
        self._input_index = {name: self._input_index[old] for name, old in inputs.items()}
        self._output_index = {name: self._output_index[old] for name, old in outputs.items()}
        self.inputs = {name: self._spec(name, i) for name, i in self._input_index.items()}
        self.outputs = {name: self._spec(name, i) for name, i in self._output_index.items()}

    def infer(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model once, from its initial state: a frame knows nothing of the one before.

        Args:
            feed: Input name to array with batch axis. Real values for a quantised input are rounded and clipped
                here; an array of the input's own integer dtype is taken as stored values.

        Returns:
            Output name to array; quantised outputs are dequantised to float32.

        Raises:
            DataError: Names, shapes or dtypes do not fit the model.
            ModelError: A kernel failed.
        """
        self.set_inputs(feed)
        try:
            # The cloud signature has no state; a fused LSTM keeps its own from one run to the next.
            self.interpreter.reset_all_variables()
            self.interpreter.invoke()
        except (ValueError, RuntimeError) as e:
            raise errors.ModelError(f"{self.path} failed while running: {first_line(e)}") from e
        return {name: self.outputs[name].real(self.interpreter.get_tensor(i)) for name, i in self._output_index.items()}

    def set_inputs(self, feed: Mapping[str, np.ndarray]) -> None:
        """Puts a feed in place and allocates tensors anew when its shapes are others than before; see `infer`."""
        if set(feed) != set(self.inputs):
            raise errors.DataError(
                f"{self.path} has the inputs {sorted(self.inputs)}, was given {sorted(feed)}: "
                "edge and cloud inputs are paired by name"
            )
        stored = {name: self._stored(name, value) for name, value in feed.items()}
        try:
            self._resize(stored)
            for name, value in stored.items():
                self.interpreter.set_tensor(self._input_index[name], value)
        except (ValueError, RuntimeError) as e:
            raise errors.ModelError(f"{self.path} does not take these inputs: {first_line(e)}") from e

    def tensor(self, index: int) -> np.ndarray:
        """Returns the stored values of a tensor after the last `infer`, as a view.

        The view must be dropped before the next `infer`: LiteRT refuses to run while one is alive.

        Raises:
            ModelError: The model was opened without `preserve_tensors`, or LiteRT has no values of the tensor, as of
                what a loop only passes through.
        """
        if not self._preserves:
            raise errors.ModelError(f"{self.path} was opened without preserve_tensors: its layers are not kept")
        try:
            return self.interpreter.tensor(index)()
        except ValueError as e:
            raise errors.ModelError(f"LiteRT keeps no values of tensor {index} of {self.path}: {first_line(e)}") from e

    def _has_tensorflow_ops(self, allowed: bool) -> bool:
        """Refuses such ops unless they are allowed: LiteRT runs them at best where TensorFlow happens to be loaded."""
        found = graphs.tensorflow_ops(self.content)
        if found and not allowed:
            raise errors.ModelError(
                f"{self.path} has ops that LiteRT does not run, {', '.join(found)}: they are TensorFlow's own "
                "(SELECT_TF_OPS); convert with TFLITE_BUILTINS alone, or compute them outside the signature that the "
                "device runs"
            )
        return bool(found)

    def _names(self, signature: str | None) -> tuple[dict[str, int], dict[str, int]]:
        signatures = self.interpreter._get_full_signature_list()
        if signature is not None and signatures and signature not in signatures:
            if len(signatures) > 1:
                raise errors.ModelError(f"{self.path} has no signature {signature!r}, only {sorted(signatures)}")
            signature = None  # the converter may rename the only one
        if signature is None and len(signatures) > 1:
            raise errors.ModelError(f"{self.path} has several signatures, {sorted(signatures)}: name one")
        if signatures:
            chosen = signatures[signature or next(iter(signatures))]
            return dict(chosen["inputs"]), dict(chosen["outputs"])
        return (
            {d["name"]: d["index"] for d in self.interpreter.get_input_details()},
            {d["name"]: d["index"] for d in self.interpreter.get_output_details()},
        )

    def _spec(self, name: str, index: int) -> TensorSpec:
        details = next(d for d in self.interpreter.get_tensor_details() if d["index"] == index)
        parameters = details["quantization_parameters"]
        quantization = None
        if len(parameters["scales"]):
            quantization = Quantization(
                tuple(map(float, parameters["scales"])),
                tuple(map(int, parameters["zero_points"])),
                int(parameters["quantized_dimension"]),
            )
        shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
        # As TensorFlow has it: texts of any length.
        dtype = np.dtype(object) if details["dtype"] is np.bytes_ else np.dtype(details["dtype"])
        return TensorSpec(name, tuple(map(int, shape)), dtype, quantization)

    def _stored(self, name: str, value: np.ndarray) -> np.ndarray:
        spec = self.inputs[name]
        if spec.quantization and value.dtype.kind == "f" and spec.dtype.kind in "iu":
            return spec.quantization.quantize(value, spec.dtype)
        try:
            return spec.cast(value)
        except ValueError as e:
            raise errors.DataError(f"what was given for input {name} of {self.path} {e}") from e

    def _resize(self, stored: Mapping[str, np.ndarray]) -> None:
        current = {d["index"]: tuple(d["shape"]) for d in self.interpreter.get_input_details()}
        changed = False
        for name, value in stored.items():
            index = self._input_index[name]
            if current[index] == value.shape:
                continue
            spec = self.inputs[name]
            if not spec.fits(value.shape):
                raise errors.DataError(
                    f"input {name} of {self.path} needs shape {list(spec.shape)}, was given {list(value.shape)}"
                )
            self.interpreter.resize_tensor_input(index, value.shape)
            changed = True
        if changed:
            self.interpreter.allocate_tensors()


def _read(path: str) -> bytes:
    locations.check_tflite(path)
    return pathlib.Path(path).read_bytes()
