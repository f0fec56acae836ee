"""What loading a model costs, measured in a process of its own.

A process that has run other models has heap to reuse, and would report too little. A child also survives kernels
that abort: its death becomes an error here. Run as
`python -m edge_exray.profiling.footprint MODEL KERNELS THREADS [SIGNATURE]`.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from edge_exray import errors, processes
from edge_exray.models.graph import tensorflow_ops


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Cost of one model in memory and before its first inference.

    Attributes:
        init_ms: Time to map the file, make the interpreter, prepare its kernels and allocate its tensors.
        memory_bytes: Growth of the resident set by that and two inferences: weights, arena and kernel workspace.
        peak_memory_bytes: Highest resident set meanwhile, less that of before.
    """

    init_ms: float
    memory_bytes: int
    peak_memory_bytes: int


def measure_footprint(
    path: str | os.PathLike[str], kernels: str, num_threads: int, signature: str | None = None
) -> Footprint:
    """Loads and runs a model in a new process.

    Args:
        path: A .tflite.
        kernels: See `EdgeModel`.
        num_threads: Threads of the interpreter.
        signature: See `EdgeModel`.

    Raises:
        UnrunnableError: The model does not load or run here; the kernels may even have killed the process.
    """
    path = os.fspath(path)
    command = [sys.executable, "-m", __name__, path, kernels, str(num_threads), *([signature] if signature else [])]
    done = subprocess.run(command, env=processes.environment(), capture_output=True, text=True, check=False)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise errors.UnrunnableError(
            f"the {kernels} kernels kill the process that runs {path} ({name}): try other kernels", path
        )
    if "Select TensorFlow op" in done.stderr:
        names = ", ".join(tensorflow_ops(pathlib.Path(path).read_bytes()))
        raise errors.UnrunnableError(
            f"{path} needs TensorFlow's kernels ({names}), which LiteRT here does not have: time it on the device with "
            "benchmark_model and give its output as a device profile, or convert it without Select TensorFlow ops",
            path,
        )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise errors.UnrunnableError(f"{path} does not run in LiteRT with {kernels} kernels: {last}", path)
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def _measure(path: str, kernels: str, num_threads: int, signature: str | None = None) -> Footprint:
    import numpy as np
    import psutil
    from ai_edge_litert import interpreter as litert

    from edge_exray.models import flatbuffer, tflite

    content = None
    if signature:
        stored = pathlib.Path(path).read_bytes()
        led = flatbuffer.lead_with(stored, signature)
        # An app has it in a file of its own, which is mapped; only a rewritten one counts as memory.
        content = None if led is stored else led
        del stored

    process = psutil.Process()
    before = process.memory_info().rss
    _restart_peak()
    start = time.perf_counter()
    interpreter = litert.Interpreter(
        model_path=None if content else path,
        model_content=content,
        experimental_op_resolver_type=tflite.KERNELS[kernels],
        num_threads=num_threads,
    )
    interpreter.allocate_tensors()
    init_ms = 1e3 * (time.perf_counter() - start)
    for details in interpreter.get_input_details():
        # Zeros are valid as index and length too; the values do not change what memory is needed.
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    for _ in range(2):
        interpreter.invoke()
    after = process.memory_info().rss
    return Footprint(init_ms, after - before, max(_peak(), after) - before)


def _restart_peak() -> None:
    """Lets the system forget the highest resident set so far, which was that of importing libraries."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Returns the highest resident set in bytes; 0 where the system does not tell it.

    Not `ru_maxrss`, which a process inherits from the one that started it.
    """
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    processes.end_with_parent()
    print(json.dumps(dataclasses.asdict(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))))
