"""What loading a model costs, measured in a process of its own.

A process that has run other models has heap to reuse, and would report too little. A child also survives kernels
that abort: its death becomes an error here. Run as `python -m edge_exray.profiling.footprint MODEL KERNELS THREADS`.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

from edge_exray import errors


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Cost of one model in memory and before its first inference.

    Attributes:
        init_ms: Time to map the file, make the interpreter, prepare its kernels and allocate its tensors.
        memory_bytes: Growth of the resident set by that and two inferences: weights, arena and kernel workspace.
    """

    init_ms: float
    memory_bytes: int


def measure_footprint(path: str | os.PathLike[str], kernels: str, num_threads: int) -> Footprint:
    """Loads and runs a model in a new process.

    Args:
        path: A .tflite.
        kernels: See `EdgeModel`.
        num_threads: Threads of the interpreter.

    Raises:
        ModelError: The model does not load or run.
        ProfilingError: The kernels killed the process.
    """
    path = os.fspath(path)
    command = [sys.executable, "-m", __name__, path, kernels, str(num_threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise errors.ProfilingError(
            f"the {kernels} kernels kill the process that runs {path} ({name}): try other kernels"
        )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise errors.ModelError(f"{path} does not run in LiteRT with {kernels} kernels: {last}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def _measure(path: str, kernels: str, num_threads: int) -> Footprint:
    import numpy as np
    import psutil
    from ai_edge_litert import interpreter as litert

    from edge_exray.models import tflite

    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    interpreter = litert.Interpreter(
        model_path=path, experimental_op_resolver_type=tflite.KERNELS[kernels], num_threads=num_threads
    )
    interpreter.allocate_tensors()
    init_ms = 1e3 * (time.perf_counter() - start)
    for details in interpreter.get_input_details():
        # Zeros are valid as index and length too; the values do not change what memory is needed.
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    for _ in range(2):
        interpreter.invoke()
    return Footprint(init_ms, process.memory_info().rss - before)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
