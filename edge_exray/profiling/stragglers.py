"""Ops that take longer than they need to, why, and what it would save to mend them.

How long an op needs is told by its peers: the share of the roofline that ops of its type attain in the same model, or,
where these are too few, that all its ops attain. Their median is not moved by other stragglers, and how far the peers
scatter around it (median absolute deviation of the logarithms) tells how much is usual. Both are weighted by the least
time that the peers could take: many small ops, which are mostly overhead, say little about a large one.

An op is a straggler when it lies 3.5 robust standard deviations below the median (the limit of Iglewicz and Hoaglin,
"How to Detect and Handle Outliers", ASQC 1993), and takes at least three times as long as at the median: convolutions
of few channels, for which no kernel is made, are often half as fast as others. Ten times as long is too long however
the peers scatter. Both, and the comparison with a float twin, are judged by the lower end of the time's confidence
interval, so that a disturbance of the machine is not taken for slowness of the op.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from edge_exray.models import delegation, islands
from edge_exray.models.graph import Graph, Op
from edge_exray.profiling.model_profile import ModelProfile, OpTime

MIN_SHARE = 0.02
"""What saves less than this share of the inference is not reported."""
MIN_MS = 0.01
"""Nor what saves less than this: the times of such ops do not repeat from run to run."""

_FEWEST_PEERS = 4
_ROBUST_LIMIT = 3.5
_SIGMAS_PER_MAD = 1.4826
_SLOWDOWNS = 3.0, 10.0
# About what XNNPACK attains of the roofline: the median of the ops that take 20 us or more lies between 0.2 and 0.4 in
# MobileNetV2, MobileNetV3, ResNet50 and EfficientNetB0. The reference kernels are 14 to 81 times slower, so that what
# they could save hardly depends on it.
_USUAL_SHARE = 0.3
# Rounding and scaling cost something: below that an int8 op is not called slower than its float twin.
_SLOWER = 1.5


@dataclasses.dataclass(frozen=True)
class Straggler:
    """One op that takes too long, or several that could go.

    Attributes:
        role: That of the model.
        index, op, name: The op, as in `OpTime`; of several ops the slowest.
        kind: `"reference_kernel"`: it runs on the kernels that define the results and are not made to be fast.
            `"not_delegated"`: XNNPACK leaves it to the built-in kernels. `"slower_than_float"`: the float model takes
            less time for it. `"below_peers"`: it attains far less of the roofline than its peers. `"slowed_down"`: it
            takes far longer in the model than alone. `"island"`: it only changes how values are stored, together with
            others.
        reason: One sentence for people.
        ms: What it takes, for an island all its ops together.
        saving_ms: What an inference would save: the time less that of peers, of the float twin, or all of it.
    """

    role: str
    index: int
    op: str
    name: str
    kind: str
    reason: str
    ms: float
    saving_ms: float

    def slowed_down(self, alone_ms: float) -> "Straggler":
        """Returns the same op as one that takes so much less alone than in the model."""
        reason = f"alone it takes {alone_ms:.3g} ms: look for what it waits for in the model, or what runs beside it"
        return dataclasses.replace(self, kind="slowed_down", reason=reason, saving_ms=max(self.ms - alone_ms, 0.0))


def find_stragglers(
    profile: ModelProfile, graph: Graph, bounds: Mapping[int, float], twins: Mapping[int, OpTime]
) -> list[Straggler]:
    """Names the ops of a model that take longer than they need to.

    Args:
        profile: The profile of the model.
        graph: Its graph.
        bounds: Index of an op to the least time in milliseconds that it can take on the machine, as far as known; see
            `Roofline.bound_ms`.
        twins: Index of an op to the same op in the float model, as far as known.

    Returns:
        What saves most first. No op is counted twice.
    """
    peers = _Peers(profile, bounds)
    least = max(MIN_SHARE * profile.latency_ms.p50, MIN_MS)
    found: list[Straggler] = []
    left: dict[int, OpTime] = {}
    for op, time in zip(graph.ops, profile.ops, strict=True):
        told = _judge(profile, graph, op, time, peers, twins.get(op.index))
        if told is not None and told.saving_ms >= least:
            found.append(told)
        else:
            left[op.index] = time
    found += (island for island in _islands(profile, graph, left) if island.saving_ms >= least)
    return sorted(found, key=lambda straggler: straggler.saving_ms, reverse=True)


class _Peers:
    """How much of the roofline the ops of a model attain."""

    def __init__(self, profile: ModelProfile, bounds: Mapping[int, float]) -> None:
        self.bounds = bounds
        self._judged = [
            time for time in profile.ops if time.index in bounds and time.ms > 0 and time.kernel == profile.kernels
        ]

    def expected_ms(self, time: OpTime, usual: float | None = None) -> float | None:
        """Returns how long an op takes at the median share, or a usual one without peers; None if it is not known."""
        shares = self._shares(time)
        share = math.exp(shares[0]) if shares else usual
        bound = self.bounds.get(time.index)
        return None if share is None or bound is None else bound / share

    def are_far_above(self, time: OpTime) -> bool:
        """Returns whether the peers attain so much more that it is no accident."""
        shares, bound = self._shares(time), self.bounds.get(time.index)
        if shares is None or bound is None:
            return False
        median, deviation = shares
        usual, never_usual = map(math.log, _SLOWDOWNS)
        limit = max(_ROBUST_LIMIT * _SIGMAS_PER_MAD * deviation, usual)
        return median - math.log(bound / _surely_ms(time)) > min(limit, never_usual)

    def _shares(self, time: OpTime) -> tuple[float, float] | None:
        """Returns median and median absolute deviation of the logarithms of the peers' shares; None for too few."""
        others = [other for other in self._judged if other.index != time.index]
        alike = [other for other in others if other.op == time.op]
        chosen = alike if len(alike) >= _FEWEST_PEERS else others
        if len(chosen) < _FEWEST_PEERS:
            return None
        weights = np.array([self.bounds[other.index] for other in chosen])
        # Logarithms: shares scatter by factors.
        shares = np.log(weights / [other.ms for other in chosen])
        median = _median(shares, weights)
        return median, _median(np.abs(shares - median), weights)


def _surely_ms(time: OpTime) -> float:
    """Returns the lower end of the confidence interval of an op's time, or the time itself where there is none."""
    return (time.interval_ms[0] if time.interval_ms else 0.0) or time.ms


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the value up to which half of the weight lies."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _judge(
    profile: ModelProfile, graph: Graph, op: Op, time: OpTime, peers: _Peers, twin: OpTime | None
) -> Straggler | None:
    # A loop takes as long as its body, and how long that has to take nobody knows.
    if time.ms <= 0 or op.subgraphs:
        return None
    if time.kernel == "reference":
        # Its peers run on the same kernels and tell nothing.
        bound = peers.bounds.get(op.index)
        reason = "it runs on the reference kernel, which is there to define results: use the production op resolver"
        return _straggler(profile, time, "reference_kernel", reason, bound and bound / _USUAL_SHARE)
    if time.kernel == "builtin" and profile.kernels == "xnnpack":
        reason = delegation.obstacle(graph, op)
        if twin is not None and twin.kernel == "xnnpack":
            reason += f"; its float twin runs there, in {twin.ms:.3g} ms"
            return _straggler(profile, time, "not_delegated", reason, twin.ms)
        return _straggler(profile, time, "not_delegated", reason, peers.expected_ms(time, _USUAL_SHARE))
    if twin is not None and _surely_ms(time) > _SLOWER * twin.ms > 0:
        reason = f"the float model computes it in {twin.ms:.3g} ms: keep it in float, or change its shape"
        return _straggler(profile, time, "slower_than_float", reason, twin.ms)
    if peers.are_far_above(time):
        expected = peers.expected_ms(time)
        assert expected is not None
        reason = f"its peers would take {expected:.3g} ms for it: look at its shape, options and types beside theirs"
        return _straggler(profile, time, "below_peers", reason, expected)
    return None


def _straggler(
    profile: ModelProfile, time: OpTime, kind: str, reason: str, expected_ms: float | None
) -> Straggler | None:
    if expected_ms is None:
        return None
    return Straggler(
        profile.role, time.index, time.op, time.name, kind, reason, time.ms, max(time.ms - expected_ms, 0.0)
    )


def _islands(profile: ModelProfile, graph: Graph, left: dict[int, OpTime]) -> Iterator[Straggler]:
    """Yields the islands among the ops that are left, and takes their ops away."""
    for island in islands.float_islands(graph):
        inside = ", ".join(dict.fromkeys(op.name for op in island))
        reason = (
            f"it converts values for ops that run in float within a quantised model, {inside}: use ops that have an "
            "int8 kernel in their place, or none"
        )
        yield from _island(profile, islands.shores(graph, island), left, reason)
    for moved in islands.moves(graph):
        named = ", ".join(f"{op.index} {op.name}" for op in moved)
        what = "layout" if {op.name for op in moved} & islands.LAYOUT_OPS else "representation"
        reason = f"{named}: only the {what} of values is changed there; arrange the layers around it alike"
        yield from _island(profile, moved, left, reason)


def _island(profile: ModelProfile, ops: list[Op], left: dict[int, OpTime], reason: str) -> Iterator[Straggler]:
    times = [left.pop(op.index) for op in ops if op.index in left]
    if times:
        slowest, total = max(times, key=lambda time: time.ms), math.fsum(time.ms for time in times)
        yield Straggler(profile.role, slowest.index, slowest.op, slowest.name, "island", reason, total, total)
