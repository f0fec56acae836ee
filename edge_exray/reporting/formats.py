"""How figures are written in reports: the same number looks the same everywhere."""

import json
import re
from collections.abc import Mapping
from typing import Any

_MISSING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_NAMES = {"nrmse": "nRMSE", "rmse": "RMSE", "sqnr": "SQNR", "r2": "R²", "db": "dB", "nan": "NaN", "id": "ID"}
_IDENTIFIER = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")
_ON_DEVICE = re.compile(rf"{_IDENTIFIER.pattern}@[^/:]+")
_SHARES = {"share", "rate", "coverage", "accuracy", "drop", "residual"}


def number(value: float | int | bool | None) -> str:
    """Returns a figure with three significant digits; None becomes a dash."""
    if value is None:
        return _MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _minus(f"{value:,}")
    if 999.5 <= abs(value) < 1e6:
        return _minus(f"{value:,.0f}")
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return _minus(f"{value:.3g}")
    mantissa, exponent = f"{value:.1e}".split("e")
    return _minus(f"{mantissa}e{int(exponent)}")


def model_name(path: str) -> str:
    """Returns what to call a model: the name of its file, or in a pipeline run what lies between root and file."""
    parts = path.rstrip("/").split("/")
    # TFX's components write <pipeline root>/<component>/<output>/<execution>/Format-Serving/tflite.
    return " / ".join(parts[-6:-2]) if parts[-2:] == ["Format-Serving", "tflite"] else parts[-1]


def measured_on(model: Mapping[str, Any]) -> str:
    """Returns what to call a model of a kernel profile: its role, and the machine when it was measured elsewhere."""
    role, device = words(model["role"]), model.get("device")
    return role if not device or "@" in model["role"] else f"{role} on {device['name']}"


def class_name(index: int, classes: list[str] | None) -> str:
    """Returns the name of a class with its index, the index alone where the classes have no names."""
    return f"{classes[index]} ({index})" if classes and 0 <= index < len(classes) else str(index)


def correlation(value: float | None) -> str:
    """Returns a cosine or coefficient of determination; only 1 itself reads "1"."""
    return ">0.999" if value is not None and 0.9995 <= value < 1 else number(value)


def percent(value: float | None) -> str:
    """Returns a share of 1 in percent. Only 0 reads "0 %" and only 1 reads "100 %", so that rounding hides nothing."""
    if value is None:
        return _MISSING
    if value < 0:
        return _MINUS + percent(-value)
    if 0 < value < 0.0005:
        return "<0.1 %"
    if 0.9995 <= value < 1:
        return ">99.9 %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def size(count: int | None) -> str:
    """Returns a number of bytes with three significant digits and its decimal unit."""
    if count is None:
        return _MISSING
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return _minus(f"{value:.3g} {unit}")
        value /= 1000
    return _minus(f"{value:.3g} TB")


def span(bounds: list[float | None] | None) -> str:
    """Returns a range `[low, high]` as "low to high"; a range without any known bound becomes a dash."""
    if not bounds or all(b is None for b in bounds):
        return _MISSING
    return f"{number(bounds[0])} to {number(bounds[-1])}"


def figure(value: Any, key: str = "") -> str:
    """Returns a scalar of a check's evidence as text; `key` tells its unit (`..._rate`, `..._ms`, `..._bytes`)."""
    if isinstance(value, str):
        return value
    parts = key.split("_")
    if isinstance(value, float) and abs(value) <= 1 and _SHARES & set(parts):
        return percent(value)
    if isinstance(value, int) and not isinstance(value, bool) and parts[-1] == "bytes":
        return size(value)
    if parts[-1] in ("cosine", "r2"):
        return correlation(value)
    text = number(value)
    unit = {"ms": " ms", "db": " dB"}.get(parts[-1], "")
    return text if text == _MISSING else text + unit


def headline(summary: str) -> tuple[str, str]:
    """Returns the first two sentences of a summary, what is the matter, and the rest."""
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", summary)
    return " ".join(sentences[:2]), " ".join(sentences[2:])


def sentence(text: str) -> str:
    """Returns a part of a sentence as a sentence of its own."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def certainty(check: dict[str, Any]) -> str:
    """Returns how sure a check is of its figure, as sentences: the interval, and how many frames it takes.

    The bounds are shares where the check, or a figure of its evidence, is about one, as in a `..._rate`. Empty where
    the message tells it already.
    """
    evidence, sentences = check["evidence"], []
    bounds, needed = evidence.get("interval"), evidence.get("needed_frames")
    if needed is not None and re.search(rf"\b({needed}|{needed:,})\b", check["message"]):
        return ""
    if bounds is not None:
        parts = {part for key in (check["name"], *evidence) for part in key.split("_")}
        low, high = (percent(b) if parts & _SHARES else number(b) for b in bounds)
        level = evidence.get("confidence")
        sentences.append(
            f"{low} to {high}" + (f", each bound with a confidence of {percent(level)}." if level else ".")
        )
    if needed is not None:
        sentences.append(f"Frames needed to be sure: {number(needed)}.")
    return " ".join(sentences)


def words(identifier: str) -> str:
    """Returns an identifier such as `label_flip_rate` or `latency_p50@phone` as words; anything else as it is."""
    identifier, _, device = identifier.partition("@") if _ON_DEVICE.fullmatch(identifier) else (identifier, "", "")
    if not _IDENTIFIER.fullmatch(identifier):
        return identifier
    first, *rest = (_NAMES.get(part, part) for part in identifier.split("_"))
    text = " ".join([first if first in _NAMES.values() else first.capitalize(), *rest])
    return f"{text} on {device}" if device else text


def ratio(value: float, full: float) -> str:
    """Returns the length of a bar as a share of the longest one, `full`, for a style sheet."""
    return f"{value / full:.3f}" if full else "0"


def pretty_json(value: Any) -> str:
    """Returns JSON for people, one item a line."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def _minus(text: str) -> str:
    return _MINUS + text[1:] if text.startswith("-") else text
