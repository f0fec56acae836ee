"""Faults of the preprocessing of tables and texts, injected into data that scikit-learn and tfx ship."""

import csv
import functools
import importlib.util
import itertools
import pathlib
import re
from collections.abc import Callable, Collection, Iterator

import numpy as np

from benchmarks._fault_case import FaultCase
from edge_exray.diagnosis.preprocessing import tables, tokens
from edge_exray.diagnosis.preprocessing.hypothesis import Hypothesis, Pair

# What a replay keeps of the inputs.
_FRAMES = 16

TableFault = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Rows `[frames, features]`, as many columns: what the app makes of them."""

_COLUMNS = ("trip_miles", "fare", "trip_seconds", "tips", "pickup_latitude", "pickup_longitude", "trip_start_hour")


def _named(found: list[Hypothesis]) -> Collection[str]:
    return [change.kind for change in found[0].changes] if found else []


@functools.cache
def _data(name: str) -> np.ndarray:
    """Returns a table `[rows, features]` in the units in which it was collected."""
    from sklearn import datasets

    if name == "taxi":
        spec = importlib.util.find_spec("tfx")
        assert spec is not None
        assert spec.origin is not None
        path = pathlib.Path(spec.origin).parent / "examples/chicago_taxi_pipeline/data/simple/data.csv"
        with path.open() as file:
            return np.array([[float(row[column] or "nan") for column in _COLUMNS] for row in csv.DictReader(file)])
    loaded = {"wine": datasets.load_wine, "breast cancer": datasets.load_breast_cancer}.get(name)
    return loaded().data if loaded else datasets.load_diabetes(scaled=False).data


def _z(name: str, rows: np.ndarray) -> np.ndarray:
    return (rows - np.nanmean(_data(name), 0)) / np.nanstd(_data(name), 0)


def _unit_range(name: str, rows: np.ndarray) -> np.ndarray:
    low, high = np.nanmin(_data(name), 0), np.nanmax(_data(name), 0)
    return (rows - low) / (high - low)


def _on_some(function: Callable[[np.ndarray], np.ndarray], count: int) -> TableFault:
    def run(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = rows.copy()
        # A column that does not vary in the sample tells nothing.
        varied = [j for j in range(rows.shape[1]) if len(np.unique(rows[:, j])) > 4]
        for column in rng.choice(varied, count, replace=False):
            rows[:, column] = function(rows[:, column])
        return rows

    return run


def _logged(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Takes the logarithm of a column that a developer would take it of: of quantities."""
    quantities = [j for j in range(rows.shape[1]) if rows[:, j].min() >= 0 and len(np.unique(rows[:, j])) > 4]
    column = rng.choice(quantities)
    return np.column_stack([np.log(1 + c) if j == column else c for j, c in enumerate(rows.T)])


def _permuted(count: int) -> TableFault:
    def run(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        varied = [j for j in range(rows.shape[1]) if len(np.unique(rows[:, j])) > 4]
        chosen = rng.choice(varied, min(count, len(varied)), replace=False)
        order = np.arange(rows.shape[1])
        order[chosen] = np.roll(chosen, 1)
        return rows[:, order]

    return run


def _clipped(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    limits = np.quantile(rows, 0.75, axis=0)
    return np.stack([np.minimum(rows[:, j], limits[j]) for j in range(rows.shape[1])], axis=1)


def _filled(value: float) -> TableFault:
    def run(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(np.isnan(rows), value, rows)

    return run


_TABLE_FAULTS: dict[str, dict[str, TableFault]] = {
    "feature_order": {
        "2 swapped": _permuted(2),
        "3 in a circle": _permuted(3),
        "all": lambda rows, rng: _permuted(rows.shape[1])(rows, rng),
        "reversed": lambda rows, rng: rows[:, ::-1],
    },
    "unit": {
        **{
            f"times {f:g}": _on_some(lambda c, f=f: c * f, 1)
            for f in (1000, 0.01, 60, 2.54, 1 / 2.2046226, 1.609344, 255)
        },
        "degrees to radians": _on_some(np.deg2rad, 1),
        "Fahrenheit": _on_some(lambda c: c * 9 / 5 + 32, 1),
        "two features, times 0.3048": _on_some(lambda c: c * 0.3048, 2),
    },
    "log": {"log(1 + x) too many": _logged},
    "rounding": {
        "whole numbers": lambda rows, rng: np.rint(rows),
        "cut off": lambda rows, rng: np.fix(rows),
        "one digit": lambda rows, rng: np.rint(rows * 10) / 10,
    },
    "clipping": {"upper quartile": _clipped},
}
_TABLES = ("wine", "breast cancer", "diabetes", "taxi")


def _rows(name: str, rng: np.random.Generator) -> np.ndarray:
    table = _data(name)
    complete = table[~np.isnan(table).any(axis=1)]
    return complete[rng.choice(len(complete), _FRAMES, replace=False)]


def _explained(reference: np.ndarray, edge: np.ndarray) -> Collection[str]:
    sides = reference.astype(np.float32), edge.astype(np.float32)
    return _named(tables.explain([Pair(one, other) for one, other in zip(*sides, strict=True)]))


def _table_cases(seed: int) -> Iterator[FaultCase]:
    numbers = itertools.count()

    def case(
        fault: str,
        strength: str,
        expected: tuple[str, ...],
        make: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]],
        group: str = "table",
    ) -> FaultCase:
        key = [seed, next(numbers)]
        return FaultCase(group, fault, strength, expected, lambda: _explained(*make(np.random.default_rng(key))))

    def injected(name: str, *faults: TableFault) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
        def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            rows = edge = _rows(name, rng)
            for fault in faults:
                edge = fault(edge, rng)
            return rows, edge

        return make

    def raw(
        name: str, scaled: Callable[[str, np.ndarray], np.ndarray], *, app_scales: bool = False
    ) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
        def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            rows = _rows(name, rng)
            return (rows, scaled(name, rows)) if app_scales else (scaled(name, rows), rows)

        return make

    for name in _TABLES:
        for fault, forms in _TABLE_FAULTS.items():
            for strength, inject in forms.items():
                # Pixel sums and hours are whole numbers already.
                if fault == "rounding" and strength != "whole numbers" and name in ("diabetes", "taxi"):
                    continue
                yield case(fault, f"{name}, {strength}", (fault,), injected(name, inject))
        for kind, scaled in (("standardisation", _z), ("min_max", _unit_range)):
            yield case(kind, f"{name}, missing", (kind,), raw(name, scaled))
            yield case(kind, f"{name}, too many", (kind,), raw(name, scaled, app_scales=True))
        yield case("healthy", name, (), injected(name))
        noisy = injected(name, lambda rows, rng: rows * (1 + rng.normal(0, 1e-7, rows.shape)))
        yield case("healthy", f"{name}, float noise", (), noisy)
        yield case("healthy", f"{name}, float16", (), _half(name))
        other = injected(name, lambda rows, rng, n=name: _rows(n, rng))
        yield case("nameless", f"{name}, other rows", (), other)
        for (one, ones), (two, twos) in itertools.combinations(_TABLE_FAULTS.items(), 2):
            if {one, two} & {"rounding"} or one == two:
                continue
            first, second = (list(forms.items())[seed % len(forms)] for forms in (ones, twos))
            both = injected(name, first[1], second[1])
            yield case(f"{one} + {two}", f"{name}, {first[0]}; {second[0]}", (one, two), both, "table pairs")
        yield case(
            "feature_order + standardisation",
            name,
            ("feature_order", "standardisation"),
            lambda rng, n=name: (lambda rows: (_z(n, rows), _permuted(2)(rows, rng)))(_rows(n, rng)),
            "table pairs",
        )
    for strength, value, ours in (
        ("0 instead of -1", 0.0, -1.0),
        ("-1 instead of NaN", -1.0, np.nan),
        ("0 instead of mean", 0.0, 5.5),
    ):
        yield case("imputation", strength, ("imputation",), functools.partial(_imputed, value, ours))
    yield case("one_hot_order", "5 categories", ("one_hot_order",), _recategorised)


def _half(name: str) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    """Standardised features in half precision."""

    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = _z(name, _rows(name, rng))
        return rows, rows.astype(np.float16)

    return make


def _imputed(app: float, training: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the taxi rides without a value here or there, filled in by two conventions."""
    rows = _rows("taxi", rng)
    missing = rng.random(rows.shape) < 0.2
    missing[:2, 0] = True
    return np.where(missing, training, rows), np.where(missing, app, rows)


def _recategorised(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    categories = np.concatenate([np.arange(5), rng.integers(0, 5, _FRAMES - 5)])
    hot = np.eye(5)
    rows = _rows("wine", rng)
    return tuple(np.hstack([rows, hot[(categories + shift) % 5]]) for shift in (0, 1))  # type: ignore[return-value]


@functools.cache
def _texts() -> tuple[str, ...]:
    """Returns the paragraphs of scikit-learn's descriptions of data sets."""
    from sklearn import datasets

    folder = pathlib.Path(datasets.__file__).parent / "descr"
    paragraphs = [p for f in sorted(folder.glob("*.rst")) for p in re.split(r"\n\s*\n", f.read_text("utf-8"))]
    return tuple(" ".join(p.split()) for p in paragraphs if len(p.split()) > 8 and "=====" not in p)


# 0 is padding, 1 the unknown word, 2 and 3 begin and end.
_PAD, _UNK, _BEGIN, _END, _WORDS = 0, 1, 2, 3, 4
_LENGTH = 48


def _split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@functools.cache
def _vocabulary(lower: bool) -> dict[str, int]:
    words = sorted({w.lower() if lower else w for text in _texts() for w in _split(text)})
    return {word: _WORDS + i for i, word in enumerate(words)}


class _Tokenizer:
    """Encodes a text, with everything that an app may do otherwise."""

    def __init__(self, **options: object):
        self.options = {
            "lower": False,
            "cased": True,
            "shift": 0,
            "pad": _PAD,
            "left": False,
            "head": True,
            "begin": True,
            "end": True,
            "unknown": 0.0,
            "permute": 0.0,
            "reverse": False,
            "random": False,
            "seed": 0,
        } | options

    def __call__(self, text: str) -> np.ndarray:
        """Returns ids, `[_LENGTH]`."""
        o = self.options
        vocabulary = _vocabulary(not o["cased"])
        words = [w.lower() if o["lower"] else w for w in _split(text)]
        ids = [vocabulary.get(word, _UNK) for word in words]
        rng = np.random.default_rng(int(o["seed"]))  # type: ignore[call-overload]
        order = np.arange(_WORDS + len(vocabulary))
        moved = _WORDS + rng.permutation(len(vocabulary))[: int(o["permute"] * len(vocabulary))]  # type: ignore[operator]
        order[moved] = np.roll(moved, 1)
        rare = rng.random(len(order)) < o["unknown"]
        ids = [_UNK if rare[i] else int(order[i]) for i in ids]
        room = _LENGTH - bool(o["begin"]) - bool(o["end"])
        ids = ids[:room] if o["head"] else ids[max(0, len(ids) - room) :]
        ids = ids[::-1] if o["reverse"] else ids
        if o["random"]:
            ids = rng.integers(_WORDS, 5000, len(ids)).tolist()
        ids = [_BEGIN] * bool(o["begin"]) + ids + [_END] * bool(o["end"])
        ids = [i + int(o["shift"]) for i in ids]  # type: ignore[call-overload]
        fill = [int(o["pad"])] * (_LENGTH - len(ids))  # type: ignore[call-overload]
        return np.array(fill + ids if o["left"] else ids + fill, np.int32)


_TEXT_FAULTS: dict[str, dict[str, dict[str, object]]] = {
    "shifted_ids": {f"{shift:+d}": {"shift": shift} for shift in (1, 3, -1, 100)},
    "padding_side": {"left": {"left": True}},
    "padding_value": {f"{value}": {"pad": value} for value in (-1, 50000)},
    "missing_mark": {"begin": {"begin": False}, "end": {"end": False}},
    "lower_case": {"lower-cased": {"lower": True}},
    "unknown_tokens": {f"{rate:.0%} of the vocabulary": {"unknown": rate} for rate in (0.02, 0.1, 0.3)},
    "vocabulary": {f"{share:.0%} permuted": {"permute": share} for share in (1.0, 0.5)},
    "reversed_order": {"reversed": {"reverse": True}},
    "truncation": {"end": {"head": False}},
}


def _text_cases(seed: int) -> Iterator[FaultCase]:
    numbers = itertools.count(10000)

    def case(
        fault: str,
        strength: str,
        expected: tuple[str, ...],
        app: dict[str, object],
        training: dict[str, object] | None = None,
        group: str = "text",
        source: bool = False,
    ) -> FaultCase:
        key = [seed, next(numbers)]

        def run() -> Collection[str]:
            rng = np.random.default_rng(key)
            long = fault == "truncation"
            texts = [t for t in _texts() if not long or _LENGTH < len(_split(t)) < 1.6 * _LENGTH]
            sample = [texts[i] for i in rng.choice(len(texts), _FRAMES, replace=len(texts) < _FRAMES)]
            sides = _Tokenizer(**(training or {})), _Tokenizer(**app)
            pairs = [
                Pair(*(side(text) for side in sides), {"text": np.array([text.encode()], object)} if source else {})
                for text in sample
            ]
            return _named(tokens.explain(pairs))

        return FaultCase(group, fault, strength, expected, run)

    unmarked: dict[str, object] = {"begin": False, "end": False}
    for fault, forms in _TEXT_FAULTS.items():
        for strength, options in forms.items():
            if fault == "truncation":
                yield case(fault, strength, (fault,), {**options, **unmarked}, unmarked)
            else:
                yield case(fault, strength, (fault,), {**options, "seed": seed})
    yield case("extra_mark", "begin", ("extra_mark",), {}, {"begin": False})
    yield case("extra_mark", "end", ("extra_mark",), {}, {"end": False})
    cased = {**unmarked, "cased": True}
    yield case("lower_case", "known text", ("lower_case",), {**cased, "lower": True}, cased, source=True)
    lower = {**unmarked, "cased": False, "lower": True}
    yield case(
        "lower_case", "not lower-cased, so unknown", ("lower_case",), {**lower, "lower": False}, lower, source=True
    )
    for strength, options in (("marks", {}), ("no marks", unmarked), ("lower-cased", lower)):
        yield case("healthy", strength, (), dict(options), dict(options))
        yield case("healthy", f"{strength}, known text", (), dict(options), dict(options), source=True)
    yield case("nameless", "hashed words", (), {"random": True, "seed": seed})
    for (one, ones), (two, twos) in itertools.combinations(_TEXT_FAULTS.items(), 2):
        if "truncation" in (one, two) or {one, two} == {"padding_value", "shifted_ids"}:
            continue
        first, second = (list(forms.items())[seed % len(forms)] for forms in (ones, twos))
        # Two maps of words make one.
        if len({one, two} & {"lower_case", "vocabulary", "unknown_tokens", "shifted_ids"}) == 2:
            continue
        options = {**first[1], **second[1], "seed": seed}
        yield case(f"{one} + {two}", f"{first[0]}; {second[0]}", (one, two), options, group="text pairs")


def cases(seed: int) -> Iterator[FaultCase]:
    """Yields every fault in every form, pairs of faults, and healthy twins."""
    yield from _table_cases(seed)
    yield from _text_cases(seed)
