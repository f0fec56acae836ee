"""Finds what an app does differently when it prepares an image.

A beam search over named changes, in the order in which an app makes them: which part of the raw picture, how it is
resized, what happens to its colours, in which arrangement it is fed. Every candidate is completed in closed form by the
permutation of the channels and the affine map of each channel (`channel_fit`), and judged by the share of the app's
variance that it leaves. A change must at least halve that share, so that the simplest explanation wins.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import blind, colour, rounding, value_ranges
from edge_exray.diagnosis.preprocessing.channel_fit import FLOOR, ChannelFit, fit_values
from edge_exray.diagnosis.preprocessing.colour import Operation
from edge_exray.diagnosis.preprocessing.framing import Points
from edge_exray.diagnosis.preprocessing.geometry import Rearranged, rearrangements
from edge_exray.diagnosis.preprocessing.hypothesis import EXPLAINED, OF_DIFFERENCE, Change, Hypothesis, Pair
from edge_exray.diagnosis.preprocessing.picture_source import PictureSource, Spatial

CHANNELS = (1, 3, 4)
SMALLEST_SIDE = 8

# A hypothesis explains a difference, too, when it leaves less than this share of what channel order, scale and offset
# alone leave, and no more than the second of the variance.
_APPROXIMATE = 0.25
_MOST_LEFT = 0.1

# Cost of a change: it must leave half of the residual that is there without it.
_COST = np.log10(2.0)
_BEAM = 3
_MOST_CHANGES = 4
_FRAMES = 6
# JPEG works in blocks of 16: a part of a frame tells its quality.
_JPEG_FRAMES = 1
# All of them: only the right one leaves little, and its neighbours tell nothing of it.
_QUALITIES = range(5, 99)
# Values of a raw picture beyond which only each fifth quality is tried.
_MANY_PIXELS = 1.5e6
_JPEG_SIDE = 112
# What leaves more is not recompression alone.
_COMPRESSED = 0.2
# A residual of this size is rounding: nothing is left to explain.
_ROUNDING = 3e-5
# Means over blocks of so many pixels leave less than this share of what the pixels leave: fine detail differs only.
_DETAIL = 8
_DETAIL_LEFT = 0.15
# Truncation leaves more than the first and less than the second.
_EXACT, _CUT = 1e-7, 1e-3
# Two grids of 8 bits, one a little finer, look like another scale of so much.
_STEPS = 8e-3
# The same after conversions that round and cut twice.
_TWO_ROUNDINGS = 1.2e-4
# Smaller deviations of scale and offset, as shares of the range, are none; the second after such conversions.
_SAME_RANGE, _CONVERTED = 3e-3, 6e-3
# The same for means over blocks, which a blur changes too.
_COARSE = 5e-2
_RANKED = 3
# A difference that changes from frame to frame has so many forms at most: tags tell eight orientations.
_MOST_KINDS_OF_FRAMES = 8


def is_image(value: np.ndarray) -> bool:
    """Returns whether an array without batch axis is [height, width, C] or [C, height, width], C being 1, 3 or 4."""
    if value.ndim != 3:
        return False
    sides = value.shape[:2] if value.shape[-1] in CHANNELS else value.shape[1:]
    return (value.shape[-1] in CHANNELS or value.shape[0] in CHANNELS) and min(sides) >= SMALLEST_SIDE


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Returns what may have been changed, best first; empty where both sides agree up to rounding to 8 bits.

    Args:
        pairs: Images of one shape, see `is_image`.
    """
    channels_first = pairs[0].reference.shape[-1] not in CHANNELS
    reference, edge = (
        np.stack([np.moveaxis(v, 0, -1) if channels_first else v for v in side]).astype(np.float32)
        for side in ([p.reference for p in pairs], [p.edge for p in pairs])
    )
    if not edge.std():
        return []
    search = _Search(reference, edge, pairs)
    found = search.run()
    return [_channels_first(hypothesis) for hypothesis in found] if channels_first else found


def _channels_first(hypothesis: Hypothesis) -> Hypothesis:
    changes = [
        dataclasses.replace(
            change, code=f"np.moveaxis({value_ranges.substitute(change.code, 'np.moveaxis(x, -3, -1)')}, -1, -3)"
        )
        for change in hypothesis.changes
    ]
    return dataclasses.replace(hypothesis, changes=tuple(changes))


@dataclasses.dataclass(frozen=True)
class _State:
    """A candidate: everything but the permutation and the affine maps.

    Attributes:
        spatial: None for what the reference does.
        operations: On pixels, in order.
        rearranged: The last thing the app does; None for nothing.
    """

    spatial: Spatial | None = None
    operations: tuple[Operation, ...] = ()
    rearranged: Rearranged | None = None


@dataclasses.dataclass(frozen=True)
class _Scored:
    state: _State
    fit: ChannelFit
    score: float


class _Search:
    def __init__(
        self,
        reference: np.ndarray,
        edge: np.ndarray,
        pairs: Sequence[Pair],
        convention: value_ranges.Convention | None = None,
    ) -> None:
        self._reference, self._edge = reference, edge
        self._out = reference.shape[1], reference.shape[2]
        # Pictures with much in them tell most.
        busiest = np.argsort(-reference.std((1, 2)).sum(-1), kind="stable")[:_FRAMES]
        self._chosen = np.sort(busiest)
        self._points = Points.spread(*self._out)
        self._convention = convention or value_ranges.detect(reference)
        self._source: PictureSource | None = None
        self._pairs = pairs
        self._pixels = self._convention.to_pixels(reference)
        self._turned: dict[str, np.ndarray] = {}
        self._rendered: dict[tuple[Spatial | None, bool], np.ndarray] = {}
        self._scored: dict[tuple, _Scored] = {}
        self._expanded: set[tuple[int, str]] = set()
        self._baseline = fit_values(reference, edge).residual
        self._difference = float(np.square(edge - reference).mean() / edge.var((0, 1, 2)).mean())

    def run(self) -> list[Hypothesis]:
        """Returns the hypotheses, best first."""
        if rounding.agree(self._reference, self._edge, self._convention.scale):
            return []
        beam = self._best(map(self._score, self._starts()))
        # What single pixels show costs little; most faults are found here.
        if not self._done(beam[0]):
            beam = self._widen(beam, self._pointwise)
        if not self._done(beam[0]) and (by_frame := self._by_frame()):
            return [by_frame]
        if not self._done(beam[0]):
            self._find_source()
            self._rendered.clear()
            self._scored.clear()
            self._expanded.clear()
            beam = self._best(self._score(scored.state) for scored in [*beam, self._score(_State())])
            idle = 0
            for _ in range(_MOST_CHANGES):
                before = beam[0].score
                beam = self._widen(beam, self._extensions)
                idle = 0 if beam[0].score < before else idle + 1
                # Once more without gain: a kernel and a recompression may show together only.
                if self._done(beam[0]) or idle == (1 if self._source is None else 2):
                    break
        return self._ranked()

    def _done(self, scored: _Scored) -> bool:
        limit = _TWO_ROUNDINGS if _in_bytes(scored.state) else _ROUNDING
        return scored.fit.residual < limit or self._truncation(scored) is not None

    def _by_frame(self) -> Hypothesis | None:
        """Explains each frame alone, as where an app heeds what only some files say: a tag of the orientation, say."""
        counted: collections.Counter[tuple[Change, ...]] = collections.Counter()
        residual = 0.0
        for i in range(len(self._reference)):
            found = self._alone(i)
            if found is None or len(counted) > _MOST_KINDS_OF_FRAMES:
                return None
            counted[found.changes] += 1
            residual = max(residual, found.residual)
        if len(counted) < 2:
            return None
        frames = len(self._reference)
        changes = [
            dataclasses.replace(change, description=f"{change.description} in {count} of {frames} frames", code="x")
            for changes, count in counted.most_common()
            for change in changes
        ]
        return Hypothesis(tuple(changes), residual)

    def _alone(self, frame: int) -> Hypothesis | None:
        """Returns what single pixels show of one frame, without any change where both sides agree; None if nothing."""
        reference, edge = self._reference[[frame]], self._edge[[frame]]
        if rounding.agree(reference, edge, self._convention.scale):
            return Hypothesis((), 0.0)
        search = _Search(reference, edge, self._pairs[frame : frame + 1], self._convention)
        beam = search._best(map(search._score, search._starts()))
        if not search._done(beam[0]):
            beam = search._widen(beam, search._pointwise)
        return search._hypothesis(beam[0]) if search._done(beam[0]) else None

    def _best(self, scored: Iterable[_Scored]) -> list[_Scored]:
        return sorted({id(s): s for s in scored}.values(), key=lambda s: s.score)[:_BEAM]

    def _widen(self, beam: list[_Scored], extensions: Callable[[_Scored], Iterator[_State]]) -> list[_Scored]:
        found = list(beam)
        for scored in beam:
            if (id(scored), extensions.__name__) not in self._expanded:
                self._expanded.add((id(scored), extensions.__name__))
                for state in extensions(scored):
                    found.append(self._score(state))
                    if self._done(found[-1]):  # no other single change can do better
                        return self._best(found)
        return self._best(found)

    def _ranked(self) -> list[Hypothesis]:
        hypotheses: list[Hypothesis] = []
        for scored in sorted(self._scored.values(), key=lambda s: s.score)[: 4 * _RANKED]:
            hypothesis = self._hypothesis(scored)
            if hypothesis.changes and hypothesis.kinds not in [h.kinds for h in hypotheses]:
                hypotheses.append(hypothesis)
            if len(hypotheses) == _RANKED:
                break
        if not hypotheses or not hypotheses[0].explains:
            detail = self._detail_only(min(self._scored.values(), key=lambda s: s.score))
            hypotheses = [detail, *hypotheses][:_RANKED] if detail else hypotheses
        return hypotheses

    def _detail_only(self, scored: _Scored) -> Hypothesis | None:
        """Returns another resize kernel where both sides agree but for fine detail, though no known kernel fits."""
        if scored.fit.residual > _MOST_LEFT:
            return None
        coarse = [
            _pooled(side, _DETAIL)
            for side in (self._values(scored.state, whole=True), self._target(scored.state, whole=True))
        ]
        fit = fit_values(*coarse)
        if fit.residual > _DETAIL_LEFT * scored.fit.residual:
            return None
        # Fine detail that is missing looks like less contrast; the coarse values know scale and offset.
        changes = self._changes(scored.state, fit, _COARSE)
        if all(change.kind != "resize" for change in changes):
            words = "another resize kernel (both sides differ in fine detail only)"
            changes.insert(0, Change("resize", words, "x"))
        return Hypothesis(tuple(changes), scored.fit.residual)

    def _find_source(self) -> None:
        source = PictureSource.of(self._pairs, self._chosen, self._reference.shape[1:], self._points)
        fit = source.locate(self._points.of(self._reference[source.chosen])) if source else None
        if source is None or fit is None:
            return
        self._source, self._chosen = source, source.chosen
        self._turned.clear()
        self._convention = value_ranges.nearest(fit.scale, fit.offset)
        self._pixels = self._convention.to_pixels(self._reference)

    # Candidates.

    def _starts(self) -> Iterator[_State]:
        """Yields the arrangements that fit best at low resolution, where no kernel and hardly any curve matters."""
        coarse = _pooled(self._reference)
        left = {}
        for rearranged in (None, *rearrangements(*self._out)):
            left[rearranged] = fit_values(coarse, _pooled(_undone(rearranged, self._edge))).residual
        yield _State()
        ranked = sorted((r for r in left if r is not None), key=lambda r: left[r])
        for rearranged in ranked[:2]:
            if left[rearranged] < 0.9 * left[None]:
                yield _State(rearranged=rearranged)

    def _extensions(self, scored: _Scored) -> Iterator[_State]:
        state = scored.state
        kinds = {operation.kind for operation in state.operations}
        if self._source is not None:
            others = self._source.alternatives(state.spatial or self._source.spatial)
            yield from (dataclasses.replace(state, spatial=s) for s in others)
        elif not any(operation.whole for operation in state.operations):
            yield from self._blind(scored)
        yield from self._pointwise(scored)
        if "gamma" not in kinds:
            yield from self._exponents(scored)
        compressible = self._pixels.shape[-1] in (1, 3) and scored.fit.residual < _COMPRESSED
        if compressible and "jpeg" not in kinds and not (state.spatial and state.spatial.quality):
            yield from self._qualities(state)

    def _pointwise(self, scored: _Scored) -> Iterator[_State]:
        state = scored.state
        kinds = {operation.kind for operation in state.operations}
        added = [*colour.operations(self._pixels.shape[-1])]
        added += colour.fitted(self._values(state), self._convention.to_pixels(self._target(state)), scored.fit)
        for operation in added:
            if operation.kind not in kinds:
                yield from _with(state, operation)

    def _blind(self, scored: _Scored) -> Iterator[_State]:
        pixels, edge = self._values(scored.state, whole=True), self._target(scored.state, whole=True)
        found = blind.zoomed(pixels, edge, scored.fit) if len(scored.state.operations) < 2 else []
        if scored.fit.residual < 0.2:
            filtered = blind.filtered(pixels, edge, scored.fit)
            found += [filtered] if filtered else []
        for operation in found:
            yield dataclasses.replace(scored.state, operations=(*scored.state.operations, operation))

    def _exponents(self, scored: _Scored) -> Iterator[_State]:
        """Yields the gamma that fits best, where it is none of the named ones."""
        state = scored.state

        def left(exponent: float) -> float:
            return self._score(_with_last(state, colour.power(exponent)), keep=False).fit.residual

        if min(left(1.15), left(1 / 1.15)) > 0.9 * scored.fit.residual:
            return
        grid = np.exp(np.linspace(np.log(0.3), np.log(3.4), 13))
        best = min(grid, key=left)
        for width in (0.12, 0.04, 0.013, 0.004):
            best = min([best, *(best * (1 + width * k) for k in (-1, -0.5, 0.5, 1))], key=left)
        if abs(np.log(best)) > 0.05 and min(abs(best - 2.2), abs(1 / best - 2.2)) > 0.02:
            yield _with_last(state, colour.power(float(best)))

    def _qualities(self, state: _State) -> Iterator[_State]:
        """Yields the JPEG qualities that fit best: of the input, before and after all else, and of the raw picture."""
        for first in dict.fromkeys((True, not state.operations)):

            def of_input(quality: int, first: bool = first) -> _State:
                operation = colour.jpeg(quality)
                ahead = (operation, *state.operations) if first else (*state.operations, operation)
                return dataclasses.replace(state, operations=ahead)

            best = min(_QUALITIES, key=functools.partial(lambda make, q: self._left_on_few(make(q)), of_input))
            yield of_input(best)
        if self._source is not None:
            now = state.spatial or self._source.spatial

            def of_picture(quality: int) -> _State:
                return dataclasses.replace(state, spatial=dataclasses.replace(now, quality=quality))

            qualities = _QUALITIES if self._source.size < _MANY_PIXELS else _QUALITIES[::5]
            yield of_picture(min(qualities, key=lambda q: self._left_of_pictures(of_picture(q))))

    # Judgement.

    def _left_on_few(self, state: _State) -> float:
        """Returns the residual in the middle of a frame, which JPEG compresses as if it were the image."""
        # The middle: bars have no blocks. It starts where a block does.
        y, x = (max(0, size - _JPEG_SIDE) // 32 * 16 for size in self._out)
        middle = np.s_[:_JPEG_FRAMES, y : y + _JPEG_SIDE, x : x + _JPEG_SIDE]
        pixels = self._base(state.spatial, whole=True)[middle]
        for operation in state.operations:
            pixels = operation.apply(pixels)
        return fit_values(pixels, self._target(state, whole=True)[middle]).residual

    def _left_of_pictures(self, state: _State) -> float:
        assert self._source is not None
        assert state.spatial is not None
        pixels = self._source.render(state.spatial, few=_JPEG_FRAMES)
        for operation in state.operations:
            pixels = operation.apply(pixels)
        return fit_values(pixels, self._target(state)[:_JPEG_FRAMES]).residual

    def _score(self, state: _State, keep: bool = True) -> _Scored:
        key = (
            state.spatial,
            tuple((o.description, o.expression, i) for i, o in enumerate(state.operations)),
            id(state.rearranged),
        )
        if key in self._scored:
            return self._scored[key]
        fit = fit_values(self._values(state), self._target(state))
        changes = self._changes(state, fit)
        scored = _Scored(state, fit, float(np.log10(fit.residual + FLOOR)) + _COST * len(changes))
        if keep:
            self._scored[key] = scored
        return scored

    def _target(self, state: _State, whole: bool = False) -> np.ndarray:
        """Returns the app's values [n, rows, columns, C] in the reference's arrangement."""
        name = state.rearranged.change.code if state.rearranged else ""
        if name not in self._turned:
            self._turned[name] = _undone(state.rearranged, self._edge[self._chosen])
        return self._turned[name] if whole else self._points.of(self._turned[name])

    def _values(self, state: _State, whole: bool = False) -> np.ndarray:
        """Returns the pixels of a candidate, before permutation and affine maps."""
        whole_needed = whole or any(operation.whole for operation in state.operations)
        pixels = self._base(state.spatial, whole_needed)
        for operation in state.operations:
            pixels = operation.apply(pixels)
        return self._points.of(pixels) if whole_needed and not whole else pixels

    def _base(self, spatial: Spatial | None, whole: bool) -> np.ndarray:
        key = (spatial, whole)
        if key not in self._rendered:
            if spatial is None:
                pixels = self._pixels[self._chosen]
                self._rendered[key] = pixels if whole else self._points.of(pixels)
            else:
                assert self._source is not None
                every = Points(*(np.arange(size) for size in self._out))
                self._rendered[key] = self._source.render(spatial, every if whole else None)
        return self._rendered[key]

    # The answer.

    def _changes(self, state: _State, fit: ChannelFit, tolerance: float = 0.0) -> list[Change]:
        changes = self._source.changes(state.spatial, self._convention) if self._source and state.spatial else []
        changes += [Change(o.kind, o.description, self._convention.around(o.expression)) for o in state.operations]
        changes += self._map_changes(fit, max(tolerance, _CONVERTED if _in_bytes(state) else _SAME_RANGE))
        if state.rearranged:
            changes.append(state.rearranged.change)
        return changes

    def _map_changes(self, fit: ChannelFit, tolerance: float) -> list[Change]:
        """Names order and affine maps of the channels, which lead from pixels, as maps from the reference's values."""
        ordered_scale = self._convention.scale[fit.permutation]
        ordered_offset = self._convention.offset[fit.permutation]
        scale = fit.scale / ordered_scale
        offset = fit.offset - scale * ordered_offset
        low, high = float(self._reference.min()), float(self._reference.max())
        # An approximate explanation biases the slope by as much as it leaves.
        tolerance += 3 * fit.residual
        return value_ranges.map_changes(fit.permutation, scale, offset, (low, high), tolerance)

    def _hypothesis(self, scored: _Scored) -> Hypothesis:
        changes = self._changes(scored.state, scored.fit)
        cut = self._truncation(scored)
        if cut:
            kept = [c for c in changes if c.kind != "value_range" or self._converts(scored.fit)]
            rearranged = scored.state.rearranged
            at = len(kept) - (1 if rearranged else 0)
            changes = [*kept[:at], cut, *kept[at:]]
        residual = scored.fit.residual
        sure = residual <= max(EXPLAINED, min(_MOST_LEFT, _APPROXIMATE * self._baseline))
        # The rounding of an 8-bit input is a large part of what cutting it off makes.
        sure &= cut is not None or residual <= max(_ROUNDING, OF_DIFFERENCE * self._difference)
        return Hypothesis(tuple(changes), residual, explains=sure)

    def _converts(self, fit: ChannelFit) -> bool:
        rounded = dataclasses.replace(fit, offset=fit.offset + self._half_step(fit))
        return any(change.kind == "value_range" for change in self._map_changes(rounded, _STEPS))

    def _half_step(self, fit: ChannelFit) -> np.ndarray:
        return np.abs(fit.scale) / 2

    def _truncation(self, scored: _Scored) -> Change | None:
        fit = scored.fit
        if not _EXACT < fit.residual < _CUT:
            return None
        pixels, target = self._values(scored.state)[..., fit.permutation], self._target(scored.state)
        for known in (self._convention, value_ranges.nearest(fit.scale, fit.offset + self._half_step(fit))):
            cut = rounding.truncation(pixels, known.to_pixels(target), 1.0)
            if cut:
                return dataclasses.replace(cut, code=self._convention.around(cut.code))
            # One step for all channels is what a quantised input has.
            cut = rounding.truncation(pixels * known.scale + known.offset, target, float(known.scale.mean()))
            if cut:
                return cut
        return None


def _in_bytes(state: _State) -> bool:
    """Returns whether libraries convert to YUV on the way, in whole numbers that they cut off."""
    return any(operation.kind.startswith("yuv") for operation in state.operations)


def _with(state: _State, operation: Operation) -> Iterator[_State]:
    yield _with_last(state, operation)
    if state.operations:
        yield dataclasses.replace(state, operations=(operation, *state.operations))


def _with_last(state: _State, operation: Operation) -> _State:
    return dataclasses.replace(state, operations=(*state.operations, operation))


def _undone(rearranged: Rearranged | None, edge: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rearranged.undo(edge)) if rearranged else edge


def _pooled(images: np.ndarray, block: int | None = None) -> np.ndarray:
    """Averages blocks of so many pixels; without, so many that 16 by 16 or so are left."""
    _, height, width, channels = images.shape
    y, x = (block or max(1, size // 16) for size in (height, width))
    cut = images[:, : height // y * y, : width // x * x]
    return cut.reshape(len(images), height // y, y, width // x, x, channels).mean((2, 4))
