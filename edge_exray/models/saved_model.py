"""The cloud model: a SavedModel signature that can be run and looked inside."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models import locations, parsing
from edge_exray.models.messages import first_line
from edge_exray.models.tensors import TensorSpec

_DEFAULT_SIGNATURE = "serving_default"

_DENSE_SIGNATURE_HELP = """add one to the trainer module:
    @tf.function(input_signature=[tf.TensorSpec([None, ...], tf.float32, name="x")])
    def serving_dense(x):
        return {"outputs": model(x, training=False)}
    tf.saved_model.save(module, path, signatures={..., "serving_dense": serving_dense})"""


def load(path: str | os.PathLike[str]) -> Any:
    """Loads a SavedModel with TensorFlow.

    Raises:
        ModelError: There is no readable SavedModel.
    """
    import tensorflow as tf

    path = os.fspath(path)
    locations.check_saved_model(path)
    if not tf.io.gfile.exists(os.path.join(path, "saved_model.pb")):
        raise locations.no_saved_model(path)
    try:
        return tf.saved_model.load(path)
    except (OSError, ValueError, IndexError, tf.errors.OpError) as e:  # IndexError: a variables file that is cut off
        raise errors.ModelError(f"the SavedModel in {path} does not load: {first_line(e)}") from e


def resolve_signature(loaded: Any, path: str, name: str | None = None) -> str:
    """Chooses the signature whose inputs are dense tensors.

    Args:
        loaded: What `load` returned.
        path: Where it came from, for messages.
        name: The signature to use; None takes the only dense one, or of several with the same names, shapes and dtypes
            of inputs and outputs `serving_default`: Keras exports one function under two names.

    Returns:
        The name of a signature that a device can be given inputs for.

    Raises:
        ModelError: The signature is missing, parses serialized tf.Examples, or is not the only dense one.
    """
    available = sorted(loaded.signatures)
    dense = [s for s in available if not parsing.parses(loaded.signatures[s])]
    if name is None:
        if len(dense) == 1:
            return dense[0]
        if dense:
            if _DEFAULT_SIGNATURE in dense and len({_interface(loaded.signatures[s]) for s in dense}) == 1:
                return _DEFAULT_SIGNATURE
            raise errors.ModelError(
                f"{path} has several dense signatures, {dense}: name the one that the device runs with --signature on "
                "the command line, signature in edge_exray.validate and convert, signature_name of EdgeConverter and "
                "EdgeReplay"
            )
        raise errors.ModelError(
            f"{path} has no signature with dense inputs (only {available}), and a device cannot parse tf.Example: "
            + _DENSE_SIGNATURE_HELP
        )
    if name not in available:
        raise errors.ModelError(f"{path} has no signature {name!r}, only {available}")
    if name not in dense:
        choice = f"use {' or '.join(map(repr, dense))}" if dense else _DENSE_SIGNATURE_HELP
        raise errors.ModelError(
            f"signature {name!r} of {path} takes serialized tf.Examples, which a device cannot parse: {choice}"
        )
    return name


def select_function(loaded: Any, path: str, name: str | None = None) -> tuple[str, Any]:
    """Chooses the function that a device runs.

    Args:
        loaded: What `load` returned.
        path: Where it came from, for messages.
        name: See `resolve_signature`. When every signature parses tf.Examples, the one of that name, or the only one
            or `serving_default`, is entered behind the parsing.

    Returns:
        The name of the signature, and its concrete function; behind the parsing, features are its inputs.

    Raises:
        ModelError: See `resolve_signature`, or it needs more of the tf.Examples than dense numbers.
    """
    available = sorted(loaded.signatures)
    default = available[0] if len(available) == 1 else "serving_default"
    chosen = name or default
    if chosen not in available or not all(parsing.parses(loaded.signatures[s]) for s in available):
        chosen = resolve_signature(loaded, path, name)
        return chosen, loaded.signatures[chosen]
    function, place = loaded.signatures[chosen], f"signature {chosen!r} of {path}"
    try:
        frozen = freeze(function, place)
    except errors.ModelError as e:
        raise errors.ModelError(f"{e}: {parsing.dense_signature(function)}") from e
    return chosen, parsing.dense_function(frozen, sorted(function.structured_outputs), place)


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of the graph and the variables of a SavedModel, in hexadecimal.

    Assets and the host-dependent `fingerprint.pb` do not count: they do not change what the model computes.
    """
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def size(path: str | os.PathLike[str]) -> int:
    """Returns the size of the graph and the variables of a SavedModel in bytes."""
    return sum(f.stat().st_size for f in _files(path))


def describe(name: str, tensor: Any) -> TensorSpec:
    """Describes a TensorFlow tensor or `tf.TensorSpec` under the name that the signature gives it."""
    shape = () if tensor.shape.rank is None else tuple(-1 if d is None else int(d) for d in tensor.shape)
    return TensorSpec(name, shape, np.dtype(tensor.dtype.as_numpy_dtype))


class CloudModel:
    """One signature of a SavedModel, frozen, of which any tensor can be fetched.

    Args:
        path: Directory of the SavedModel.
        signature: Name of the signature; None takes the only one with dense inputs.
        num_threads: Threads of one op; ops run one after the other.

    Raises:
        ModelError: See `load` and `select_function`; or the signature has state that cannot be frozen.

    Attributes:
        path, signature: Where it came from.
        inputs, outputs: Signature name to description of the tensor.
        graph_def: The frozen graph; control flow is kept as one op.
    """

    def __init__(self, path: str | os.PathLike[str], signature: str | None = None, *, num_threads: int = 1) -> None:
        import tensorflow as tf

        self.path = os.fspath(path)
        loaded = load(path)
        self.signature, function = select_function(loaded, self.path, signature)
        frozen = freeze(function, f"signature {self.signature!r} of {self.path}")
        self.graph_def = frozen.graph.as_graph_def()
        # Names of the signature in the order of the graph's tensors: tf.nest flattens dictionaries by key.
        input_names = sorted(function.structured_input_signature[1])
        output_names = sorted(function.structured_outputs)
        self._input_tensors = dict(zip(input_names, [t.name for t in frozen.inputs], strict=True))
        self._output_tensors = dict(zip(output_names, [t.name for t in frozen.outputs], strict=True))
        self.inputs = {n: describe(n, t) for n, t in zip(input_names, frozen.inputs, strict=True)}
        self.outputs = {n: describe(n, t) for n, t in zip(output_names, frozen.outputs, strict=True)}
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self.graph_def, name="")
        self._graph = graph
        self._session = tf.compat.v1.Session(graph=graph, config=_session_config(num_threads))

    @functools.cached_property
    def fingerprint(self) -> str:
        """See the function `fingerprint`."""
        return fingerprint(self.path)

    def output_tensors(self) -> dict[str, str]:
        """Returns output name to the name of its tensor in the frozen graph."""
        return dict(self._output_tensors)

    def nodes(self) -> list[Any]:
        """Returns the operations of the frozen graph in topological order (TensorFlow's `Operation`)."""
        return self._graph.get_operations()

    def constants(self) -> dict[str, np.ndarray]:
        """Returns the floating point variables and literals of the frozen graph, named after the node that reads them.

        The node that holds a variable is called `unknown_7` or the like; the one that reads it belongs to a layer.
        """
        import tensorflow as tf

        found = {}
        for node in self.nodes():
            if node.type == "Const" and node.outputs[0].dtype.is_floating:
                value, reader = tf.make_ndarray(node.get_attr("value")), node
                while readers := [other for other in reader.outputs[0].consumers() if other.type == "Identity"]:
                    reader = readers[0]
                found[reader.name] = value
        return found

    def infer(
        self, feed: Mapping[str, np.ndarray], tensors: Sequence[str] = ()
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Runs the model once.

        Args:
            feed: Input name to array with batch axis.
            tensors: Names of tensors of the frozen graph (`"node:0"`) to fetch as well.

        Returns:
            Output name to array, and tensor name to array.

        Raises:
            DataError: The feed does not fit the inputs.
            ModelError: An op failed.
        """
        import tensorflow as tf

        if set(feed) != set(self.inputs):
            raise errors.DataError(f"{self.path} has the inputs {sorted(self.inputs)}, was given {sorted(feed)}")
        values = {name: self._checked(name, value) for name, value in feed.items()}
        wanted = {"outputs": self._output_tensors, "tensors": {t: t for t in tensors}}
        try:
            fetched = self._session.run(wanted, {self._input_tensors[k]: v for k, v in values.items()})
        except tf.errors.OpError as e:
            raise errors.ModelError(f"{self.path} failed while running: {first_line(e)}") from e
        return fetched["outputs"], fetched["tensors"]

    def _checked(self, name: str, value: np.ndarray) -> np.ndarray:
        spec = self.inputs[name]
        # The shape () may also mean that the rank is unknown.
        if spec.shape and not spec.fits(value.shape):
            raise errors.DataError(
                f"input {name} of {self.path} needs shape {list(spec.shape)}, was given {list(value.shape)}"
            )
        try:
            return spec.cast(value)
        except ValueError as e:
            raise errors.DataError(f"what was given for input {name} of {self.path} {e}") from e


def freeze(function: Any, place: str) -> Any:
    """Returns a concrete function with its variables as constants, and with control flow as one op.

    Args:
        function: The concrete function.
        place: What it is, for messages.

    Raises:
        ModelError: It has state that cannot be a constant.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    advice = (
        "a lookup table, or a variable that it changes, cannot be frozen: keep it outside the signature that the "
        "device runs"
    )
    try:
        frozen = convert_to_constants.convert_variables_to_constants_v2(function, lower_control_flow=False)
    except ValueError as e:
        raise errors.ModelError(f"{place} does not freeze ({first_line(e)}); {advice}") from e
    if any(tensor.dtype == tf.resource for tensor in frozen.inputs):
        raise errors.ModelError(f"{place} does not freeze; {advice}")
    return frozen


def _interface(function: Any) -> frozenset[TensorSpec]:
    """Returns the inputs and outputs of a signature, told apart by their names."""
    sides = {"inputs": function.structured_input_signature[1], "outputs": function.structured_outputs}
    return frozenset(describe(f"{side}/{name}", tensor) for side in sides for name, tensor in sides[side].items())


def _files(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    root = pathlib.Path(path)
    return [root / "saved_model.pb", *sorted((root / "variables").glob("*"))]


def _session_config(num_threads: int) -> Any:
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=num_threads, inter_op_parallelism_threads=1)
    # Grappler would fuse and rename the very tensors that are fetched.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
    return config
