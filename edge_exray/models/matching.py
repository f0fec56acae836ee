"""Pairs the tensors of two .tflite graphs of one model whose names tell nothing: another converter made one of them.

Four kinds of evidence count, the strongest first: a *name* (pairs that the caller knows), *constants* (an op whose
weights equal those of one op of the twin after dequantisation), *structure* (the same op between tensors that are
paired already), and *values* (one tensor of the twin, between the paired neighbours, that holds the same values on the
given frames and has no rival). What is left ambiguous stays unpaired: a wrong pair would accuse a healthy layer.
"""

import collections
import dataclasses
import enum
import functools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from edge_exray import errors
from edge_exray.models import constants
from edge_exray.models.graph import Op
from edge_exray.models.tflite import EdgeModel

REPRESENTATION_OPS = frozenset({"QUANTIZE", "DEQUANTIZE"})
"""Ops that change how values are stored, and not the values."""

_COMMUTATIVE_OPS = {"ADD", "MUL", "MAXIMUM", "MINIMUM"}

# Share of the variance of a tensor that its twin explains: layers of healthy int8 models stay above 0.8.
_AGREE = 0.8
# What values alone must reach, and how much nearer to 1 than any rival they must be.
_FOLLOW = 0.9
_MARGIN = 3.0
_SAMPLE = 4096
# A constant tells ops apart when it is long, and much larger than the steps that it is rounded to.
_MIN_ELEMENTS = 8
_MIN_STEPS = 4.0
# Ops in a row that one fused op of the twin may stand for.
_MAX_FUSED = 4


class Evidence(str, enum.Enum):
    """Why two tensors are held to be the same."""

    NAME = "name"
    CONSTANTS = "constants"
    STRUCTURE = "structure"
    VALUES = "values"


_CONFIDENCE = {Evidence.NAME: 1.0, Evidence.CONSTANTS: 0.99, Evidence.STRUCTURE: 0.97, Evidence.VALUES: 0.9}
_DOUBT = 0.8


@dataclasses.dataclass(frozen=True)
class Pair:
    """The twin of a tensor.

    Attributes:
        tensor: Index in the other graph.
        evidence: What the pair rests on.
        confidence: 1 for a name, 0.99 for constants, 0.97 for structure, 0.9 for values; times 0.8 when the values of
            the two tensors part, which is what a damaged layer looks like.
    """

    tensor: int
    evidence: Evidence
    confidence: float


@dataclasses.dataclass(frozen=True)
class Matching:
    """What `match` found.

    Attributes:
        pairs: Edge tensor to its twin.
        inner: Edge tensors without a twin between two pairs that agree: the twin fuses them into one op.
    """

    pairs: dict[int, Pair]
    inner: frozenset[int]


def match(
    edge: EdgeModel, twin: EdgeModel, known: Mapping[int, int], feeds: Sequence[Mapping[str, np.ndarray]]
) -> Matching:
    """Pairs the tensors of `edge` with those of its float twin.

    Args:
        edge: The model that someone else converted, opened with `preserve_tensors`.
        twin: The float model, opened with `preserve_tensors`; its inputs carry the same names.
        known: Edge tensor to twin tensor, as far as names tell; all of it is part of the result.
        feeds: Frames to compare the values on.
    """
    matcher = _Matcher(_Side(edge, feeds), _Side(twin, feeds), known)
    matcher.run()
    pairs = {t: Pair(other, Evidence.NAME, 1.0) for t, other in known.items()} | matcher.pairs
    return Matching(pairs, matcher.inner())


class _Side:
    """One graph without its changes of representation, and samples of the values of its tensors."""

    def __init__(self, model: EdgeModel, feeds: Sequence[Mapping[str, np.ndarray]]) -> None:
        self.graph = model.graph
        self.ops = [op for op in self.graph.ops if op.name not in REPRESENTATION_OPS and not self.graph.is_folded(op)]
        self.producers = {t: op for op in self.ops for t in op.outputs}
        self.consumers: dict[int, list[Op]] = collections.defaultdict(list)
        for op in self.ops:
            for tensor in dict.fromkeys(self.inputs(op)):
                self.consumers[tensor].append(op)
        tensors = [*self.graph.inputs, *self.producers]
        self.samples: dict[int, np.ndarray] = {}
        self.sizes: dict[int, int] = {}
        for feed in feeds:
            model.infer(feed)
            for tensor in tensors:
                self._sample(model, tensor)

    def _sample(self, model: EdgeModel, tensor: int) -> None:
        try:
            stored = model.tensor(tensor).ravel()
        except errors.ModelError:
            return  # what a loop only passes through is read by no op behind it
        spec = self.graph.tensors[tensor].spec
        self.sizes[tensor] = stored.size
        if spec.dtype.kind in "fiub":
            with np.errstate(invalid="ignore"):  # NaN is no agreement
                part = spec.real(stored[:: max(1, stored.size // _SAMPLE)].copy()).astype(np.float64)
            self.samples[tensor] = np.append(self.samples.get(tensor, ()), part)

    def root(self, tensor: int) -> int:
        """Returns the tensor that holds the values before they were stored in another way."""
        while (op := self.graph.producers.get(tensor)) and op.name in REPRESENTATION_OPS:
            tensor = op.inputs[0]
        return tensor

    def inputs(self, op: Op) -> list[int]:
        """Returns the roots of what an op reads of the frame."""
        return [self.root(t) for t in self.graph.activations(op)]

    @functools.cached_property
    def constants(self) -> dict[int, dict[int, constants.Constant]]:
        """Op index to input position to those constants that can tell ops apart."""
        found: dict[int, dict[int, constants.Constant]] = {}
        for op in self.ops:
            read = {i: constants.read(self.graph, t) for i, t in enumerate(op.inputs)}
            found[op.index] = {i: c for i, c in read.items() if c is not None and _is_telling(c)}
        return found

    @functools.cached_property
    def above(self) -> dict[int, int]:
        """Tensor to itself and the tensors that it is computed from, as a bit set."""
        found = {t: 1 << t for t in self.graph.inputs}
        for op in self.ops:
            read = functools.reduce(lambda bits, t: bits | found.get(t, 1 << t), self.inputs(op), 0)
            found.update({t: read | 1 << t for t in op.outputs})
        return found

    def tail(self, op: Op, activation: str) -> int | None:
        """Returns the tensor behind an op and the activation that is fused into it or follows it."""
        if op.activation == activation:
            return op.outputs[0]
        consumers = self.consumers[op.outputs[0]]
        if op.activation == "NONE" and len(consumers) == 1 and consumers[0].name == activation:
            return consumers[0].outputs[0]
        return None

    def kind(self, op: Op) -> Hashable:
        """What an op shares with its twin: name, inputs, sizes of the outputs, shapes of the real constants."""
        shapes = []
        for tensor in op.inputs:
            constant = self.graph.stored_constant(tensor)
            if constant is not None and constants.is_real(self.graph, constant):
                shapes.append(tuple(n for n in self.graph.tensors[constant].spec.shape if n != 1))
        return op.name, len(self.graph.activations(op)), tuple(self.sizes.get(t) for t in op.outputs), tuple(shapes)


class _Matcher:
    """Grows the set of pairs until nothing follows any more."""

    def __init__(self, edge: _Side, twin: _Side, known: Mapping[int, int]) -> None:
        self.edge, self.twin = edge, twin
        self.pairs: dict[int, Pair] = {}
        self._taken: dict[int, int] = {}
        self._linked: dict[int, int] = {}
        self._linked_twins: set[int] = set()
        self._pending: collections.deque[tuple[int, int]] = collections.deque()
        for tensor, other in known.items():
            self._pair(edge.root(tensor), twin.root(other), Evidence.NAME)

    def run(self) -> None:
        """Pairs what can be paired."""
        self._propagate()
        # After any success all starts over with the strongest evidence: what follows from the new pair is surer.
        while self._match_constants() or self._match_siblings() or self._match_values():
            self._propagate()

    def inner(self) -> frozenset[int]:
        """See `Matching.inner`."""
        agreeing = {t for t, pair in self.pairs.items() if self._agreement(t, pair.tensor) >= _AGREE}
        computed = [(t, op) for op in self.edge.ops for t in op.outputs]
        above = {t: set(self.edge.inputs(op)) for t, op in computed}
        below = {t: {o for reader in self.edge.consumers[t] for o in reader.outputs} for t, _ in computed}
        return frozenset(
            tensor
            for tensor in above.keys() - self.pairs.keys()
            if all(_reaches_only(tensor, steps, agreeing) for steps in (below, above))
        )

    def _pair(self, tensor: int, other: int, evidence: Evidence) -> bool:
        if tensor in self.pairs or other in self._taken:
            return False
        if tensor not in self.edge.sizes or self.edge.sizes[tensor] != self.twin.sizes.get(other):
            return False
        agrees = evidence is Evidence.NAME or self._agreement(tensor, other) >= _AGREE
        self.pairs[tensor] = Pair(other, evidence, _CONFIDENCE[evidence] * (1.0 if agrees else _DOUBT))
        self._taken[other] = tensor
        self._pending.append((tensor, other))
        return True

    def _link(self, op: Op, other: Op, evidence: Evidence) -> bool:
        """Pairs what two ops compute, behind the same activation, and what they read."""
        if op.index in self._linked or other.index in self._linked_twins:
            return False
        self._linked[op.index] = other.index
        self._linked_twins.add(other.index)
        if evidence is Evidence.STRUCTURE and self._constants_equal(op, other):
            evidence = Evidence.CONSTANTS
        if len(op.outputs) == len(other.outputs) == 1:
            activation = op.activation if op.activation != "NONE" else other.activation
            left, right = self.edge.tail(op, activation), self.twin.tail(other, activation)
            if left is not None and right is not None:
                self._pair(left, right, evidence)
        elif len(op.outputs) == len(other.outputs):
            for left, right in zip(op.outputs, other.outputs, strict=True):
                self._pair(left, right, evidence)
        self._pair_inputs(op, other)
        return True

    def _pair_inputs(self, op: Op, other: Op) -> None:
        left, right = self.edge.inputs(op), self.twin.inputs(other)
        if len(left) != len(right):
            return
        if op.name in _COMMUTATIVE_OPS and len(left) == 2:
            straight = self._fit(left[0], right[0]) + self._fit(left[1], right[1])
            crossed = self._fit(left[0], right[1]) + self._fit(left[1], right[0])
            if abs(crossed - straight) < 1 - _AGREE and left[0] != left[1]:
                return
            right = right[::-1] if crossed > straight else right
        for tensor, twin in zip(left, right, strict=True):
            if self._same_kind(tensor, twin):
                self._pair(tensor, twin, Evidence.STRUCTURE)

    def _fit(self, tensor: int, other: int) -> float:
        """How well two inputs of a commutative op fit: surely when they are a pair, not at all when others are."""
        if tensor in self.pairs or other in self._taken:
            return 2.0 if self._taken.get(other) == tensor else -2.0
        return self._agreement(tensor, other) if self._same_kind(tensor, other) else -2.0

    def _same_kind(self, tensor: int, other: int) -> bool:
        """Whether two tensors come out of the same kind of op with the same activation."""
        op, twin = self.edge.producers.get(tensor), self.twin.producers.get(other)
        if op is None or twin is None:
            return op is twin
        same = op.activation == twin.activation and self.edge.kind(op) == self.twin.kind(twin)
        return same and op.outputs.index(tensor) == twin.outputs.index(other)

    def _propagate(self) -> None:
        while self._pending:
            tensor, other = self._pending.popleft()
            op, twin = self.edge.producers.get(tensor), self.twin.producers.get(other)
            if op and twin and self._same_kind(tensor, other):
                self._link(op, twin, Evidence.STRUCTURE)
            for ops, twins in self._siblings(tensor, other):
                if len(ops) == len(twins) == 1:
                    self._link(ops[0], twins[0], Evidence.STRUCTURE)

    def _siblings(self, tensor: int, other: int) -> Iterator[tuple[list[Op], list[Op]]]:
        """Yields consumers of two paired tensors that could be each other's twins and are not linked yet."""
        groups: dict[Hashable, tuple[list[Op], list[Op]]] = collections.defaultdict(lambda: ([], []))
        for side, op, position in self._readers(tensor, other):
            groups[(self.edge, self.twin)[side].kind(op), position][side].append(op)
        for ops, twins in groups.values():
            # Counted with those that are linked: of as many on both sides the last is known by elimination.
            if len(ops) == len(twins):
                yield (
                    [op for op in ops if op.index not in self._linked],
                    [op for op in twins if op.index not in self._linked_twins],
                )

    def _readers(self, tensor: int, other: int) -> Iterator[tuple[int, Op, int]]:
        for side, (graph, read) in enumerate(((self.edge, tensor), (self.twin, other))):
            for op in graph.consumers[read]:
                yield side, op, 0 if op.name in _COMMUTATIVE_OPS else graph.inputs(op).index(read)

    def _match_constants(self) -> bool:
        """Links ops whose constants are equal, to each other's and to no other op's."""
        groups: dict[Hashable, tuple[list[Op], list[Op]]] = collections.defaultdict(lambda: ([], []))
        for op in self.edge.ops:
            if op.index not in self._linked and self.edge.constants[op.index]:
                groups[self.edge.kind(op)][0].append(op)
        for op in self.twin.ops:
            if op.index not in self._linked_twins and self.twin.constants[op.index]:
                groups[self.twin.kind(op)][1].append(op)
        found = False
        for ops, twins in groups.values():
            equal = {(o.index, t.index): 1.0 for o in ops for t in twins if self._constants_equal(o, t)}
            for op_index, twin_index in _outstanding(equal):
                op, twin = self.edge.graph.ops[op_index], self.twin.graph.ops[twin_index]
                found |= self._link(op, twin, Evidence.CONSTANTS)
        return found

    def _constants_equal(self, op: Op, other: Op) -> bool:
        left, right = self.edge.constants[op.index], self.twin.constants[other.index]
        found = [constants.compare(left[i], right[i]) for i in left.keys() & right.keys()]
        return bool(found) and all(difference is not None and difference.rounded for difference in found)

    def _match_siblings(self) -> bool:
        """Links equal consumers of a paired tensor (branches) that the values tell apart."""
        for tensor, pair in self.pairs.items():
            for ops, twins in self._siblings(tensor, pair.tensor):
                likeness = {
                    (op.index, twin.index): self._agreement(op.outputs[0], twin.outputs[0])
                    for op in ops
                    for twin in twins
                    if op.activation == twin.activation
                }
                for op_index, twin_index in _outstanding(likeness):
                    op, twin = self.edge.graph.ops[op_index], self.twin.graph.ops[twin_index]
                    if self._link(op, twin, Evidence.VALUES):
                        return True
        return False

    def _match_values(self) -> bool:
        """Pairs tensors that hold the same values and lie between the same pairs."""
        by_size: dict[int, list[int]] = collections.defaultdict(list)
        for other in self.twin.producers.keys() & self.twin.sizes.keys() - self._taken.keys():
            by_size[self.twin.sizes[other]].append(other)
        likeness = {
            (tensor, other): self._agreement(tensor, other)
            for tensor in self.edge.producers.keys() & self.edge.sizes.keys() - self.pairs.keys()
            for other in by_size[self.edge.sizes[tensor]]
            if self._keeps_order(tensor, other)
        }
        found = False
        for tensor, other in _outstanding(likeness):
            # A pair of this round may have changed the order that the next one must keep.
            found |= self._keeps_order(tensor, other) and self._pair(tensor, other, Evidence.VALUES)
        return found

    def _keeps_order(self, tensor: int, other: int) -> bool:
        """Whether every pair lies on the same side of both tensors: above, below or beside."""
        edge, twin = self.edge.above, self.twin.above
        return all(
            (edge[tensor] >> known & 1, edge.get(known, 0) >> tensor & 1)
            == (twin[other] >> pair.tensor & 1, twin.get(pair.tensor, 0) >> other & 1)
            for known, pair in self.pairs.items()
        )

    def _agreement(self, tensor: int, other: int) -> float:
        left, right = self.edge.samples.get(tensor), self.twin.samples.get(other)
        if left is None or right is None or self.edge.sizes[tensor] != self.twin.sizes[other]:
            return -1.0
        return agreement(left, right)


def agreement(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the share of the variance that one array explains of the other, at most 1; -1 when it cannot be told.

    Args:
        left, right: Samples of two tensors, float64 and flat.
    """
    if left.size != right.size:
        return -1.0
    error, variance = float(np.mean(np.square(left - right))), max(float(left.var()), float(right.var()))
    if not np.isfinite(error):
        return -1.0
    return 1.0 - error / variance if variance else (1.0 if error == 0 else -1.0)


def _reaches_only(tensor: int, steps: Mapping[int, set[int]], goals: set[int]) -> bool:
    """Whether every way from a tensor meets one of the goals after a few steps."""
    front = {tensor}
    for _ in range(_MAX_FUSED):
        front = {t for s in front - goals for t in steps.get(s, ())} | front & goals
    return bool(front) and front <= goals


def _is_telling(constant: constants.Constant) -> bool:
    spread = float(constant.values.std()) if constant.values.size else 0.0
    return constant.values.size >= _MIN_ELEMENTS and spread > _MIN_STEPS * float(np.mean(constant.step))


def _outstanding(likeness: Mapping[tuple[int, int], float]) -> Iterable[tuple[int, int]]:
    """Returns the pairs that are much more alike than any other pair with one of the two."""
    by_left: dict[int, list[float]] = collections.defaultdict(list)
    by_right: dict[int, list[float]] = collections.defaultdict(list)
    for (left, right), value in likeness.items():
        by_left[left].append(value)
        by_right[right].append(value)

    def stands_out(value: float, values: list[float]) -> bool:
        best, *rivals = sorted(values, reverse=True)
        return value == best and (not rivals or 1 - rivals[0] > _MARGIN * (1 - value) + 1e-6)

    return [
        (left, right)
        for (left, right), value in likeness.items()
        if value >= _FOLLOW and stands_out(value, by_left[left]) and stands_out(value, by_right[right])
    ]
