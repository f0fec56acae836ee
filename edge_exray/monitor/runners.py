"""Running what the app runs, an interpreter or a function, so that its inputs, outputs and layers have names."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.tensors import Quantization

# What the runtime calls a node that stands for a delegate.
_DELEGATE = "DELEGATE"
_now = time.monotonic_ns

Feed = Mapping[str, np.ndarray] | np.ndarray
Run = tuple[Any, int, int]
"""What the app gets (of an interpreter the outputs by name, of a function what it returned), and when the model itself
began and ended, in nanoseconds of the monotonic clock."""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """A tensor of an interpreter: its index there, the name under which it is logged, its quantisation."""

    index: int
    name: str
    quantization: Quantization | None


class InterpreterRunner:
    """Runs an interpreter of ai-edge-litert, TensorFlow or tflite-runtime, whose tensors are allocated.

    Args:
        interpreter: The interpreter. With several signatures its inputs and outputs go by the tensors' names.

    Attributes:
        runtime: Name of the package that it comes from.
        quantization: That of each `"input"` and `"output"`, by name.
    """

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.runtime = type(interpreter).__module__.partition(".")[0]
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        signatures = list(getattr(interpreter, "_get_full_signature_list", dict)().values())
        of = signatures[0] if len(signatures) == 1 else {"inputs": {}, "outputs": {}}
        self._inputs = _infos(inputs, of["inputs"])
        self._outputs = _infos(outputs, of["outputs"])
        self.quantization = {
            role: {info.name: info.quantization for info in infos}
            for role, infos in (("input", self._inputs), ("output", self._outputs))
        }
        self._name_of = {info.index: info.name for info in self._inputs}
        self._results = [(info.name, info.index) for info in self._outputs]
        # An app may use the tensors' own names, which it finds in the details.
        self._index = {d["name"]: int(d["index"]) for d in inputs} | {i.name: i.index for i in self._inputs}

    def run(self, feed: Feed) -> Run:
        """Sets the inputs, invokes, and reads the outputs; exceptions of the interpreter pass."""
        interpreter = self._interpreter
        for name, value in (feed if type(feed) is dict else self._named(feed)).items():
            interpreter.set_tensor(self._index.get(name) or self._indexed(name), value)
        start = _now()
        interpreter.invoke()
        end = _now()
        result = {}
        for name, index in self._results:
            result[name] = interpreter.get_tensor(index)
        return result, start, end

    def call(self, feed: Feed) -> dict[str, np.ndarray]:
        """Does what `run` does, and returns the outputs alone."""
        return self.run(feed)[0]

    def inputs(self, feed: Feed) -> dict[str, Any]:
        """Returns what a feed puts into the inputs, by the names under which they are logged."""
        return {self._name_of[self._indexed(name)]: value for name, value in self._named(feed).items()}

    def outputs(self, result: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what a run returned, which has names."""
        return result

    @contextlib.contextmanager
    def timed_ops(self, hook: Any) -> Iterator[list[tuple[int, str, int]]]:
        """Times the ops that run while the context is open.

        Args:
            hook: The `edge_exray.profiling.hook.OpHook` that the interpreter was made with.

        Yields:
            Index, name and nanoseconds of each op, as they run.

        Raises:
            ProfilingError: The runtime cannot be profiled.
        """
        times: list[tuple[int, str, int]] = []
        clock = time.perf_counter_ns

        def make(step: Any, invoke: Callable[[int, int], int]) -> Callable[[int, int], int]:
            # Of an op that a delegate runs, the step tells the delegate.
            index, name = self._op_of.get(step.outputs, (step.node, step.op))

            def call(context: int, node: int) -> int:
                start = clock()
                status = invoke(context, node)
                times.append((index, name, clock() - start))
                return status

            return call

        with hook.wrap(self._interpreter, make):
            yield times

    @functools.cached_property
    def _op_of(self) -> dict[tuple[int, ...], tuple[int, str]]:
        ops = self._interpreter._get_ops_details()
        return {
            tuple(map(int, op["outputs"])): (int(op["index"]), op["op_name"])
            for op in ops
            if op["op_name"] != _DELEGATE
        }

    def layers(self) -> dict[TensorInfo, np.ndarray] | None:
        """Returns views of what the ops have computed, in the order of execution.

        They must be dropped before the next run. None if the runtime does not keep all of it: then the memory of one
        is used for another, and what it holds cannot be told.
        """
        views = {}
        extents = []
        for info in self._layers:
            try:
                view = self._interpreter.tensor(info.index)()
            except ValueError:  # a delegate computed it in its own memory
                return None
            view = np.asarray(view)
            if not view.size:
                continue
            views[info] = view
            if view.ndim and view.dtype != object:  # the rest are copies
                begin = view.__array_interface__["data"][0]
                extents.append((begin, begin + view.nbytes))
        extents.sort()
        if any(end > begin for (_, end), (begin, _) in itertools.pairwise(extents)):
            return None
        return views

    @functools.cached_property
    def _layers(self) -> list[TensorInfo]:
        details = {int(d["index"]): d for d in self._interpreter.get_tensor_details()}
        inputs = {info.index for info in self._inputs}
        # An op that a delegate took stands there too, and its tensors are the delegate's.
        found = [int(i) for op in self._interpreter._get_ops_details() for i in op["outputs"]]
        return [
            TensorInfo(i, f"{i}/{details[i]['name']}", _quantization(details[i]))
            for i in dict.fromkeys(found)
            if i in details and i not in inputs
        ]

    def _named(self, feed: Feed) -> Mapping[str, np.ndarray]:
        if type(feed) is dict or isinstance(feed, Mapping):  # the first question is the quick one
            return feed
        if len(self._inputs) > 1:
            raise errors.DataError(f"the model has the inputs {[i.name for i in self._inputs]}: give a dict of arrays")
        return {self._inputs[0].name: feed}

    def _indexed(self, name: str) -> int:
        if name not in self._index:
            raise errors.DataError(f"the model has no input {name!r}, only {[i.name for i in self._inputs]}")
        return self._index[name]


class FunctionRunner:
    """Runs a function of the app: what it is given goes to it, what it returns goes back."""

    runtime = "function"
    # A function does not tell.
    quantization: Mapping[str, dict[str, Quantization | None]] = {"input": {}, "output": {}}

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.call = function

    def run(self, feed: Any) -> Run:
        """Calls the function; its exceptions pass."""
        start = _now()
        result = self.call(feed)
        return result, start, _now()

    def inputs(self, feed: Any) -> dict[str, Any]:
        """Returns what the function is given; one array without a name is called `input`."""
        return named(feed, "input")

    def outputs(self, result: Any) -> dict[str, Any]:
        """Returns what it returned; one array without a name is called `output`."""
        return named(result, "output")


Runner = InterpreterRunner | FunctionRunner


def runner_of(model: Any) -> Runner:
    """Returns what runs an interpreter or a function."""
    return InterpreterRunner(model) if hasattr(model, "get_input_details") else FunctionRunner(model)


def named(values: Any, role: str) -> dict[str, Any]:
    """Gives arrays names: a mapping has them, one array is called `role`, several `role_0`, `role_1`, ..."""
    if isinstance(values, np.ndarray):  # most are, and whether it is a mapping is slow to ask
        return {role: values}
    if type(values) is dict or isinstance(values, Mapping):
        return {str(name): value for name, value in values.items()}
    if isinstance(values, list | tuple):
        return {f"{role}_{i}": value for i, value in enumerate(values)}
    return {role: values}


def _infos(details: Sequence[Mapping[str, Any]], names: Mapping[str, int]) -> list[TensorInfo]:
    signature_names = {index: name for name, index in names.items()}
    return [TensorInfo(int(d["index"]), signature_names.get(d["index"], d["name"]), _quantization(d)) for d in details]


def _quantization(details: Mapping[str, Any]) -> Quantization | None:
    found = details["quantization_parameters"]
    if not len(found["scales"]):
        return None
    axis = int(found["quantized_dimension"])
    return Quantization(tuple(map(float, found["scales"])), tuple(map(int, found["zero_points"])), axis)
