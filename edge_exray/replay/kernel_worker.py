"""The child process that runs the ops of an edge model on other kernels: `python -m edge_exray.replay.kernel_worker`.

Reference kernels can abort the process that they run in. This one reads pickled requests from its standard input and
writes pickled answers to its standard output: first a `Request`, answered by the ops that died; then the inputs of a
frame each, answered by the drift of each op. It first tries all ops in a fork of itself, and halves them until it knows
which of them die.
"""

import dataclasses
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from edge_exray import errors, processes
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.drift.values import Values
from edge_exray.models import isolation
from edge_exray.models.graph import read_graph
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay import child

_REFUSED = 3


@dataclasses.dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes:
        edge: Content of the edge model, which runs on production kernels.
        other: Content of the model whose ops are compared with it: that of the edge model, unless a test has another.
        kernels: What those ops run on, see `EdgeModel`.
        signature: Name of the signature.
        ops: Indices of the ops.
        feed: Inputs on which is tried which ops die.
    """

    edge: bytes
    other: bytes
    kernels: str
    signature: str | None
    ops: tuple[int, ...]
    feed: dict[str, np.ndarray]


class Bench:
    """Ops of a model on some kernels, fed with what production kernels compute.

    Args:
        request: What to compare.
        ops: Indices of the ops.

    Raises:
        ModelError: A kernel refuses an op.
    """

    def __init__(self, request: Request, ops: Sequence[int]) -> None:
        self._edge = EdgeModel(request.edge, preserve_tensors=True, signature=request.signature)
        graph = self._edge.graph
        self._isolated = isolation.isolate(request.other, read_graph(request.other), ops)
        self._model = EdgeModel(self._isolated.content, kernels=request.kernels)
        self._outputs = {i: graph.ops[i].outputs[0] for i in self._isolated.ops}
        self._specs = {t: graph.tensors[t].spec for t in self._outputs.values()}

    def run(self, feed: dict[str, np.ndarray]) -> None:
        """Runs one frame on both kernels."""
        self._edge.infer(feed)
        interpreter = self._model.interpreter
        sizes = {d["index"]: tuple(d["shape"]) for d in interpreter.get_input_details()}
        values = {t: self._edge.tensor(t) for t in self._isolated.inputs}
        resized = {i: values[t].shape for t, i in self._isolated.inputs.items() if values[t].shape != sizes[i]}
        for index, shape in resized.items():
            interpreter.resize_tensor_input(index, shape)
        if resized:
            interpreter.allocate_tensors()
        for tensor, index in self._isolated.inputs.items():
            interpreter.set_tensor(index, values[tensor])
        interpreter.reset_all_variables()
        interpreter.invoke()

    def compare(self, feed: dict[str, np.ndarray]) -> dict[int, DriftStatistics]:
        """Returns op index to its drift on one frame: the other kernels' values against production's."""
        self.run(feed)
        interpreter = self._model.interpreter
        drifts = {}
        for op, tensor in self._outputs.items():
            drifts[op] = DriftStatistics()
            spec = self._specs[tensor]
            drifts[op].update(Values(interpreter.get_tensor(tensor), spec), Values(self._edge.tensor(tensor), spec))
        return drifts


def find_dead(request: Request, ops: Sequence[int]) -> dict[int, str]:
    """Returns op index to how the process ended that ran it."""
    ending = _try(request, ops) if ops else None
    if ending is None:
        return {}
    if len(ops) == 1:
        return {ops[0]: ending}
    middle = len(ops) // 2
    return find_dead(request, ops[:middle]) | find_dead(request, ops[middle:])


def _try(request: Request, ops: Sequence[int]) -> str | None:
    """Runs some ops in a fork, and returns how it ended; None when it ended well."""
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        processes.end_with_parent(parent)
        # What it prints while it dies is no news.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        try:
            Bench(request, ops).run(request.feed)
        except (errors.ModelError, RuntimeError, ValueError):
            os._exit(_REFUSED)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return {0: None, _REFUSED: "refused to run"}.get(status, f"ended with status {status}")


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    request: Request = pickle.load(requests)
    dead = find_dead(request, request.ops)
    child.answer(answers, dead)
    bench = Bench(request, [op for op in request.ops if op not in dead])
    while True:
        try:
            feed = pickle.load(requests)
        except EOFError:
            return
        child.answer(answers, bench.compare(feed))


if __name__ == "__main__":
    child.serve(main)
