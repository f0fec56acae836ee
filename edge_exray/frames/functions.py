"""The user's functions over one example, and the frame that they make of it."""

import contextlib
import dataclasses
import importlib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.diagnosis.check import Check
from edge_exray.frames import examples
from edge_exray.models.tensors import TensorSpec
from edge_exray.specs import did_you_mean

Inputs = dict[str, np.ndarray]

# The folder of the module file that was loaded last, unless it could be imported from before.
_neighbourhoods: list[pathlib.Path] = []


@dataclasses.dataclass(frozen=True)
class DeviceRecord:
    """What a device logged of a frame beside the inputs.

    Attributes:
        outputs: Output name to real values with batch axis.
        layers: Name of a layer in the log to its stored values; empty where the device logged none.
        others: Name of each other device that logged the frame to its outputs, or why they are of no use.
    """

    outputs: Inputs
    layers: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    others: Mapping[str, "Inputs | str"] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One example, ready to be run.

    Attributes:
        id: Stable id.
        reference: Cloud input name to array with a batch axis of 1: what training used.
        edge: Edge input name to array with a batch axis of 1: what the app feeds; None where nobody knows, because a
            device logged the frame without its inputs.
        label: Index of the true class, or None.
        slices: Slice key to value, as text.
        variants: Name of each variant of the edge inputs to what `edge` would be.
        record: What a device logged; None where the edge model only runs here.
    """

    id: str
    reference: Inputs
    edge: Inputs | None
    label: int | None
    slices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Inputs] = dataclasses.field(default_factory=dict)
    record: DeviceRecord | None = None


@dataclasses.dataclass(frozen=True)
class UserFunctions:
    """The functions of a user's module; each takes one example, see `edge_exray.frames.examples`.

    Attributes:
        reference_inputs_fn: Returns cloud input name to array *without* batch axis. Default: the features that
            are named like the model's inputs, reshaped to the shape of the input.
        edge_inputs_fn: The same for what the app feeds to the edge model. Default: the reference inputs.
        edge_variants_fn: Returns the name of each variant of the app's preprocessing to the same, for example
            of several JPEG qualities, see `edge_exray.frames.variants`. Default: none.
        calibration_inputs_fn: The same for the calibration of a quantised conversion. Default: the reference
            inputs.
        label_fn: Returns the index of the true class, or None. Default: the feature `label`, where it is one value.
        frame_id_fn: Returns a stable id: text, bytes or an integer. Default: a hash of the example.
        source: Where the functions came from, for messages.
        checks: The module's checks in the order in which they were written, see `edge_exray.check`.
    """

    reference_inputs_fn: Callable[[examples.Example], Inputs] | None = None
    edge_inputs_fn: Callable[[examples.Example], Inputs] | None = None
    edge_variants_fn: Callable[[examples.Example], Mapping[str, Inputs]] | None = None
    calibration_inputs_fn: Callable[[examples.Example], Inputs] | None = None
    label_fn: Callable[[examples.Example], Any] | None = None
    frame_id_fn: Callable[[examples.Example], str] | None = None
    source: str = "the default functions"
    checks: tuple[Check, ...] = ()

    def frame(
        self,
        example: examples.Example,
        reference_specs: Mapping[str, TensorSpec],
        edge_specs: Mapping[str, TensorSpec],
        slice_keys: Sequence[str] = (),
    ) -> Frame:
        """Makes the frame of an example.

        Args:
            example: The example.
            reference_specs: Inputs of the cloud model.
            edge_specs: Inputs of the edge model.
            slice_keys: Features whose value names the slices that the frame belongs to.

        Raises:
            ModuleError: A function failed or returned something that does not fit the model.
            DataError: The example lacks a feature, or a feature does not fit the model.
        """
        frame_id = self._frame_id(example)
        with _named(frame_id):
            reference = self._inputs("reference_inputs_fn", example, reference_specs)
            edge = self._inputs("edge_inputs_fn", example, edge_specs) if self.edge_inputs_fn else reference
            variants = self._variants(example, edge_specs) if self.edge_variants_fn else {}
            return Frame(frame_id, reference, edge, self._label(example), _slices(example, slice_keys), variants)

    def frame_id(self, example: examples.Example) -> str:
        """Returns the stable id of the frame of an example.

        Raises:
            ModuleError: `frame_id_fn` failed or returned something else than an id.
        """
        return self._frame_id(example)

    def calibration_inputs(self, example: examples.Example, specs: Mapping[str, TensorSpec]) -> Inputs:
        """Returns the inputs with batch axis that the converter's calibration is fed, see `frame`."""
        name = "calibration_inputs_fn" if self.calibration_inputs_fn else "reference_inputs_fn"
        with _named(examples.fingerprint(example)):
            return self._inputs(name, example, specs)

    def edge_inputs(self, example: examples.Example, specs: Mapping[str, TensorSpec]) -> Inputs:
        """Returns the inputs with batch axis that the app feeds to the edge model, see `frame`."""
        name = "edge_inputs_fn" if self.edge_inputs_fn else "reference_inputs_fn"
        with _named(examples.fingerprint(example)):
            return self._inputs(name, example, specs)

    def _call(self, name: str, example: examples.Example) -> Any:
        try:
            return getattr(self, name)(example)
        except Exception as e:
            # The user's code may raise anything; all of it is reported as the user's.
            raise errors.ModuleError(
                f"{name} of {self.source} failed: {type(e).__name__}: {e} ({_line(e, getattr(self, name))}the example "
                f"has the features {', '.join(sorted(example))})"
            ) from e

    def _inputs(self, name: str, example: examples.Example, specs: Mapping[str, TensorSpec]) -> Inputs:
        if getattr(self, name) is None:
            return {key: _feature(example, spec, len(specs)) for key, spec in specs.items()}
        return self._complete(self._call(name, example), specs, f"{name} of {self.source}")

    def _variants(self, example: examples.Example, specs: Mapping[str, TensorSpec]) -> dict[str, Inputs]:
        returned = self._call("edge_variants_fn", example)
        place = f"edge_variants_fn of {self.source}"
        # The names stand between slashes where the answers are stored, beside those of the two sides.
        if not isinstance(returned, Mapping) or not all(map(_is_variant, returned)):
            got = sorted(map(str, returned)) if isinstance(returned, Mapping) else type(returned).__name__
            raise errors.ModuleError(
                f"{place}: must return the name of each variant to its inputs, names without a slash and none of them "
                f"cloud or edge; returned {got}"
            )
        return {name: self._complete(inputs, specs, f"{place}, {name}") for name, inputs in returned.items()}

    def _complete(self, returned: Any, specs: Mapping[str, TensorSpec], place: str) -> Inputs:
        if not isinstance(returned, Mapping) or set(returned) != set(specs):
            got = sorted(returned) if isinstance(returned, Mapping) else type(returned).__name__
            raise errors.ModuleError(f"{place}: must return the model's inputs {sorted(specs)}, returned {got}")
        return {key: _fit(returned[key], spec, place) for key, spec in specs.items()}

    def _frame_id(self, example: examples.Example) -> str:
        if not self.frame_id_fn:
            return examples.fingerprint(example)
        returned = self._call("frame_id_fn", example)
        if isinstance(returned, bytes):
            return returned.decode("utf-8", "replace")
        if isinstance(returned, str | int | np.integer):
            return str(returned)
        raise errors.ModuleError(f"frame_id_fn of {self.source} must return a text, returned {returned!r}")

    def class_of(self, example: examples.Example) -> int | None:
        """Returns the index of the true class; None where it is not known or no class.

        Raises:
            ModuleError: `label_fn` failed or returned something else.
        """
        if self.label_fn:
            return self._label(example)
        return _class_index(example["label"]) if np.size(example.get("label", ())) == 1 else None

    def _label(self, example: examples.Example) -> int | None:
        if self.label_fn:
            returned = self._call("label_fn", example)
            label = None if returned is None else _class_index(returned)
            if label is None and returned is not None:
                raise errors.ModuleError(
                    f"label_fn of {self.source} must return the index of a class or None, returned {returned!r}"
                )
            return label
        if np.size(example.get("label", ())) != 1:
            return None
        label = _class_index(example["label"])
        if label is None:
            raise errors.DataError(
                f"feature label is {example['label']!r}, not the index of a class: give a module with label_fn"
            )
        return label


def load_functions(source: str | None) -> UserFunctions:
    """Loads the functions and the checks of a user's module.

    Args:
        source: Path of a `.py` file, name of an importable module, or None for the defaults.

    Raises:
        ModuleError: The module is missing, does not import, or has neither one of the functions nor a check.
    """
    if not source:
        return UserFunctions()
    module = _load_file(pathlib.Path(source)) if source.endswith(".py") else _load_module(source)
    names = [f.name for f in dataclasses.fields(UserFunctions) if f.name.endswith("_fn")]
    found = {name: getattr(module, name) for name in names if hasattr(module, name)}
    # One check may go by several names; by identity, because two that are alike are two.
    checks = {id(value): value for value in vars(module).values() if isinstance(value, Check)}
    if not found and not checks:
        raise errors.ModuleError(
            f"{source} defines none of the functions {', '.join(names)}, and no function in it is a check "
            "(@edge_exray.check)"
        )
    return UserFunctions(**found, source=source, checks=tuple(checks.values()))


@contextlib.contextmanager
def _named(frame_id: str) -> Iterator[None]:
    """Names the frame in the errors of its functions."""
    try:
        yield
    except errors.ExrayError as e:
        raise type(e)(e.reason, frame_id) from e


def _load_file(path: pathlib.Path) -> ModuleType:
    if not path.is_file():
        raise errors.ModuleError(f"there is no module file {path}")
    name = f"edge_exray_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _let_import_from(path.resolve().parent)
    # Dataclasses look their module up there; under a name of its own, or a user's `random.py` would hide Python's.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        # The user's code may raise anything, here and below.
        raise errors.ModuleError(f"module file {path} does not import: {type(e).__name__}: {e}") from e
    return module


def _let_import_from(folder: pathlib.Path) -> None:
    """Lets a module file import what lies beside it, as in a pipeline, which packages both."""
    forget_neighbours()
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end, so that it hides nothing
        _neighbourhoods.append(folder)


def forget_neighbours() -> None:
    """Undoes what lets the module file that was loaded last import what lies beside it.

    The next module, of a file or of a package, may have neighbours of the same names.
    """
    while _neighbourhoods:
        folder = _neighbourhoods.pop()
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and pathlib.Path(file).parent == folder:
                del sys.modules[name]


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as e:
        raise errors.ModuleError(f"module {name} does not import: {type(e).__name__}: {e}") from e


def _line(error: Exception, function: Callable[..., Any]) -> str:
    """Names the last line of the function's own file that the error came through, as far as it has one."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [step.lineno for step in traceback.extract_tb(error.__traceback__) if step.filename == file]
    return f"line {lines[-1]}; " if lines else ""


def _is_variant(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and "/" not in name and name not in ("cloud", "edge")


def _class_index(value: Any) -> int | None:
    """Returns a single integral number as int, anything else as None."""
    array = np.asarray(value)
    item = array.item() if array.size == 1 else None
    integral = isinstance(item, int) or (isinstance(item, float) and item.is_integer())
    return int(item) if integral and item is not None else None


def _slices(example: examples.Example, keys: Sequence[str]) -> dict[str, str]:
    slices = {}
    for key in keys:
        if key not in example:
            known = sorted(example)
            hint = did_you_mean(key, known)
            raise errors.DataError(f"slice key {key} is not a feature of the examples{hint} They have {known}")
        value = np.asarray(example[key]).ravel()
        if value.size != 1:
            raise errors.DataError(f"slice key {key} needs one value an example, has {value.size}")
        slices[key] = value[0].decode("utf-8", "replace") if isinstance(value[0], bytes) else str(value[0])
    return slices


def _feature(example: examples.Example, spec: TensorSpec, inputs: int) -> np.ndarray:
    if spec.name in example:
        value = example[spec.name]
    elif inputs == 1 and "input" in example:
        value = example["input"]  # an .npy file and an app's log have no names; a model with one input needs none
    else:
        raise errors.DataError(
            f"the examples have no feature named like the model's input {spec.name} (they have {sorted(example)}): "
            "name it so, or give a module with reference_inputs_fn"
        )
    value = np.asarray(value)
    fixed = [d for d in spec.shape[1:] if d >= 0]
    if value.ndim <= 1 and value.dtype != object and spec.shape[1:].count(-1) <= 1 and np.prod(fixed) != 0:
        try:
            value = value.reshape(spec.shape[1:])
        except ValueError as e:
            raise errors.DataError(
                f"feature {spec.name} has {value.size} values, the model's input has shape {list(spec.shape[1:])}"
            ) from e
    return _fit(value, spec, "the examples", errors.DataError)


def _fit(value: Any, spec: TensorSpec, place: str, error: type[errors.ExrayError] = errors.ModuleError) -> np.ndarray:
    array = np.asarray(value)[np.newaxis]
    wanted = spec.shape[1:]
    if array.ndim != len(spec.shape) or any(w not in (-1, g) for w, g in zip(wanted, array.shape[1:], strict=True)):
        raise error(
            f"{place}: input {spec.name} has shape {list(array.shape[1:])}, the model needs {list(wanted)} "
            "(without batch axis)"
        )
    if spec.quantization and array.dtype.kind == "f":
        return np.ascontiguousarray(array, np.float32)  # the runner quantises real values
    try:
        return np.ascontiguousarray(spec.cast(array))
    except ValueError as e:
        raise error(f"{place}: input {spec.name} {e}") from e
