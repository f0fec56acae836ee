"""Finds out what an app does differently to the features of a table.

All frames together are the sample: a matrix of frames and features. Which reference column an app's column comes from
is an assignment problem, whose costs are how badly one column explains another; then the map of each column is named.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing.hypothesis import Change, Hypothesis, Pair

# Two values are the same to this share of the spread of their column: float32 keeps seven digits.
_SAME = 1e-5
# Frames below which a line of two parameters fits by chance.
_FRAMES = 5
# What takes more to describe is not explained.
_MOST_CHANGES = 3
# Share of the rows that a map of a column must hit, where the others are imputed or clipped.
_MOST = 0.6

# Factor, from and to. The reverse is named as well.
_UNITS = (
    (10.0, "millimetres", "centimetres"),
    (100.0, "centimetres or percent", "metres or shares"),
    (1000.0, "thousandths", "units (mm for m, g for kg)"),
    (60.0, "seconds", "minutes (or minutes for hours)"),
    (3600.0, "seconds", "hours"),
    (86400.0, "seconds", "days"),
    (24.0, "hours", "days"),
    (7.0, "days", "weeks"),
    (12.0, "inches or months", "feet or years"),
    (2.54, "centimetres", "inches"),
    (25.4, "millimetres", "inches"),
    (3.28084, "feet", "metres"),
    (2.2046226, "pounds", "kilograms"),
    (28.349523, "grams", "ounces"),
    (1.609344, "kilometres", "miles"),
    (1.852, "kilometres", "nautical miles"),
    (3.6, "km/h", "m/s"),
    (2.2369363, "mph", "m/s"),
    (180 / math.pi, "degrees", "radians"),
    (4.184, "joules", "calories"),
    (6.894757, "kilopascals", "psi"),
    (1e6, "millionths", "units"),
    (255.0, "0..255", "0..1"),
)
_AFFINE_UNITS = (
    (1.8, 32.0, "Fahrenheit instead of Celsius"),
    (1 / 1.8, -32 / 1.8, "Celsius instead of Fahrenheit"),
    (1.0, 273.15, "Kelvin instead of Celsius"),
    (1.0, -273.15, "Celsius instead of Kelvin"),
)
_CURVES: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("a natural logarithm too many", "np.log(x)", np.log),
    ("a log10 too many", "np.log10(x)", np.log10),
    ("a log(1 + x) too many", "np.log1p(x)", np.log1p),
    ("no natural logarithm", "np.exp(x)", np.exp),
    ("no log10", "10 ** x", lambda x: 10**x),
    ("no log(1 + x)", "np.expm1(x)", np.expm1),
    ("a square root too many", "np.sqrt(x)", np.sqrt),
    ("no square root", "x ** 2", np.square),
)
# Share of the variance of a column that its map may leave.
_CLOSE = 0.02
# What stands for a missing value.
_MISSING = (0.0, -1.0, -9.0, -99.0, -999.0, 99.0, 999.0, 9999.0, -9999.0)


@dataclasses.dataclass(frozen=True)
class _Map:
    """What becomes of one column.

    Attributes:
        kind: Identifier of the change; empty for none.
        what: In words.
        code: Expression of the column `x`.
        predicted: `[frames]`.
        scale, offset: Of a line.
        cost: The share of the variance that it leaves, or of the rows for what is not smooth.
    """

    kind: str
    what: str
    code: str
    predicted: np.ndarray
    cost: float
    scale: float = 1.0
    offset: float = 0.0


def explain(pairs: Sequence[Pair]) -> list[Hypothesis]:
    """Finds what an app does differently to the features of a table.

    Args:
        pairs: One row each: features of shape `[F]`, a scalar, and any axes of length 1. NaN is a missing value.

    Returns:
        The best explanation first; empty when both sides agree or nothing explains the difference. A `residual` is the
        mean over the features of what is left of each one's variance.
    """
    rows = [pair for pair in pairs if pair.reference.shape == pair.edge.shape and pair.reference.size]
    if not rows:
        return []
    size = collections.Counter(pair.reference.size for pair in rows).most_common(1)[0][0]
    rows = [pair for pair in rows if pair.reference.size == size]
    reference, edge = (
        np.stack([np.ravel(side).astype(np.float64) for side in sides])
        for sides in ([pair.reference for pair in rows], [pair.edge for pair in rows])
    )
    if _same(reference, edge).all():
        return []
    found = []
    for order in _orders(reference, edge):
        maps = _maps(reference[:, order], edge)
        if maps:
            residual = float(np.mean([one.cost for one in maps]))
            changes = [*_order_change(order, reference), *_changes(maps, reference[:, order], edge)]
            found.append(Hypothesis(tuple(changes), residual))
    return sorted(
        (h for h in found if 0 < len(h.changes) <= _MOST_CHANGES), key=lambda h: (round(h.residual, 6), len(h.changes))
    )[:5]


def _maps(x: np.ndarray, y: np.ndarray) -> list[_Map]:
    """Returns the map of every column; none as soon as too much is left unexplained."""
    maps: list[_Map] = []
    left, allowed = 0.0, _limit(len(x)) * x.shape[1]
    for column in range(x.shape[1]):
        maps.append(_map(x[:, column], y[:, column]))
        left += maps[-1].cost
        if left > allowed:
            return []
    return maps


def _limit(frames: int) -> float:
    """Returns the residual beyond which nothing is explained; one frame proves only what fits exactly."""
    return 0.1 if frames >= _FRAMES else 1e-6


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Tells which values are the same but for float noise, by column; two missing values are."""
    with np.errstate(invalid="ignore"):
        spread = np.nan_to_num(np.nanstd(other, axis=0)) if other.ndim and len(other) > 1 else np.zeros(other.shape[1:])
        close = np.abs(one - other) <= _SAME * spread + 1e-6 * np.abs(other) + 1e-12
    return close | (np.isnan(one) & np.isnan(other))


def _residual(predicted: np.ndarray, edge: np.ndarray) -> float:
    """Returns the share of the variance that is left, or the share of the wrong rows where there is no variance."""
    same = _same(predicted, edge)
    known = np.isfinite(predicted) & np.isfinite(edge)
    variance = float(np.var(edge[known])) if known.any() else 0.0
    missed = float(np.mean(~same & ~known))
    if variance == 0:
        return float(np.mean(~same))
    return min(1.0, missed + float(np.mean((predicted[known] - edge[known]) ** 2)) / variance)


def _orders(reference: np.ndarray, edge: np.ndarray) -> Iterator[list[int]]:
    """Yields which reference column each edge column comes from: itself, and what fits best."""
    from scipy import optimize

    features = edge.shape[1]
    yield list(range(features))
    if features == 1:
        return
    # Ties are frequent, as among columns of zeros: a column that stays where it is costs least.
    costs = np.log(_distances(reference, edge) + 1e-9) + 0.01 * (1 - np.eye(features))
    _, order = optimize.linear_sum_assignment(costs)
    if not np.array_equal(order, np.arange(features)):
        yield [int(i) for i in order]


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns how badly column i of x explains column j of y, `[j, i]`.

    It is the share of the rows that differ; where that are most, what a line leaves, at a higher price.
    """
    same = np.zeros((y.shape[1], x.shape[1]))
    spread = np.nan_to_num(np.nanstd(y, axis=0))[:, None]
    for one, other in zip(x, y[:, :, None], strict=True):
        with np.errstate(invalid="ignore"):
            close = np.abs(other - one) <= _SAME * spread + 1e-6 * np.abs(other) + 1e-12
        same += close | (np.isnan(other) & np.isnan(one))
    differing = 1 - same / len(x)
    if len(x) < _FRAMES:
        return differing
    # A column with missing values correlates with none, and one without variance neither.
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = [np.nan_to_num((side - side.mean(0)) / side.std(0) / math.sqrt(len(side))) for side in (x, y)]
    left = 1 - (scaled[1].T @ scaled[0]) ** 2
    return np.where(differing <= 1 - _MOST, differing, np.clip(10 * left, 1e-6, 1))


def _map(x: np.ndarray, y: np.ndarray) -> _Map:
    """Returns the simplest map that explains a column."""
    candidates = list(_candidates(x, y))
    exact = [c for c in candidates if c.cost <= 1e-6]
    # Of those that leave nothing, one cause is likelier than two.
    best = min(exact, key=lambda c: c.kind.count("+")) if exact else min(candidates, key=lambda c: c.cost)
    return best if best.cost <= min(_CLOSE, candidates[0].cost / 3) else candidates[0]


def _candidates(x: np.ndarray, y: np.ndarray) -> Iterator[_Map]:
    """Yields maps of a column, the simplest first."""

    def candidate(kind: str, what: str, code: str, predicted: np.ndarray, a: float = 1.0, b: float = 0.0) -> _Map:
        return _Map(kind, what, code, predicted, _residual(predicted, y), a, b)

    yield candidate("", "", "x", x)
    if _same(x, y).all():
        return
    yield from _repaired(x, y, candidate, "", "", "x", x)
    yield from _coarser(x, y, candidate)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return
    for have, want, what in _AFFINE_UNITS:
        yield candidate("unit", what, f"x * {have:.6g} + {want:.6g}", have * x + want, have, want)
    for factor, what in _factors(x[known], y[known]):
        code = f"x * {factor:.6g}"
        yield candidate("unit", what, code, factor * x, factor)
        yield from _repaired(x, y, candidate, "unit", what, code, factor * x, factor)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for what, code, function in _CURVES:
            curved = function(x)
            if np.all(np.isfinite(curved[known])) and np.ptp(x[known]) > 0:
                yield candidate("log", what, code, curved)
                yield from _repaired(x, y, candidate, "log", what, code, curved)
    if known.sum() >= _FRAMES and np.ptp(x[known]) > 0:
        a, b = np.polyfit(x[known], y[known], 1)
        yield candidate("affine", "scaled and moved", f"x * {a:.6g} + {b:.6g}", a * x + b, float(a), float(b))
        a, b = _robust_line(x[known], y[known])
        yield candidate("affine", "scaled and moved", f"x * {a:.6g} + {b:.6g}", a * x + b, a, b)
        yield from _repaired(x, y, candidate, "affine", "scaled and moved", f"x * {a:.6g} + {b:.6g}", a * x + b, a, b)


def _factors(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[float, str]]:
    """Yields the factor that most rows agree on, under its usual name."""
    nonzero = (x != 0) & (y != 0)
    if not nonzero.any():
        return
    ratios = y[nonzero] / x[nonzero]
    factor = float(np.median(ratios))
    for unit, have, want in _UNITS:
        if abs(factor / unit - 1) < 1e-3:
            yield unit, f"{have} instead of {want} (times {unit:.5g})"
        if abs(factor * unit - 1) < 1e-3:
            yield 1 / unit, f"{want} instead of {have} (over {unit:.5g})"
    # One row has a factor always.
    if len(ratios) > 1 and np.mean(np.abs(ratios / factor - 1) < 1e-4) > _MOST:
        yield factor, f"another unit (times {factor:.5g})"


def _robust_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the median of the slopes between rows, after Theil and Sen, and of the offsets."""
    from scipy import stats

    fit = stats.theilslopes(y, x)
    return float(fit[0]), float(fit[1])


def _coarser(x: np.ndarray, y: np.ndarray, candidate: Callable[..., _Map]) -> Iterator[_Map]:
    """Yields roundings."""
    for digits in range(-3, 5):
        yield candidate("rounding", f"rounded to {digits} decimals", f"np.round(x, {digits})", np.round(x, digits))
    yield candidate("rounding", "cut off to whole numbers", "np.trunc(x)", np.trunc(x))
    yield candidate("rounding", "rounded down to whole numbers", "np.floor(x)", np.floor(x))


def _repaired(
    x: np.ndarray,
    y: np.ndarray,
    candidate: Callable[..., _Map],
    kind: str,
    what: str,
    code: str,
    predicted: np.ndarray,
    a: float = 1.0,
    b: float = 0.0,
) -> Iterator[_Map]:
    """Yields a map whose remaining rows are clipped, or are missing values that are filled in otherwise."""
    off = ~_same(predicted, y)
    if not off.any() or off.mean() > _MOST or len(y) < _FRAMES:
        return
    joint, also = "+".join(filter(None, [kind, "{}"])), " and ".join(filter(None, [what, "{}"]))
    values = np.unique(y[off])
    # Values that are all the same on both sides are rather missing than cut off.
    one_for_one = len(values) == 1 and len(np.unique(x[off])) == 1
    if len(values) <= 2 and not one_for_one and np.all(np.isfinite(y)) and np.all(np.isfinite(predicted)):
        low, high = float(y.min()), float(y.max())
        if off.sum() > 1 and _same(np.clip(predicted, low, high), y).all():
            limits = [low if (predicted < low).any() else -np.inf, high if (predicted > high).any() else np.inf]
            said = " and ".join(f"{'at' if n else 'below at'} {v:.5g}" for n, v in enumerate(limits) if np.isfinite(v))
            clip = f"np.clip({code}, {limits[0]:.6g}, {limits[1]:.6g})".replace("-inf", "None").replace("inf", "None")
            yield candidate(
                joint.format("clipping"), also.format(f"clipped {said}"), clip, np.clip(predicted, low, high), a, b
            )
    if len(values) == 1 and (off.sum() > 1 or float(values[0]) in _MISSING or np.isnan(values[0])):
        had = np.unique(x[off])
        filled = np.where(off, values[0], predicted)
        if len(had) == 1:
            test = "np.isnan(x)" if np.isnan(had[0]) else f"x == {had[0]:.6g}"
            new = "np.nan" if np.isnan(values[0]) else f"{values[0]:.6g}"
            said = f"missing values are {new} instead of {had[0]:.5g}"
            yield candidate(
                joint.format("imputation"), also.format(said), f"np.where({test}, {new}, {code})", filled, a, b
            )
        elif np.isnan(values[0]) or float(values[0]) in _MISSING:
            said = f"{off.mean():.0%} of the values missing ({values[0]:g})"
            yield candidate(joint.format("imputation"), also.format(said), code, filled, a, b)
    elif len(np.unique(x[off])) == 1 and off.sum() > 1 and len(values) > 1:
        said = f"values that are missing in training ({x[off][0]:.5g}) are not in the app"
        yield candidate(joint.format("imputation"), also.format(said), code, np.where(off, y, predicted), a, b)


def _order_change(order: list[int], reference: np.ndarray) -> Iterator[Change]:
    moved = [j for j, i in enumerate(order) if i != j]
    if not moved:
        return
    binary = all(set(np.unique(reference[:, j])) <= {0.0, 1.0} for j in moved)
    code = f"x[..., {order}]"
    if binary:
        yield Change("one_hot_order", f"one-hot columns in another order: {_moves(order)}", code)
    else:
        yield Change("feature_order", f"features in another order: {_moves(order)}", code)


def _moves(order: list[int]) -> str:
    moved = [(j, i) for j, i in enumerate(order) if i != j]
    if len(moved) == 2:
        return f"{moved[0][0]} and {moved[1][0]} swapped"
    shown = ", ".join(f"{i} at {j}" for j, i in moved[:8])
    return shown + (f" and {len(moved) - 8} more" if len(moved) > 8 else "")


def _changes(maps: list[_Map], x: np.ndarray, y: np.ndarray) -> Iterator[Change]:
    """Yields the changes of all columns, together where one cause explains them."""
    changed = [j for j, m in enumerate(maps) if m.kind]
    lines = [j for j in changed if maps[j].kind.split("+")[0] in ("affine", "unit")]
    whole = _standardised(lines, maps, x, y)
    if whole:
        yield whole
    by_kind: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for j in changed:
        for kind, what in zip(maps[j].kind.split("+"), _parts(maps[j]), strict=True):
            if not (whole and kind in ("affine", "unit")):
                by_kind[kind, what].append(j)
    kinds = collections.defaultdict(list)
    for (kind, what), columns in by_kind.items():
        kinds["unit" if kind == "affine" else kind].append((what, columns))
    for kind, entries in kinds.items():
        words = "; ".join(f"{_columns(columns, len(maps))}: {what}" for what, columns in entries[:6])
        words += f"; and {len(entries) - 6} more" if len(entries) > 6 else ""
        columns = sorted(j for _, some in entries for j in some)
        yield Change(kind, words, _column_code(columns, maps))


def _parts(one: _Map) -> list[str]:
    kinds = one.kind.split("+")
    return [one.what] if len(kinds) == 1 else one.what.split(" and ", 1)


def _columns(columns: list[int], features: int) -> str:
    if features == 1:
        return "the feature"
    if len(columns) == features:
        return "all features"
    shown = ", ".join(map(str, columns[:8])) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
    return f"feature{'s' if len(columns) > 1 else ''} {shown}"


def _column_code(columns: list[int], maps: list[_Map]) -> str:
    """Returns code that changes some columns of a row."""
    if len(maps) == 1:
        return maps[0].code
    codes = {maps[j].code for j in columns}
    if len(codes) == 1:
        chosen = f"np.isin(np.arange(x.shape[-1]), {columns})"
        return next(iter(codes)) if len(columns) == len(maps) else f"np.where({chosen}, {codes.pop()}, x)"
    if all(maps[j].kind in ("unit", "affine") for j in columns):
        scale, offset = ([float(f"{getattr(m, name):.6g}") for m in maps] for name in ("scale", "offset"))
        return f"x * np.array({scale}) + np.array({offset})"
    return (
        f"np.select([np.arange(x.shape[-1]) == j for j in {columns}], [{', '.join(maps[j].code for j in columns)}], x)"
    )


def _standardised(lines: list[int], maps: list[_Map], x: np.ndarray, y: np.ndarray) -> Change | None:
    """Names a scaling that most features have on one side only."""
    varied = [j for j in range(len(maps)) if np.nanstd(y[:, j]) > 0]
    if len(lines) < max(1, _MOST * len(varied)) or len(x) < _FRAMES:
        return None
    # A line through the origin of two features is two units rather than a standardisation.
    if len({(round(maps[j].scale, 9), round(maps[j].offset, 9)) for j in lines}) == 1 and len(lines) > 1:
        return None
    scale, offset = ([float(f"{getattr(m, name):.6g}") for m in maps] for name in ("scale", "offset"))
    code = f"x * np.array({scale}) + np.array({offset})" if len(maps) > 1 else f"x * {scale[0]:g} + {offset[0]:g}"
    for side, other, way in ((x, y, "no"), (y, x, "an extra")):
        ours, theirs = side[:, lines], other[:, lines]
        if _in_unit(ours) and not _in_unit(theirs):
            return Change(
                "min_max", f"{way} scaling of the features to [0, 1]{_figures(maps, lines, way, 'min')}", code
            )
        if _is_standard(ours) and not _is_standard(theirs):
            what = f"{way} standardisation of the features{_figures(maps, lines, way, 'mean')}"
            return Change("standardisation", what, code)
    return None


def _in_unit(values: np.ndarray) -> bool:
    return bool(np.nanmin(values) >= -0.1 and np.nanmax(values) <= 1.1 and np.nanmax(values) > 0.3)


def _is_standard(values: np.ndarray) -> bool:
    """True when most columns may be a few rows of a column of mean 0 and deviation 1."""
    mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    fits = (np.abs(mean) < 1.5) & (std > 0.2) & (std < 3) & (np.nanmin(values, axis=0) < 0)
    return bool(np.mean(fits) >= 0.75)


def _figures(maps: list[_Map], lines: list[int], way: str, name: str) -> str:
    shown = [f"{j}: {_origin(maps[j], way)}" for j in lines[:3]]
    spread = "std" if name == "mean" else "range"
    return f" ({name} and {spread} of feature {', '.join(shown)}{', ...' if len(lines) > 3 else ''})"


def _origin(one: _Map, way: str) -> str:
    """Returns location and spread: of y = std x + mean where the app leaves it out, of (x - mean) / std else."""
    location, spread = (one.offset, one.scale) if way == "no" else (-one.offset / one.scale, 1 / one.scale)
    return f"{location:.4g} and {spread:.4g}"
