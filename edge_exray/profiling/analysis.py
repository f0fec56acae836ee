"""What the times of ops mean: how much they compute and move, what the machine could do, and where time is lost."""

import dataclasses
from collections.abc import Mapping, Sequence

from edge_exray.models import names
from edge_exray.models.alignment import pair_by_name
from edge_exray.models.graph import Graph, Op
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling.arithmetic import Work, work
from edge_exray.profiling.feeds import Feed, random_feed
from edge_exray.profiling.groups import Group, group
from edge_exray.profiling.model_profile import ModelProfile, OpTime
from edge_exray.profiling.roofline import Roofline, measure_roofline
from edge_exray.profiling.stragglers import Straggler, find_stragglers

_EDGE, _FLOAT_EDGE = "edge", "float_edge"
_INTEGERS = {"INT4", "INT8", "UINT8", "INT16"}
_MS_PER_GIGA = 1e6


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
        stragglers += find_stragglers(profile, model.graph, bounds, twins)
    return Analysis(
        models=described,
        roofline=ceilings,
        stragglers=sorted(stragglers, key=lambda straggler: straggler.saving_ms, reverse=True),
        groups=[each for profile in described for each in group(profile)],
    )


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
