import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_exray.diagnosis.preprocessing import tokens
from edge_exray.diagnosis.preprocessing.hypothesis import Pair

LENGTH = 24
WORDS = ["the", "sea", "The", "is", "wide", "Sea", "and", "ship", "Ship", "goes", "far", "Far", "home", "by", "wind"]
IDS = {word: 10 + i for i, word in enumerate(WORDS)}
UNKNOWN = 1


def texts(count=12):
    rng = np.random.default_rng(3)
    return [[WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(8, 18))] for _ in range(count)]


def row(ids, *, pad=0, left=False, marks=(2, 3)):
    first, last = ([mark] if mark else [] for mark in marks)
    ids = (first + ids + last)[:LENGTH]
    fill = [pad] * (LENGTH - len(ids))
    return np.array(fill + ids if left else ids + fill, np.int32)


def encode(words):
    return [IDS[word] for word in words]


def pairs(app, *, source=False, **layout):
    """What `app` makes of the ids of some texts, beside the ids."""
    found = []
    for words in texts():
        text = {"text": np.array([" ".join(words).encode()], object)} if source else {}
        marks = (0, 0) if source else (2, 3)
        edge = row(app(encode(words)), **{"marks": marks, **layout})
        found.append(Pair(row(encode(words), marks=marks), edge, text))
    return found


def kinds(found):
    return [change.kind for change in found[0].changes]


def lower(ids):
    return [IDS[WORDS[i - 10].lower()] for i in ids]


CASES = {
    "padding_side": pairs(list, left=True),
    "padding_value": pairs(list, pad=-1),
    "missing_mark": pairs(list, marks=(0, 3)),
    "shifted_ids": pairs(lambda ids: [i + 4 for i in ids], marks=(6, 7)),
    "unknown_tokens": pairs(lambda ids: [UNKNOWN if i in (11, 14, 17, 19) else i for i in ids]),
    "vocabulary": pairs(lambda ids: [10 + (i - 10 + 7) % len(WORDS) for i in ids]),
    "reversed_order": pairs(lambda ids: ids[::-1]),
    "lower_case": pairs(lower),
}


@pytest.mark.parametrize("kind", CASES)
def test_names_what_differs(kind):
    best = tokens.explain(CASES[kind])[0]
    assert kinds([best]) == [kind]
    assert best.residual == 0


@pytest.mark.parametrize("kind", ["padding_side", "padding_value", "missing_mark", "unknown_tokens", "lower_case"])
def test_its_code_makes_the_ids_of_the_app(kind):
    code = tokens.explain(CASES[kind])[0].code
    for pair in CASES[kind]:
        np.testing.assert_array_equal(eval(code, {"np": np, "x": pair.reference}), pair.edge)


def test_extra_marks():
    swapped = [Pair(pair.edge, pair.reference) for pair in CASES["missing_mark"]]
    assert kinds(tokens.explain(swapped)) == ["extra_mark"]


def test_two_changes_together():
    both = pairs(lambda ids: [UNKNOWN if i in (11, 14, 17, 19) else i for i in ids], left=True)
    assert set(kinds(tokens.explain(both))) == {"padding_side", "unknown_tokens"}


def test_words_with_capitals_that_become_unknown():
    capitals = {IDS[word] for word in WORDS if word != word.lower()}
    app = pairs(lambda ids: [UNKNOWN if i in capitals else i for i in ids], source=True)
    best = tokens.explain(app)[0]
    assert kinds([best]) == ["lower_case"]
    share = np.mean([a != b for p in app for a, b in zip(p.reference, p.edge, strict=True) if a])
    assert f"{share:.1%}" in best.description


def test_the_other_end_of_long_texts():
    rng = np.random.default_rng(5)
    long = [rng.integers(10, 900, LENGTH + 8, dtype=np.int32) for _ in range(6)]
    assert kinds(tokens.explain([Pair(ids[:LENGTH], ids[-LENGTH:]) for ids in long])) == ["truncation"]
    far = [rng.integers(10, 900, 3 * LENGTH, dtype=np.int32) for _ in range(6)]
    known = [Pair(ids[:LENGTH], ids[-LENGTH:], {"ids": ids}) for ids in far]
    assert kinds(tokens.explain(known)) == ["truncation"]
    assert tokens.explain([Pair(pair.reference, pair.edge) for pair in known]) == []


@pytest.mark.parametrize("end", ["beginning", "end"])
def test_texts_that_the_app_cuts_off_earlier(end):
    rng = np.random.default_rng(5)
    found = []
    for size in (LENGTH, LENGTH - 2, 14, 9, 5, LENGTH):
        ids = rng.integers(10, 900, size)
        kept = ids[:10] if end == "beginning" else ids[-10:]
        found.append(Pair(*(np.pad(row, (0, LENGTH - len(row))) for row in (ids, kept))))
    best = tokens.explain(found)[0]
    assert kinds([best]) == ["truncation"]
    assert f"only the {end} of the texts, 10 of up to {LENGTH} ids" in best.description


def test_equal_ids_and_other_texts_are_not_explained():
    assert tokens.explain(pairs(list)) == []
    rng = np.random.default_rng(9)
    assert tokens.explain(pairs(lambda ids: rng.integers(10, 900, len(ids)).tolist())) == []
    assert tokens.explain([]) == []


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 40), min_size=3, max_size=LENGTH), min_size=2, max_size=6),
    st.integers(-3, 50).filter(bool),
)
def test_the_residual_is_the_share_of_wrong_positions(contents, shift):
    reference = [np.array(ids + [0] * (LENGTH - len(ids))) for ids in contents]
    edge = [np.where(ids > 0, ids + shift, 0) for ids in reference]
    found = tokens.explain([Pair(one, other) for one, other in zip(reference, edge, strict=True)])
    by_kind = {tuple(change.kind for change in h.changes): h for h in found}
    assert by_kind[("shifted_ids",)].residual == 0
    counts = collections.Counter(change.kind for change in found[0].changes)
    assert counts == {"shifted_ids": 1}
