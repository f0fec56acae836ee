"""What the times of ops mean: how much they compute and move, what the machine could do, and where time is lost."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from edge_exray import errors
from edge_exray.models import names
from edge_exray.models.alignment import pair_by_name
from edge_exray.models.graph import Graph, Op
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.arithmetic import Work, work
from edge_exray.profiling.feeds import Feed, random_feed
from edge_exray.profiling.groups import Group, group
from edge_exray.profiling.isolated_profiler import IsolatedProfiler
from edge_exray.profiling.model_profile import ModelProfile, OpTime
from edge_exray.profiling.op_profiler import Subject
from edge_exray.profiling.roofline import Roofline, measure_roofline
from edge_exray.profiling.stragglers import Straggler, find_stragglers

_EDGE, _FLOAT_EDGE = "edge", "float_edge"
_INTEGERS = {"INT4", "INT8", "UINT8", "INT16"}
_MS_PER_GIGA = 1e6
# Kinds of stragglers that are measured by what other ops take.
_MEASURED_BY_OTHERS = {"below_peers", "slower_than_float"}
# Setting an op apart takes as long as reading the model.
_RUN_ALONE, _RUNS_ALONE = 3, 15
# A layer of MobileNet or ResNet takes up to 1.5 times as long in the model as alone, because the caches are cold.
_SLOWED_DOWN = 2.0


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What `analyse` found.

    Attributes:
        models: The profiles, with what `OpTime` calls `flops`, `bytes`, rates, `roofline_share` and `layer`.
        roofline: The ceilings of the machine.
        stragglers: Those of all models, what saves most first.
        groups: Those of all models.
    """

    models: list[ModelProfile]
    roofline: Roofline
    stragglers: list[Straggler]
    groups: list[Group]


def analyse(
    profiles: Sequence[ModelProfile], feeds: Sequence[Feed] | None = None, roofline: Roofline | None = None
) -> Analysis:
    """Explains the times of models that were profiled on this machine.

    Args:
        profiles: The profiles; `float_edge`, if there, is the float twin of `edge`.
        feeds: What they were profiled with; None for random inputs.
        roofline: The ceilings to compare with; None measures those of this machine.

    Raises:
        ModelError: A model does not load or run.
        DataError: The feeds do not fit a model.
    """
    ceilings = roofline or measure_roofline(profiles[0].num_threads)
    models = [_run(profile, feeds) for profile in profiles]
    works = [_works(profile, model) for profile, model in zip(profiles, models, strict=True)]
    described, stragglers = [], []
    for profile, model, each in zip(profiles, models, works, strict=True):
        bounds = _bounds(model.graph, each, ceilings)
        layers = names.layers(model.graph)
        ops = [_described(op, each[op.index], bounds.get(op.index), layers[op.index]) for op in profile.ops]
        described.append(dataclasses.replace(profile, ops=ops))
        twins = _twins(profile, model, profiles, models)
        found = find_stragglers(profile, model.graph, bounds, twins)
        stragglers += _compared_with_alone(found, profile, model, feeds, bounds)
    return Analysis(
        models=described,
        roofline=ceilings,
        stragglers=sorted(stragglers, key=lambda straggler: straggler.saving_ms, reverse=True),
        groups=[each for profile in described for each in group(profile)],
    )


def _compared_with_alone(
    stragglers: Sequence[Straggler],
    profile: ModelProfile,
    model: EdgeModel,
    feeds: Sequence[Feed] | None,
    bounds: Mapping[int, float],
) -> list[Straggler]:
    """Runs the worst stragglers as models of their own, which tells ops that are slow from ops that are slowed down.

    Peers are a measure of the first kind: what another shape would save. Of the second kind an op would save what the
    model around it costs, whatever its peers take. What an op reads may lie in a nearer cache when it is alone, so that
    it saves no more than its roofline allows.
    """
    candidates = [s for s in stragglers if s.kind in _MEASURED_BY_OTHERS][:_RUN_ALONE]
    if not candidates:
        return list(stragglers)
    feeds = feeds or [random_feed(model.inputs)]
    subject = Subject(model, feeds, profile.kernels, profile.num_threads or 1, profile.signature)
    try:
        alone = IsolatedProfiler(subject)
        times = {each.index: statistics.median(alone.time_op(each.index, _RUNS_ALONE)[1]) for each in candidates}
    except errors.ProfilingError:
        # Its ops cannot be set apart: the peers are all there is to measure by.
        return list(stragglers)
    return [
        each.slowed_down(max(times[each.index], bounds.get(each.index, 0.0)))
        if each in candidates and times[each.index] * _SLOWED_DOWN < each.ms
        else each
        for each in stragglers
    ]


def _run(profile: ModelProfile, feeds: Sequence[Feed] | None) -> EdgeModel:
    """Runs a model once, op by op as it was profiled: then every tensor has the shape that the feed gives it."""
    model = EdgeModel(profile.path, kernels=profile.kernels, preserve_tensors=True, signature=profile.signature)
    model.infer(feeds[0] if feeds else random_feed(model.inputs))
    return model


def _works(profile: ModelProfile, model: EdgeModel) -> dict[int, Work]:
    shapes = {d["index"]: tuple(int(n) for n in d["shape"]) for d in model.interpreter.get_tensor_details()}
    nothing = Work(0, 0)
    return {
        op.index: nothing if time.kernel == "folded" else work(model.graph, op, shapes)
        for op, time in zip(model.graph.ops, profile.ops, strict=True)
    }


def _bounds(graph: Graph, works: Mapping[int, Work], ceilings: Roofline) -> dict[int, float]:
    touched = sum(done.bytes or 0 for done in works.values())
    bounds = {
        op.index: ceilings.bound_ms(works[op.index], _multiplies_integers(graph, op), touched) for op in graph.ops
    }
    return {index: bound for index, bound in bounds.items() if bound is not None}


def _multiplies_integers(graph: Graph, op: Op) -> bool:
    return any(graph.tensors[t].type in _INTEGERS for t in op.inputs if t >= 0)


def _described(op: OpTime, done: Work, bound_ms: float | None, layer: str | None) -> OpTime:
    return dataclasses.replace(
        op,
        flops=done.flops,
        bytes=done.bytes,
        gflops_per_s=_rate(done.flops, op.ms),
        gb_per_s=_rate(done.bytes, op.ms),
        roofline_share=bound_ms / op.ms if bound_ms and op.ms else None,
        layer=layer,
    )


def _rate(amount: int | None, ms: float) -> float | None:
    return amount / ms / _MS_PER_GIGA if amount is not None and ms else None


def _twins(
    profile: ModelProfile, model: EdgeModel, profiles: Sequence[ModelProfile], models: Sequence[EdgeModel]
) -> dict[int, OpTime]:
    """Returns the index of each op of the edge model to the same op of the float edge model."""
    float_edge = next((i for i, each in enumerate(profiles) if each.role == _FLOAT_EDGE), None)
    if profile.role != _EDGE or float_edge is None:
        return {}
    pairs = pair_by_name(model, models[float_edge])
    producers, times = models[float_edge].graph.producers, profiles[float_edge].ops
    twins = {}
    for op in model.graph.ops:
        twin = producers.get(pairs.get(op.outputs[0], -1)) if op.outputs else None
        if twin is not None and twin.name == op.name and times[twin.index].ms:
            twins[op.index] = times[twin.index]
    return twins
