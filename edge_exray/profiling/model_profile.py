"""What one model costs, in figures."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Latency:
    """Wall time of whole inferences in milliseconds, inputs already in place.

    Attributes:
        p50, p90, p99: Percentiles; p90 and p99 are None where another machine's profile does not tell them.
        mean: Mean of all runs, outliers among them.
        runs: How many inferences were timed.
        intervals: `"p50"`, `"p90"` and `"p99"` to their confidence interval [lower, upper] in milliseconds, None where
            the runs do not suffice; empty when it is not known.
        confidence: That of the intervals.
        outliers: How many runs lie further from the median than three robust standard deviations, see
            `edge_exray.profiling.intervals.count_outliers`. They count in every figure.
    """

    p50: float
    p90: float | None
    p99: float | None
    mean: float
    runs: int
    intervals: dict[str, list[float] | None] = dataclasses.field(default_factory=dict)
    confidence: float | None = None
    outliers: int | None = None


@dataclasses.dataclass(frozen=True)
class OpTime:
    """Time of one op.

    Attributes:
        index: Index of the op in the edge graph.
        op: TFLite op name, for example `"CONV_2D"`.
        name: Name of the op's main output tensor.
        kernel: What ran it: `"xnnpack"`, `"builtin"`, `"reference"`; `"folded"` when it does not run at all because
            the delegate computed its constant result once; `"fused"` when it runs as part of the next op.
        ms: Median time, scaled so that all ops add up to the p50 of the undisturbed inference.
        raw_ms: Median time as the profiler measured it, less the cost of the profiler's own call.
        share: `ms` as share of the inference, in [0, 1].
        interval_ms: Confidence interval [lower, upper] of `ms`; None where it is not known.
        covers: Indices of the ops that a delegate runs as this one; None for an op of the graph.
        flops, bytes: Operations and bytes of memory traffic, see `edge_exray.profiling.arithmetic`; None where they
            are not known.
        gflops_per_s, gb_per_s: What it attains of these in 1e9 a second.
        roofline_share: The least time that the machine could take for it as share of `ms`; above 1 where tensors lie in
            a faster cache than those that the ceilings were measured with.
        layer: Name of the cloud model's layer; None where the name of the tensor tells none.
    """

    index: int
    op: str
    name: str
    kernel: str
    ms: float
    raw_ms: float
    share: float
    interval_ms: list[float] | None = None
    covers: list[int] | None = None
    flops: int | None = None
    bytes: int | None = None
    gflops_per_s: float | None = None
    gb_per_s: float | None = None
    roofline_share: float | None = None
    layer: str | None = None

    @property
    def short_name(self) -> str:
        """The name of the layer that a fused op ends with; the converter joins the names of all with `;`."""
        return self.name.split(";")[0]


@dataclasses.dataclass(frozen=True)
class ModelProfile:
    """What one model costs on one set of kernels.

    Attributes:
        role: `"edge"`, `"float_edge"`, `"baseline"`, or any other name for a model that is only compared with.
        path: Where the model is.
        bytes: Size of the file.
        kernels, num_threads: What it ran on.
        profiler: How the ops were timed: `"hook"`, `"litert_profiler"` or `"isolated"`; elsewhere also
            `"benchmark_model"`.
        latency_ms: Undisturbed inferences.
        init_ms, memory_bytes: See `Footprint`.
        ops: In the order of the graph.
        profiler_note: Why the ops were not timed by a better profiler; None when the best one did it.
        profiled_ms: `"p50"` of the whole inferences during which the ops were timed, in milliseconds.
        scale: What the measured times of the ops were multiplied by to add up to `latency_ms.p50`.
        noise: See `edge_exray.profiling.machine.Noise`.
        peak_memory_bytes: See `Footprint`.
        arena_bytes: See `edge_exray.profiling.arena.arena_bytes`.
        signature: The signature that ran; None for the only one.
        fingerprint: SHA-256 of the file, in hexadecimal.
        edge_ratio: How many times as long as this model the edge model takes: `"p50"`, its confidence `"interval"`
            [lower, upper] or None, and the number of pairs of `"blocks"` that tell, see
            `edge_exray.profiling.intervals.ratio_interval`; None for the edge model itself.
        yardstick: How many times as long as the op of `edge_exray.profiling.yardstick` it takes, in the form of
            `edge_ratio`, and the `"ms"` that the op took; None where that was not timed beside it.
        device: The machine that a profile from elsewhere was measured on, see `edge_exray.profiling.device_profile`;
            what it does not tell (`bytes`, `num_threads`, `init_ms`, `memory_bytes`) is None. None for this machine.
    """

    role: str
    path: str
    bytes: int | None
    kernels: str
    num_threads: int | None
    profiler: str
    latency_ms: Latency
    init_ms: float | None
    memory_bytes: int | None
    ops: list[OpTime]
    profiler_note: str | None = None
    profiled_ms: dict[str, float] | None = None
    scale: float | None = None
    noise: dict[str, Any] | None = None
    peak_memory_bytes: int | None = None
    arena_bytes: int | None = None
    signature: str | None = None
    fingerprint: str | None = None
    edge_ratio: dict[str, Any] | None = None
    yardstick: dict[str, Any] | None = None
    device: dict[str, Any] | None = None

    @property
    def conditions(self) -> str:
        """What the figures hold for, in words."""
        told = [f"{self.kernels} kernels"]
        if self.num_threads is not None:
            told.append(f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}")
        told.append(f"{self.latency_ms.runs} runs")
        return ", ".join(told if self.device is None else [self.device["name"], *told])

    def slowest(self, count: int) -> list[OpTime]:
        """Returns the ops that take the longest, slowest first."""
        return sorted(self.ops, key=lambda op: op.ms, reverse=True)[:count]

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "ModelProfile":
        """Reads an entry of `models` in a document of `schemas/kernel_profile.schema.json`."""
        return cls(
            **{
                **document,
                "latency_ms": Latency(**document["latency_ms"]),
                "ops": [OpTime(**op) for op in document["ops"]],
            }
        )
