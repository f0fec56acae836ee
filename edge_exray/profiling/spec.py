"""What a user demands of an edge model's cost."""

import dataclasses
from typing import ClassVar

from edge_exray import specs


@dataclasses.dataclass(frozen=True)
class ProfileSpec(specs.JsonSpec):
    """Budgets of the edge model, and how it is measured; see `schemas/profile_spec.schema.json`.

    Attributes:
        max_latency_ms, max_p90_latency_ms, max_p99_latency_ms: Largest median, 90th and 99th percentile of the wall
            time of an inference in milliseconds.
        max_latency_ratio_to_float: Largest median latency relative to that of the float edge model.
        max_latency_growth: Largest median latency relative to that of the baseline, the model that was blessed last.
        max_op_type_ms: Op name to the largest time in milliseconds that all ops of that type may take together.
        max_op_type_ratio_to_float: Op name to the largest such time relative to the float edge model's.
        max_size_bytes: Largest size of the file.
        max_memory_bytes: Largest growth of a process by loading and running the model.
        kernels: `"xnnpack"` (production), `"builtin"` or `"reference"`.
        num_threads: Threads of the interpreter.
        runs: Fewest inferences to time.
        warmup_runs: Fewest inferences before the timed ones.
        precision: Half the width of the median's confidence interval relative to the median. There are more runs until
            it is reached and every budget of a latency is decided. None makes just `runs`, as fast as they go.
        min_seconds: Over how long the runs are spread at least, which is longer than what disturbs the machine: a step
            of its clock, a neighbour.
        max_runs, max_seconds: Where further runs end at the latest, for all models together.
        confidence: That of the intervals which budgets are judged by.
        profiler: What times single ops: `"hook"`, `"litert_profiler"`, `"isolated"`, or `"auto"`, the first that works.
        on_inconclusive: What happens to a model when the runs do not decide: `"block"` or `"pass"`.
        on_noise: What happens on a machine that is too noisy for the precision: `"judge"` makes do with the intervals
            that there are, `"refuse"` is an error.
    """

    schema_name: ClassVar[str] = "profile_spec"

    max_latency_ms: float | None = None
    max_p90_latency_ms: float | None = None
    max_p99_latency_ms: float | None = None
    max_latency_ratio_to_float: float | None = None
    max_latency_growth: float | None = None
    max_op_type_ms: dict[str, float] | None = None
    max_op_type_ratio_to_float: dict[str, float] | None = None
    max_size_bytes: int | None = None
    max_memory_bytes: int | None = None
    kernels: str = "xnnpack"
    num_threads: int = 1
    runs: int = 50
    warmup_runs: int = 5
    precision: float | None = 0.05
    min_seconds: float = 1.0
    max_runs: int = 2000
    max_seconds: float = 20.0
    confidence: float = 0.95
    profiler: str = "auto"
    on_inconclusive: str = "block"
    on_noise: str = "judge"

    @property
    def percentile_budgets(self) -> dict[int, float | None]:
        """Percentile to its budget in milliseconds."""
        return {50: self.max_latency_ms, 90: self.max_p90_latency_ms, 99: self.max_p99_latency_ms}

    @property
    def ratio_budgets(self) -> dict[str, float | None]:
        """Role of the model that the edge model is compared with to the largest ratio."""
        return {"float_edge": self.max_latency_ratio_to_float, "baseline": self.max_latency_growth}
