"""What a user demands of an edge model's cost."""

import dataclasses
from typing import ClassVar

from edge_exray import specs


@dataclasses.dataclass(frozen=True)
class ProfileSpec(specs.JsonSpec):
    """Budgets of the edge model, and how it is measured; see `schemas/profile_spec.schema.json`.

    Attributes:
        max_latency_ms, max_p90_latency_ms, max_p99_latency_ms: Largest median, 90th and 99th percentile of the wall
            time of an inference in milliseconds. A percentile q needs 100 / (100 - q) runs.
        max_latency_ratio_to_float: Largest median latency relative to that of the float edge model.
        max_size_bytes: Largest size of the file.
        max_memory_bytes: Largest growth of a process by loading and running the model.
        kernels: `"xnnpack"` (production), `"builtin"` or `"reference"`.
        num_threads: Threads of the interpreter.
        runs: Inferences to time.
        warmup_runs: Inferences before the timed ones.
    """

    schema_name: ClassVar[str] = "profile_spec"

    max_latency_ms: float | None = None
    max_p90_latency_ms: float | None = None
    max_p99_latency_ms: float | None = None
    max_latency_ratio_to_float: float | None = None
    max_size_bytes: int | None = None
    max_memory_bytes: int | None = None
    kernels: str = "xnnpack"
    num_threads: int = 1
    runs: int = 50
    warmup_runs: int = 5
