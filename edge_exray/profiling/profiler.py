"""Times edge models: whole inferences undisturbed, and in turn with them each op under a profiler.

Profiling costs time itself and, with XNNPACK, keeps the delegate from fusing ops. So the whole is measured on an
interpreter that is as plain as the app's, and the times of the ops are scaled to add up to that:
`ms_i = raw_i * p50 / sum(raw)`, where `raw_i` is the median over the runs less what the profiler's own call costs.
"""

import contextlib
import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models import locations
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import intervals, machine, timing
from edge_exray.profiling.arena import arena_bytes
from edge_exray.profiling.feeds import Feed, random_feed
from edge_exray.profiling.footprint import Footprint, measure_footprint
from edge_exray.profiling.isolated_profiler import IsolatedProfiler
from edge_exray.profiling.litert_profiler import LiteRtProfiler
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime
from edge_exray.profiling.op_profiler import HookProfiler, OpProfiler, OpSample, Subject
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.profiling.timing import Blocks, InferenceTimer
from edge_exray.profiling.yardstick import open_yardstick

EDGE = "edge"
PERCENTILES = (50, 90, 99)

# The best first.
_PROFILERS: dict[str, type[HookProfiler] | type[LiteRtProfiler] | type[IsolatedProfiler]] = {
    profiler.name: profiler for profiler in (HookProfiler, LiteRtProfiler, IsolatedProfiler)
}
# When no precision is asked for, the warm-up still has one to come to rest with.
_WARMUP_TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class _Case:
    """One model, ready to be timed."""

    role: str
    subject: Subject
    footprint: Footprint
    timer: InferenceTimer
    profiler: OpProfiler
    note: str | None


def profile_model(
    model_path: str | os.PathLike[str],
    spec: ProfileSpec | None = None,
    *,
    role: str = EDGE,
    feeds: Sequence[Feed] | None = None,
    signature: str | None = None,
) -> ModelProfile:
    """Profiles one .tflite on this machine; see `profile_models`."""
    [profiled] = profile_models({role: model_path}, spec or ProfileSpec(), feeds=feeds, signature=signature)
    return profiled


def profile_models(
    models: Mapping[str, str | os.PathLike[str]],
    spec: ProfileSpec,
    *,
    feeds: Sequence[Feed] | None = None,
    signature: str | None = None,
) -> list[ModelProfile]:
    """Profiles models on this machine, in turn.

    Args:
        models: Role to path of a .tflite.
        spec: How to measure; its budgets say what must become clear.
        feeds: Inputs with batch axis, all of the same shapes, real values for quantised inputs; the runs go
            round them. None makes a random one for each model.
        signature: See `EdgeModel`.

    Raises:
        ModelError: A model does not load, or, an `UnrunnableError`, it does not run here.
        DataError: The feeds do not fit a model.
        ProfilingError: The ops cannot be timed, the kernels abort, or the machine is too noisy and that is to be an
            error.
    """
    with contextlib.ExitStack() as opened:
        cases = [_open(opened, role, path, spec, feeds, signature) for role, path in models.items()]
        # What makes models of its own inside `time` would disturb the others.
        interleaved = [case.profiler for case in cases if not isinstance(case.profiler, IsolatedProfiler)]
        timers: list[timing.Timer] = [*(case.timer for case in cases), *interleaved, open_yardstick(spec.num_threads)]
        tolerance = spec.precision or _WARMUP_TOLERANCE
        settled = [timing.warm_up(timer, spec.warmup_runs, tolerance) for timer in timers]
        load = machine.LoadMeter()
        roles = [case.role for case in cases]
        timed = timing.interleave(
            timers,
            plan(spec),
            lambda blocks: suffices(dict(zip(roles, blocks, strict=False)), spec),
        )
        others_share = load.others_share()
        wholes = dict(zip(map(id, interleaved), timed[len(cases) : -1], strict=True))
        walls = dict(zip(roles, timed, strict=False))
        profiles = []
        for case, rests in zip(cases, settled, strict=False):
            whole = wholes.get(id(case.profiler)) or [case.profiler.time(spec.runs)]
            noise = _noise(case, walls[case.role], rests, others_share, spec)
            profiles.append(_profile(case, walls, whole, timed[-1], noise, spec))
    return profiles


def plan(spec: ProfileSpec) -> timing.Plan:
    """Returns how often models are run."""
    if spec.precision is None:
        return timing.Plan(spec.runs, spec.runs, spec.max_seconds)
    return timing.Plan(spec.runs, spec.max_runs, spec.max_seconds, spec.min_seconds)


def suffices(walls: Mapping[str, Blocks], spec: ProfileSpec) -> bool:
    """Returns whether the runs so far are precise enough and decide every budget of a latency.

    Args:
        walls: Role of the model to its blocks of milliseconds.
        spec: What is asked for.
    """
    for blocks in walls.values():
        if not _is_precise(blocks, spec):
            return False
    if EDGE not in walls:
        return True
    for percentile, budget in spec.percentile_budgets.items():
        if not _decides(intervals.percentile_interval(walls[EDGE], percentile, spec.confidence), budget):
            return False
    for role, budget in spec.ratio_budgets.items():
        if role in walls:
            _, interval = intervals.ratio_interval(walls[EDGE], walls[role], spec.confidence)
            if not _decides(interval, budget):
                return False
    return True


def _is_precise(blocks: Blocks, spec: ProfileSpec) -> bool:
    interval = intervals.percentile_interval(blocks, 50, spec.confidence)
    if spec.precision is None:
        return True
    if interval is None:
        return False
    return (interval[1] - interval[0]) / 2 <= spec.precision * statistics.median(_flat(blocks))


def _decides(interval: tuple[float, float] | None, budget: float | None) -> bool:
    return budget is None or (interval is not None and not interval[0] <= budget < interval[1])


def _open(
    opened: contextlib.ExitStack,
    role: str,
    path: str | os.PathLike[str],
    spec: ProfileSpec,
    feeds: Sequence[Feed] | None,
    signature: str | None,
) -> _Case:
    locations.check_tflite(path)
    # First, because kernels that abort shall take the child with them and not this process.
    footprint = measure_footprint(path, spec.kernels, spec.num_threads, signature)
    model = EdgeModel(path, kernels=spec.kernels, num_threads=spec.num_threads, signature=signature)
    if role == EDGE and signature is not None and signature not in model.signatures:
        # Another model may call its only one differently; of the edge model it would be a slip of the pen.
        known = f"only {model.signatures}: name one of these" if model.signatures else "nor any other: name none"
        raise errors.ModelError(f"{model.path} has no signature {signature!r}, {known}")
    if not model.graph.ops:
        raise errors.ProfilingError(f"{model.path} has no op: there is nothing to profile")
    feeds = [random_feed(model.inputs)] if feeds is None else feeds
    _check_shapes(feeds)
    timer = InferenceTimer(model, feeds)
    subject = Subject(model, feeds, spec.kernels, spec.num_threads, signature)
    profiler, note = _open_profiler(subject, spec.profiler)
    opened.callback(profiler.close)
    return _Case(role, subject, footprint, timer, profiler, note)


def _open_profiler(subject: Subject, name: str) -> tuple[OpProfiler, str | None]:
    """Returns the first profiler that shows every op of the model in a trial, and why not an earlier one."""
    if name != "auto":
        return _tried(subject, name), None if name == HookProfiler.name else f"{name} was asked for"
    refusals: list[str] = []
    for candidate in _PROFILERS:
        try:
            return _tried(subject, candidate), "; ".join(refusals) or None
        except errors.ProfilingError as e:
            refusals.append(f"{candidate}: {e}")
    raise errors.ProfilingError(f"{subject.model.path} cannot be profiled op by op: {'; '.join(refusals)}")


def _tried(subject: Subject, name: str) -> OpProfiler:
    profiler = _PROFILERS[name](subject)
    if isinstance(profiler, IsolatedProfiler):
        # It makes a model of every op: there is nothing to be missed, and a trial would take as long as the runs.
        return profiler
    try:
        profiler.time(1)
        samples = profiler.op_samples()
        for op in subject.graph.ops:
            if op.index not in samples and not subject.graph.is_folded(op):
                raise errors.ProfilingError(
                    f"{subject.model.path}: the {subject.kernels} kernels do not run op {op.index}, {op.name}, by "
                    "itself; profile with builtin kernels"
                )
    except errors.ProfilingError:
        profiler.close()
        raise
    profiler.forget()
    return profiler


def _check_shapes(feeds: Sequence[Feed]) -> None:
    if not feeds:
        raise errors.DataError("there are no inputs to profile with: give some, or None for random ones")
    shapes = [{name: np.shape(value) for name, value in feed.items()} for feed in feeds]
    for shape in shapes:
        if shape != shapes[0]:
            raise errors.DataError(
                f"the inputs to profile with differ in shape ({shapes[0]} and {shape}): profile one shape at a time"
            )


def _noise(case: _Case, blocks: Blocks, settled: bool, others_share: float | None, spec: ProfileSpec) -> machine.Noise:
    stolen = case.timer.stolen_share if spec.num_threads == 1 else None
    noise = machine.Noise(
        spread=intervals.spread(_flat(blocks)),
        drift=intervals.spread([statistics.median(block) for block in blocks]),
        stolen_share=stolen,
        others_share=others_share,
        settled=settled,
        noisy=not _is_precise(blocks, spec) or (stolen or 0.0) > machine.BUSY_SHARE,
    )
    if noise.noisy and spec.on_noise == "refuse":
        raise errors.ProfilingError(
            f"the machine is too noisy to time {case.subject.model.path} to {spec.precision or 0:.0%}: the runs spread "
            f"by {noise.spread:.0%}, other processes take {others_share or 0:.0%} of the machine and {stolen or 0:.0%} "
            "of the processor that runs it; end them, or raise precision, max_runs or max_seconds"
        )
    return noise


def _profile(
    case: _Case, walls: Mapping[str, Blocks], whole: Blocks, yardstick: Blocks, noise: machine.Noise, spec: ProfileSpec
) -> ModelProfile:
    subject, model = case.subject, case.subject.model
    latency = _latency(walls[case.role], spec.confidence)
    ops, scale = _op_times(subject, case.profiler.op_samples(), latency.p50, spec.confidence)
    ratio = None
    if case.role != EDGE and EDGE in walls:
        ratio = _ratio(walls[EDGE], walls[case.role], spec.confidence)
    return ModelProfile(
        role=case.role,
        path=model.path,
        bytes=model.bytes,
        kernels=subject.kernels,
        num_threads=subject.num_threads,
        profiler=case.profiler.name,
        latency_ms=latency,
        init_ms=case.footprint.init_ms,
        memory_bytes=case.footprint.memory_bytes,
        ops=ops,
        profiler_note=case.note,
        profiled_ms={"p50": statistics.median(_flat(whole))},
        scale=scale,
        noise=dataclasses.asdict(noise),
        peak_memory_bytes=case.footprint.peak_memory_bytes,
        arena_bytes=arena_bytes(model),
        signature=subject.signature,
        fingerprint=model.fingerprint,
        edge_ratio=ratio,
        yardstick={
            "ms": statistics.median(map(min, yardstick)),
            **_ratio(walls[case.role], yardstick, spec.confidence),
        },
    )


def _ratio(blocks: Blocks, others: Blocks, confidence: float) -> dict[str, Any]:
    p50, interval = intervals.ratio_interval(blocks, others, confidence)
    return {"p50": p50, "interval": list(interval) if interval else None, "blocks": len(blocks)}


def _latency(blocks: Blocks, confidence: float) -> Latency:
    wall = _flat(blocks)
    bounds = {q: intervals.percentile_interval(blocks, q, confidence) for q in PERCENTILES}
    p50, p90, p99 = (float(p) for p in np.percentile(wall, PERCENTILES))
    return Latency(
        p50,
        p90,
        p99,
        mean=statistics.fmean(wall),
        runs=len(wall),
        intervals={f"p{q}": list(interval) if interval else None for q, interval in bounds.items()},
        confidence=confidence,
        outliers=intervals.count_outliers(wall),
    )


def _op_times(
    subject: Subject, samples: Mapping[int, OpSample], wall_ms: float, confidence: float
) -> tuple[list[OpTime], float]:
    graph = subject.graph
    medians = {index: sample.median for index, sample in samples.items()}
    total = sum(medians.values())
    scale = wall_ms / total
    times = []
    for op in graph.ops:
        name = graph.tensors[op.outputs[0]].spec.name if op.outputs else ""
        raw_ms, kernel, bounds = 0.0, "folded", None
        if op.index in samples:
            raw_ms, kernel = medians[op.index], samples[op.index].kernel
            bounds = intervals.percentile_interval(samples[op.index].blocks, 50, confidence)
        interval = [bound * scale for bound in bounds] if bounds else None
        times.append(OpTime(op.index, op.name, name, kernel, raw_ms * scale, raw_ms, raw_ms / total, interval))
    return times, scale


def _flat(blocks: Blocks) -> list[float]:
    return [ms for block in blocks for ms in block]
