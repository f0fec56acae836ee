"""Figures of the layers as plots, drawn without a script.

A panel is stretched to the width of the page, so that its unit along x is a layer and along y a hundredth of its
height; strokes and dots keep their width (`vector-effect`), and texts stand beside it in HTML. Each plot has a linear
and a logarithmic panel, of which the style sheet shows one.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

HEIGHT = 100
"""Units of a panel from bottom to top."""

# Rounding noise shall not look like an error.
_SMALLEST_TOP = 0.01
_DECADES = 6


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
        name: Identifier of its colour and its entry in the legend.
        line: Path through the points; a layer without a figure is a gap.
        dots: Path of a point of no length at each figure, which a round line cap makes a dot.
    """

    name: str
    line: str
    dots: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """One form of a plot.

    Attributes:
        scale: `"linear"` or `"log"`.
        series: Its lines.
        ticks: Values that are labelled, and how far above the bottom, in units of `HEIGHT`.
    """

    scale: str
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, float], ...]


def panels(figures: Mapping[str, Sequence[float | None]]) -> tuple[Panel, Panel]:
    """Returns the linear and the logarithmic form of a plot.

    Args:
        figures: Name of a series to the figure of each layer, not negative; None where it has none.
    """
    known = [value for values in figures.values() for value in values if value is not None]
    top = max(_SMALLEST_TOP, *known, 0.0)
    step = _step(top)
    linear_ticks = [step * i for i in range(math.floor(top / step * (1 + 1e-9)) + 1)]
    high = math.ceil(math.log10(top))
    smallest = min((value for value in known if value > 0), default=top)
    # Below the smallest figure, so that only what is cut off and 0 lie on the floor.
    low = max(high - _DECADES, min(math.ceil(math.log10(smallest)), high) - 1)
    log_ticks = [10.0**exponent for exponent in range(low, high + 1)]

    def linear(value: float) -> float:
        return HEIGHT * value / (1.03 * top)

    def logarithmic(value: float) -> float:
        return 0.0 if value <= 10.0**low else HEIGHT * (math.log10(value) - low) / (high - low)

    def panel(scale: str, height: Callable[[float], float], ticks: Sequence[float]) -> Panel:
        series = (_series(name, [None if v is None else height(v) for v in values]) for name, values in figures.items())
        return Panel(scale, tuple(series), tuple((tick, height(tick)) for tick in ticks))

    return panel("linear", linear, linear_ticks), panel("log", logarithmic, log_ticks)


def _series(name: str, heights: Sequence[float | None]) -> Series:
    line, dots, pen = [], [], "M"
    for position, height in enumerate(heights):
        if height is None:
            pen = "M"
            continue
        point = f"{position + 0.5:g} {HEIGHT - height:.4g}"
        line.append(f"{pen}{point}")
        dots.append(f"M{point}h0")
        pen = "L"
    return Series(name, "".join(line), "".join(dots))


def _step(top: float) -> float:
    """Returns the largest of 1, 2 and 5 times a power of ten that gives at least three steps up to `top`."""
    power = 10.0 ** math.floor(math.log10(top))
    return max(m * power for m in (0.1, 0.2, 0.5, 1.0) if 3 * m * power <= top)
