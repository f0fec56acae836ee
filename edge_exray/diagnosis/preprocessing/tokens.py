"""Finds out what an app does differently to the token ids of a text.

A row of ids is taken apart into padding, marks at its beginning and end, and content. What maps the content of one side
to the other's is counted, id by id, and every candidate is replayed: what it leaves unexplained is the share of the
positions at which it does not predict the app's id.
"""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing.hypothesis import Change, Hypothesis, Pair

# More than this share of the positions unexplained is no explanation.
_UNEXPLAINED = 0.2
# What one more change must divide the unexplained share by to be believed.
_WORTH = 2.0
# A position of which a hypothesis says nothing, such as words that the reference cut off.
_UNKNOWN = int(np.iinfo(np.int64).min)
# Positions of ids that were seen before, below which every vocabulary fits.
_REPEATED = 12
# Different words that one id must replace to be the id of unknown words.
_REPLACED = 3
# Entries of a mapping that are written into code.
_WRITTEN = 20

Rows = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Padding:
    """What fills up the rows of one side; `value` is None when all rows are full."""

    value: int | None
    side: str = "right"

    def strip(self, row: np.ndarray) -> np.ndarray:
        """Returns the row without its padding."""
        if self.value is None:
            return row
        kept = np.flatnonzero(row != self.value)
        if not len(kept):
            return row[:0]
        return row[: kept[-1] + 1] if self.side == "right" else row[kept[0] :]

    def fill(self, content: np.ndarray, length: int, *, cut: bool) -> np.ndarray:
        """Returns the content filled up to a length; with what nobody knows when the reference cut the text off."""
        value = _UNKNOWN if self.value is None or cut else self.value
        fill = np.full(length - len(content), value, np.int64)
        return np.concatenate([content, fill] if self.side == "right" or cut else [fill, content])


@dataclasses.dataclass(frozen=True)
class _Mapping:
    """What becomes of the ids at aligned positions.

    Attributes:
        change: None for no change.
        rows: The app's ids as predicted; `_UNKNOWN` where nothing is said.
        padding: What the mapping makes of the padding value.
    """

    change: Change | None
    rows: Rows
    padding: int | None


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Finds what an app does differently to token ids.

    Args:
        pairs: Ids, of shape `[L]` and any axes of length 1; whole numbers of any dtype.

    Returns:
        The best explanation first; empty when both sides agree or nothing explains the difference. A `residual` is the
        share of the positions beyond common padding whose ids remain unexplained. Positions that hold what the
        reference cut off do not count.
    """
    usable = [pair for pair in pairs if pair.reference.shape == pair.edge.shape and pair.reference.size]
    reference = [_ids(pair.reference) for pair in usable]
    edge = [_ids(pair.edge) for pair in usable]
    if all(np.array_equal(a, b) for a, b in zip(reference, edge, strict=True)):
        return []
    found: list[tuple[tuple[Change, ...], float]] = []
    for have, want in itertools.product(_paddings(reference), _paddings(edge)):
        found += _explanations(usable, reference, edge, have, want)
    return _rank(found, _unexplained(reference, edge, set()), sum(map(len, edge)))


def _ids(values: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(values, np.float64)).astype(np.int64).ravel()


def _paddings(rows: Rows) -> list[_Padding]:
    """Returns the paddings that one side may have: a value that stands in runs at one end of several rows."""
    found = []
    for side in ("right", "left"):
        ends = collections.Counter(int(row[-1 if side == "right" else 0]) for row in rows)
        fitting = [_Padding(value, side) for value, count in ends.most_common(4) if count >= len(rows) / 8]
        runs = {p: [len(row) - len(p.strip(row)) for row in rows] for p in fitting}
        # A mark at an end is a run of one, and one row may begin or end with a word twice.
        padded = {p: max(run) for p, run in runs.items() if sum(n > 1 for n in run) >= max(1, len(rows) / 8)}
        found += [max(padded, key=lambda p: padded[p])] if padded else []
    return found or [_Padding(None)]


def _explanations(
    pairs: Sequence[Pair], reference: Rows, edge: Rows, have: _Padding, want: _Padding
) -> Iterator[tuple[tuple[Change, ...], float]]:
    """Yields changes and the share of the positions that they leave unexplained."""
    length = max(map(len, reference))
    if want.value is None:
        want = have
    contents, targets = [have.strip(row) for row in reference], [want.strip(row) for row in edge]
    full = [len(content) == length for content in contents]
    common = set() if want.value is None else {want.value}

    def judged(changes: Sequence[Change], rows: Rows, value: int | None) -> tuple[tuple[Change, ...], float]:
        filled = [want.fill(row, length, cut=cut) for row, cut in zip(rows, full, strict=True)]
        return (*changes, *_padding_changes(value, have, want)), _unexplained(filled, edge, common)

    for order, ordered in _orders(contents, have):
        for marks, kept, heads, tails in _marks(ordered, targets, have):
            windows = [t[len(heads) : len(t) - len(tail)] for t, tail in zip(targets, tails, strict=True)]
            for mapping in _mappings(pairs, kept, windows, have):
                rows = [
                    _assembled(heads, row, tail, length, cut=cut)
                    for row, tail, cut in zip(mapping.rows, tails, full, strict=True)
                ]
                yield judged([*order, *([mapping.change] if mapping.change else []), *marks], rows, mapping.padding)
    for change, rows in _recut(pairs, contents, targets, length):
        yield judged([change], rows, have.value)
    for change, rows in _shortened(contents, targets, want):
        filled = [want.fill(row, length, cut=False) for row in rows]
        yield (change, *_padding_changes(have.value, have, want)), _unexplained(filled, edge, common)


def _assembled(heads: list[int], row: np.ndarray, tails: list[int], length: int, *, cut: bool) -> np.ndarray:
    """Returns at most `length` ids, with marks; nobody knows how a text goes on that the reference cut off."""
    room = length - len(heads) - len(tails)
    row = row[:room]
    unknown = np.full(room - len(row) if cut else 0, _UNKNOWN)
    return np.concatenate([heads, row, unknown, tails]).astype(np.int64)


def _orders(contents: Rows, padding: _Padding) -> Iterator[tuple[list[Change], Rows]]:
    """Yields the contents as they are, and backwards, with marks at both ends in their places or not."""
    yield [], contents
    code = _reversed_code(padding)
    yield [Change("reversed_order", "the words in reversed order", code)], [row[::-1] for row in contents]
    first, last = (int(_common(contents, end) is not None) for end in (0, -1))
    if first or last:
        rows = [np.concatenate([r[:first], r[first : len(r) - last][::-1], r[len(r) - last :]]) for r in contents]
        what = "the words between the marks in reversed order"
        yield [Change("reversed_order", what, code)], rows


def _unexplained(predicted: Rows, edge: Rows, padding: set[int]) -> float:
    """Returns the share of the positions with another id than predicted, without those where both are padding."""
    said, meant = np.concatenate(predicted), np.concatenate(edge)
    counted = said != _UNKNOWN
    for value in padding:
        counted &= (said != value) | (meant != value)
    # To say little is not to explain.
    if counted.sum() < 0.3 * np.sum([~np.isin(meant, list(padding))]):
        return 1.0
    return float(np.mean(said[counted] != meant[counted]))


def _rank(found: list[tuple[tuple[Change, ...], float]], identity: float, positions: int) -> list[Hypothesis]:
    best: dict[tuple[str, ...], tuple[float, Hypothesis]] = {}
    for changes, residual in found:
        if not changes or residual > _UNEXPLAINED or residual * 3 > identity:
            continue
        score = math.log(residual + 1 / positions) + math.log(_WORTH) * len(changes)
        key = tuple(sorted(change.kind for change in changes))
        if key not in best or score < best[key][0]:
            best[key] = score, Hypothesis(changes, residual)
    ranked = sorted(best.values(), key=lambda item: item[0])[:5]
    return [hypothesis for score, hypothesis in ranked if score <= ranked[0][0] + math.log(10)]


def _reversed_code(padding: _Padding) -> str:
    if padding.value is None:
        return "x[::-1]"
    if padding.side == "right":
        return f"np.roll(x[::-1], -np.argmax(x[::-1] != {padding.value}))"
    return f"np.roll(x[::-1], np.argmax(x != {padding.value}))"


def _padding_changes(value: int | None, have: _Padding, want: _Padding) -> list[Change]:
    """Names another padding, given what became of the reference's value so far."""
    changes: list[Change] = []
    if value is None or want.value is None:
        return changes
    if want.value != value:
        what = f"padding with {want.value} instead of {value}"
        changes.append(Change("padding_value", what, f"np.where(x == {value}, {want.value}, x)"))
    if want.side != have.side:
        away = f"np.argmax(x[::-1] != {want.value})" if have.side == "right" else f"-np.argmax(x != {want.value})"
        what = f"padding on the {want.side} instead of the {have.side}"
        changes.append(Change("padding_side", what, f"np.roll(x, {away})"))
    return changes


def _marks(
    contents: Rows, targets: Rows, padding: _Padding
) -> Iterator[tuple[list[Change], Rows, list[int], list[list[int]]]]:
    """Yields which marks the app leaves out or adds, contents without marks, and the app's marks at their ends."""
    fill = 0 if padding.value is None else padding.value
    at_first, at_last = f"np.flatnonzero(x != {fill})[0]", f"np.flatnonzero(x != {fill})[-1]"
    right = padding.side == "right"
    drop = {
        0: f"np.append(x[1:], {fill})" if right else f"np.where(np.arange(len(x)) == {at_first}, {fill}, x)",
        -1: f"np.where(np.arange(len(x)) == {at_last}, {fill}, x)" if right else f"np.insert(x[:-1], 0, {fill})",
    }
    add = {
        0: "np.insert(x, 0, {})[:len(x)]" if right else f"np.insert(x, {at_first}, {{}})[1:]",
        -1: f"np.insert(x, {at_last} + 1, {{}})[:len(x)]" if right else "np.append(x[1:], {})",
    }
    options: dict[int, list[tuple[str, int]]] = {}
    for end in (0, -1):
        options[end] = [("keep", 0)]
        ours, theirs = _common(contents, end), _common(targets, end)
        if ours is not None:
            options[end].append(("drop", ours))
        if theirs is not None:
            options[end].append(("add", theirs))
    for first, last in itertools.product(options[0], options[-1]):
        changes: list[Change] = []
        cut = contents
        heads: list[int] = []
        tails: list[list[int]] = [[] for _ in contents]
        for end, (what, mark), place in ((0, first, "begins"), (-1, last, "ends")):
            if what == "drop":
                cut = [row[1:] if end == 0 else row[:-1] for row in cut]
                said = f"no mark {mark} where the text {place}"
                changes.append(Change("missing_mark", said, drop[end]))
            elif what == "add":
                heads, tails = ([mark], tails) if end == 0 else (heads, [[mark] for _ in contents])
                said = f"an extra mark {mark} where the text {place}"
                changes.append(Change("extra_mark", said, add[end].format(mark)))
            elif end == -1 and len(options[-1]) == 3:
                # It ends texts that were cut off too, wherever that is.
                ours, theirs = options[-1][1][1], options[-1][2][1]
                marked = [len(row) > 0 and row[-1] == ours for row in cut]
                cut = [row[:-1] if has else row for row, has in zip(cut, marked, strict=True)]
                tails = [[theirs] if has else [] for has in marked]
        yield changes, cut, heads, tails


def _common(rows: Rows, end: int) -> int | None:
    """Returns the id at which most rows begin (0) or end (-1), where they are not all cut off; None without one."""
    ids = collections.Counter(int(row[end]) for row in rows if len(row))
    if not ids:
        return None
    value, count = ids.most_common(1)[0]
    return value if count >= 0.6 * len(rows) and len(rows) > 1 else None


def _mappings(pairs: Sequence[Pair], contents: Rows, targets: Rows, padding: _Padding) -> Iterator[_Mapping]:
    """Yields what may become of ids, from positions that stand at the same distance from the beginning."""
    yield _Mapping(None, contents, padding.value)
    sizes = [min(len(c), len(t)) for c, t in zip(contents, targets, strict=True)]
    ours = np.concatenate([c[:n] for c, n in zip(contents, sizes, strict=True)])
    theirs = np.concatenate([t[:n] for t, n in zip(targets, sizes, strict=True)])
    differs = ours != theirs
    if not differs.any():
        return
    splits = np.cumsum(sizes)[:-1]

    def positions(predicted: np.ndarray) -> Rows:
        """Returns predicted rows; what stands beyond the app's row is kept as it is."""
        heads = np.split(predicted, splits)
        return [np.concatenate([head, row[len(head) :]]) for head, row in zip(heads, contents, strict=True)]

    yield from _shifts(ours, theirs, contents, padding)
    seen: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for one, other in zip(ours.tolist(), theirs.tolist(), strict=True):
        seen[one][other] += 1
    usual = {one: counts.most_common(1)[0][0] for one, counts in seen.items()}
    capitals = _capitals(pairs, contents, sizes)
    told = _told_by_capitals(differs, capitals)
    unknown, count = collections.Counter(theirs[differs].tolist()).most_common(1)[0]
    replaced = set(ours[differs & (theirs == unknown)].tolist())
    share = float(np.mean(differs))
    is_unknown = len(replaced) >= _REPLACED
    if is_unknown:
        predicted = np.where(theirs == unknown, unknown, ours)
        always = sorted(i for i in replaced if usual[i] == unknown)[:_WRITTEN]
        code = f"np.where(np.isin(x, {always}), {unknown}, x)"
        what = f"{share:.1%} of the words unknown (id {unknown}) to the app's vocabulary"
        if told:
            what = f"letters in another case, so that {share:.1%} of the words are unknown (id {unknown})"
        change = Change("lower_case" if told else "unknown_tokens", what, code)
        yield _Mapping(change, positions(predicted), padding.value)
    known, count = collections.Counter(ours[differs].tolist()).most_common(1)[0]
    if len(set(theirs[differs & (ours == known)].tolist())) >= _REPLACED and count >= 0.5 * differs.sum():
        what = f"{share:.1%} of the words, unknown to training (id {known}), have ids of their own"
        predicted = np.where(ours == known, theirs, ours)
        yield _Mapping(Change("unknown_tokens", what, "x"), positions(predicted), padding.value)
    predicted = np.array([usual[one] for one in ours.tolist()])
    changed = {one: other for one, other in usual.items() if one != other}
    folded = {one: other for one, other in changed.items() if not (is_unknown and other == unknown)}
    if told or (told is None and _folds(folded, usual)):
        what = f"letters in another case, as lower-casing: {share:.1%} of the words have another id"
        yield _Mapping(Change("lower_case", what, _map_code(changed)), positions(predicted), padding.value)
    back: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for one, other in zip(ours.tolist(), theirs.tolist(), strict=True):
        back[other][one] += 1
    source = {other: counts.most_common(1)[0][0] for other, counts in back.items()}
    unfolded = {one: other for one, other in source.items() if one != other}
    if told or (told is None and _folds(unfolded, source)):
        what = f"letters in another case, as without lower-casing: {share:.1%} of the words have another id"
        expected = np.array([source[other] for other in theirs.tolist()])
        predicted = np.where(expected == ours, theirs, ours)
        change = Change("lower_case", what, _map_code({one: other for other, one in unfolded.items()}))
        yield _Mapping(change, positions(predicted), padding.value)
    yield from _vocabulary(ours, seen, usual, changed, positions, padding)


def _shifts(ours: np.ndarray, theirs: np.ndarray, contents: Rows, padding: _Padding) -> Iterator[_Mapping]:
    """Yields a constant that is added to all ids, or to all but a few special ones."""
    moves = collections.Counter((theirs - ours)[theirs != ours].tolist())
    shift, _ = moves.most_common(1)[0]
    what = f"ids shifted by {shift:+d}"
    change = Change("shifted_ids", what, f"x {'-' if shift < 0 else '+'} {abs(shift)}")
    value = None if padding.value is None else padding.value + shift
    yield _Mapping(change, [row + shift for row in contents], value)
    special = sorted(set(ours[ours == theirs].tolist()))
    kept = sorted({*special, *([] if padding.value is None else [padding.value])})
    if len(special) <= 4:
        code = f"np.where(np.isin(x, {kept}), x, {change.code})"
        all_but = f"{what}, but not {', '.join(map(str, kept))}" if kept else what
        rows = [np.where(np.isin(row, special), row, row + shift) for row in contents]
        yield _Mapping(Change("shifted_ids", all_but, code), rows, padding.value)


def _vocabulary(
    ours: np.ndarray,
    seen: dict[int, collections.Counter[int]],
    usual: dict[int, int],
    changed: dict[int, int],
    positions: Callable[[np.ndarray], Rows],
    padding: _Padding,
) -> Iterator[_Mapping]:
    """Yields a one-to-one exchange of ids, judged on ids that occur more than once."""
    counts = {one: sum(counter.values()) for one, counter in seen.items()}
    repeated = {one for one, count in counts.items() if count > 1}
    if sum(counts[one] for one in repeated) < _REPEATED or len(set(usual.values())) < 0.95 * len(usual):
        return
    if len(changed) < 2:
        return
    predicted = np.array([usual[one] if one in repeated else _UNKNOWN for one in ours.tolist()])
    share = len(changed) / len(usual)
    what = f"another vocabulary: {share:.0%} of the ids stand for other words, one for one"
    yield _Mapping(Change("vocabulary", what, _map_code(changed)), positions(predicted), padding.value)


def _folds(changed: dict[int, int], usual: dict[int, int]) -> bool:
    """True when a mapping looks like lower-casing: it moves some ids onto ids that stay, and no id twice."""
    if not changed or len(changed) > 0.5 * len(usual):
        return False
    onto = [other for other in changed.values() if other in usual]
    return len(onto) >= max(2, 0.2 * len(changed)) and all(usual[other] == other for other in onto)


def _map_code(changed: dict[int, int]) -> str:
    """Returns code with the first entries of a mapping."""
    written = dict(sorted(changed.items())[:_WRITTEN])
    return f"np.vectorize(lambda i: {written}.get(i, i))(x)"


def _capitals(pairs: Sequence[Pair], contents: Rows, sizes: list[int]) -> np.ndarray | None:
    """Returns which aligned positions are words with capitals; None when the source has no text of so many words."""
    found = []
    for pair, content, size in zip(pairs, contents, sizes, strict=True):
        words = next((w for w in _texts(pair) if len(w) >= len(content)), None)
        if words is None:
            return None
        # Marks at the beginning are no words.
        found.append(np.array([word != word.lower() for word in words[:size]], bool))
    return np.concatenate(found) if found else None


def _texts(pair: Pair) -> Iterator[list[str]]:
    """Yields the words and signs of every text in the source."""
    for array in pair.source.values():
        for item in np.asarray(array).ravel()[:1].tolist():
            if isinstance(item, bytes):
                yield re.findall(r"\w+|[^\w\s]", item.decode("utf-8", "replace"))
            elif isinstance(item, str):
                yield re.findall(r"\w+|[^\w\s]", item)


def _told_by_capitals(differs: np.ndarray, capitals: np.ndarray | None) -> bool | None:
    """Tells whether the words that differ are those with capitals; None when that is not known."""
    if capitals is None or len(capitals) != len(differs):
        return None
    hits = float(np.sum(differs & capitals))
    return hits >= 0.9 * differs.sum() and hits >= 0.5 * capitals.sum()


def _shortened(contents: Rows, targets: Rows, want: _Padding) -> Iterator[tuple[Change, Rows]]:
    """Yields texts that the app ends earlier."""
    most, now = max(map(len, contents)), max(map(len, targets))
    if want.value is None or not 0 < now < most:
        return
    code = f"np.where(np.arange(x.size) < {now}, x, {want.value})"
    if want.side == "left":
        code = f"np.where(np.arange(x.size) < x.size - {now}, {want.value}, x)"
    for end, rows in (("beginning", [row[:now] for row in contents]), ("end", [row[-now:] for row in contents])):
        yield Change("truncation", f"only the {end} of the texts, {now} of up to {most} ids", code), rows


def _recut(pairs: Sequence[Pair], contents: Rows, targets: Rows, length: int) -> Iterator[tuple[Change, Rows]]:
    """Yields the other end of texts that are too long."""
    for kept, code in (("end", "np.roll(x, -{})"), ("beginning", "np.roll(x, {})")):
        rows, moves = [], []
        for pair, ours, theirs in zip(pairs, contents, targets, strict=True):
            move = None
            if len(ours) == len(theirs) == length and not np.array_equal(ours, theirs):
                move = _move(ours, theirs) if kept == "end" else _move(theirs, ours)
            whole = _whole(pair, ours, kept)
            if whole is not None:
                rows.append(whole)
            elif move is None:
                rows.append(ours)
            else:
                missing = np.full(move, _UNKNOWN)
                rows.append(np.concatenate([ours[move:], missing] if kept == "end" else [missing, ours[:-move]]))
            moves.append(move or 0)
        if any(not np.array_equal(row, ours) for row, ours in zip(rows, contents, strict=True)):
            what = f"of long texts the {kept} instead of the {'beginning' if kept == 'end' else 'end'}"
            yield Change("truncation", what, code.format(max(moves))), rows


def _whole(pair: Pair, ours: np.ndarray, kept: str) -> np.ndarray | None:
    """Returns the other end of the ids before they were cut, when the source has them."""
    for array in pair.source.values():
        if array.dtype.kind not in "iu" or array.size <= len(ours):
            continue
        ids = array.astype(np.int64).ravel()
        head, tail = ids[: len(ours)], ids[-len(ours) :]
        for have, want, end in ((head, tail, "end"), (tail, head, "beginning")):
            if kept == end and np.array_equal(have, ours):
                return want
    return None


def _move(earlier: np.ndarray, later: np.ndarray) -> int | None:
    """Returns by how much a row begins later than another one with which it overlaps."""
    for move in range(1, len(earlier) - 3):
        if np.array_equal(earlier[move:], later[: len(later) - move]):
            return move
    return None
