"""Times each op as a model of its own: the way that works with every runtime, and the least true to the whole.

An op by itself finds its inputs in the cache or not, as it happens, and no neighbour to be fused with.
"""

from typing import Any

from edge_exray import errors
from edge_exray.models import flatbuffer, isolation
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.op_profiler import OpSample, Subject
from edge_exray.profiling.timing import InferenceTimer

# Of the runs of a model of one op these are not counted.
_WARMUP_RUNS = 3


class IsolatedProfiler:
    """Times every op as a model of its own; see `OpProfiler`. What it gives as whole is the sum of the ops.

    Args:
        subject: What to profile.

    Raises:
        ProfilingError: The ops of the model cannot be set apart.
    """

    name = "isolated"

    def __init__(self, subject: Subject) -> None:
        obstacle = isolation.obstacle(subject.model.content, subject.graph)
        if obstacle:
            raise errors.ProfilingError(f"{subject.model.path}: its ops cannot be run one by one: {obstacle}")
        self._subject = subject
        self._samples: dict[int, OpSample] = {}
        self._whole = EdgeModel(
            subject.model.content, kernels="builtin", preserve_tensors=True, signature=subject.signature
        )
        self._whole.infer(subject.feeds[0])

    def warm(self) -> float:
        """See `Timer`; each op warms up by itself, so that this runs nothing."""
        return 0.0

    def time(self, runs: int) -> list[float]:
        """See `Timer`."""
        times = [0.0] * runs
        for op in isolation.live(self._subject.graph):
            kernel, block = self.time_op(op.index, runs)
            self._samples.setdefault(op.index, OpSample(kernel, [])).blocks.append(block)
            times = [whole + ms for whole, ms in zip(times, block, strict=True)]
        return times

    def forget(self) -> None:
        """See `OpProfiler`."""
        self._samples.clear()

    def close(self) -> None:
        """See `OpProfiler`."""

    def op_samples(self) -> dict[int, OpSample]:
        """See `OpProfiler`."""
        return self._samples

    def time_op(self, index: int, runs: int) -> tuple[str, list[float]]:
        """Returns what runs an op that is alone, see `OpTime.kernel`, and the milliseconds of so many runs."""
        subject = self._subject
        isolated = isolation.isolate(subject.model.content, subject.graph, [index])
        # One at a time: together they would hold the weights of the model as many times as it has ops.
        model = EdgeModel(_lightened(isolated.content), kernels=subject.kernels, num_threads=subject.num_threads)
        names = {tensor: name for name, tensor in model.input_tensors().items()}
        feed = {names[added]: self._whole.tensor(t).copy() for t, added in isolated.inputs.items()}
        timer = InferenceTimer(model, [feed])
        for _ in range(_WARMUP_RUNS):
            timer.warm()
        details: list[dict[str, Any]] = model.interpreter._get_ops_details()
        delegated = any(entry["op_name"] == "DELEGATE" for entry in details)
        return "xnnpack" if delegated else subject.op_kernel, timer.time(runs)


def _lightened(content: bytes) -> bytes:
    """Drops the constants that no op of the model reads."""
    model = flatbuffer.unpack(content)
    main = model.subgraphs[0]
    read = {t for operator in main.operators for t in operator.inputs}
    for t, tensor in enumerate(main.tensors):
        if t not in read:
            tensor.buffer = 0
    kept = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    for i, buffer in enumerate(model.buffers):
        if i not in kept:
            buffer.data = None
    return flatbuffer.pack(model, len(content))
