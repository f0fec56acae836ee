"""The summary for a pull request, in GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from edge_exray.diagnosis.report import Report
from edge_exray.reporting import formats, gist

_SIDES = ("baseline", "now")
_MARKS = {"passed": "✅", "failed": "❌", "inconclusive": "❔"}
# A comment on GitHub holds 65,536 characters.
_ROWS = 20
_LETTERS = 600


def render_markdown(report: Report) -> str:
    """Returns verdict, cause, figures, checks and suspects as Markdown, short enough for a comment."""
    document = report.to_dict()
    edge = formats.model_name(document["models"]["edge"]["path"])
    parts = [
        f"## {_MARKS[document['verdict']]} {document['verdict'].capitalize()}: {_code(edge)}",
        _prose(document["summary"]),
        *_causes(document),
        _table(("", "Cloud", "Edge"), _figures(document)),
        *_checks(document),
    ]
    if document["suspects"]:
        suspects = [
            (f"{suspect['layer']}, {suspect['op']}", _code(suspect["name"]), suspect["leg"], _prose(suspect["reason"]))
            for suspect in document["suspects"][:_ROWS]
        ]
        parts += ["### Suspects", _table(("Layer", "Edge tensor", "Leg", "Why"), suspects)]
    regressed = [
        (_prose(formats.words(f["name"])), *(_prose(formats.figure(f[side], f["name"])) for side in _SIDES))
        for f in (document["baseline"] or {"figures": []})["figures"]
        if f["regressed"]
    ]
    if regressed:
        parts += ["### Worse than the last blessed model", _table(("Figure", "Blessed", "Now"), regressed[:_ROWS])]
    return "\n\n".join(filter(None, parts)) + "\n"


def _causes(document: dict[str, Any]) -> Iterable[str]:
    attribution = document["attribution"]
    if attribution:
        yield f"**Where the error comes from.** {_prose(attribution['sentence'])}"
    for name, found in gist.differing_inputs(document).items():
        if not found["hypothesis"]:
            yield f"**Input {_code(name)}** differs, and no hypothesis explains how."
        else:
            code = f" Reference to app: {_code(found['code'])}" if found["code"] else ""
            yield f"**Input {_code(name)}.** {_prose(formats.sentence(found['hypothesis']))}{code}"


def _checks(document: dict[str, Any]) -> Iterable[str]:
    rows: dict[bool, list[Sequence[str]]] = {False: [], True: []}
    for check in document["checks"]:
        finding = " ".join(filter(None, (check["message"], formats.certainty(check))))
        row = _MARKS[check["verdict"]], _prose(formats.words(check["name"])), _prose(finding)
        rows[check["verdict"] == "passed"].append(row)
    head = "", "Check", "Finding"
    if rows[False]:
        yield "### Checks"
        yield _table(head, rows[False])
    if rows[True]:
        # GitHub reads Markdown in HTML only after an empty line.
        count = formats.number(len(rows[True]))
        yield f"<details><summary>Checks that passed: {count}</summary>\n\n{_table(head, rows[True])}\n\n</details>"


def _figures(document: dict[str, Any]) -> Iterable[Sequence[str]]:
    models, accuracy, frames = document["models"], document["accuracy"], document["frames"]
    if accuracy["cloud"] is not None and accuracy["edge"] is not None:
        yield "Accuracy", formats.percent(accuracy["cloud"]), formats.percent(accuracy["edge"])
    if accuracy["label_flip_rate"] is not None:
        yield "Labels flipped", "", formats.percent(accuracy["label_flip_rate"])
    yield "Size", formats.size(models["cloud"]["bytes"]), formats.size(models["edge"]["bytes"])
    for model in (document["kernels"] or {"models": []})["models"]:
        if model["role"] == "edge":
            yield "Latency, median", "", f"{formats.number(model['latency_ms']['p50'])} ms"
    labelled, failed = formats.number(frames["labelled"]), frames.get("failed")
    omitted = f", {formats.number(failed)} more failed" if failed else ""
    yield "Frames", "", f"{formats.number(frames['count'])}, {labelled} labelled{omitted}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _prose(text: str) -> str:
    r"""Returns a text that Markdown shows as it is, on one line.

    Underscores within a word mean nothing. A zero-width space after `@` keeps the name of a tensor from calling
    somebody.
    """
    escaped = re.sub(r"([\\`*\[<~]|(?<!\w)_|_(?!\w))", r"\\\1", _short(" ".join(text.split())))
    return escaped.replace("@", "@\N{ZERO WIDTH SPACE}")


def _code(text: str) -> str:
    """Returns a text as a code span, fenced by more backticks than it has in a row."""
    line = _short(" ".join(text.split()))
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 2] + " …"
