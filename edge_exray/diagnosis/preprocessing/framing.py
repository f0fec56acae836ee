"""Which part of a picture fills the model's input: stretched, cropped, or between bars."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from edge_exray.diagnosis.preprocessing.resampling import Resampler, resample, weights

# What is cut at the border before the picture shrinks: 224 of 256 in the recipes of ImageNet, 0.875 in TensorFlow's.
_MARGIN = 0.875
# Rows and columns that are looked at.
_SIDE = 48


@dataclasses.dataclass(frozen=True)
class Axis:
    """How one axis of a picture is placed on the input.

    Attributes:
        low, high: The coordinates of the picture that are shown (borders of pixels).
        first, end: The pixels that may be read: a picture that is cropped first has no neighbours beyond.
        start, length: The pixels of the input that they fill; the rest are bars.
    """

    low: float
    high: float
    first: int
    end: int
    start: int
    length: int


@dataclasses.dataclass(frozen=True)
class Framing:
    """A rule that places a picture on the input.

    Attributes:
        description: For example `"stretched"`.
        code: Expression of `picture` that it is cropped by before it is resized.
        place: Height and width of the picture, height and width of the input, to rows and columns.
        fill: The pixel value of bars.
    """

    description: str
    code: str
    place: Callable[[int, int, int, int], tuple[Axis, Axis]]
    fill: float = 0.0

    def render(self, picture: np.ndarray, out: tuple[int, int], resampler: Resampler, points: "Points") -> np.ndarray:
        """Returns the input's pixels at some points, [rows, columns, C] float32."""
        h, w = picture.shape[:2]
        rows, columns = self.place(h, w, *out)
        y, in_rows = _axis_weights(rows, picture.shape[0], resampler, points.rows)
        x, in_columns = _axis_weights(columns, picture.shape[1], resampler, points.columns)
        pixels = resample(picture, y, x)
        pixels[~in_rows] = self.fill
        pixels[:, ~in_columns] = self.fill
        return pixels

    def shifted(self, down: int, right: int) -> "Framing":
        """Returns the same, off by whole pixels of the picture."""

        def place(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
            rows, columns = self.place(h, w, height, width)
            return _moved(rows, down, h), _moved(columns, right, w)

        words = " and ".join(
            f"{abs(n)} pixel{'s' if abs(n) > 1 else ''} {way}"
            for n, way in (
                (down, "down" if down > 0 else "up"),
                (right, "to the right" if right > 0 else "to the left"),
            )
            if n
        )
        code = f"np.roll({self.code}, {(-down, -right)}, (0, 1))"
        return dataclasses.replace(self, description=f"{self.description}, {words}", code=code, place=place)

    def shortened(self, top: int, left: int, bottom: int, right: int) -> "Framing":
        """Returns the same without some pixels at its borders."""

        def place(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
            rows, columns = self.place(h, w, height, width)
            return _cut(rows, top, bottom), _cut(columns, left, right)

        cuts = ((top, "first row"), (left, "first column"), (bottom, "last row"), (right, "last column"))
        words = f"{self.description}, without the {' and '.join(name for cut, name in cuts if cut)}"
        code = f"{self.code}[{top or ''}:{-bottom or ''}, {left or ''}:{-right or ''}]"
        return dataclasses.replace(self, description=words, code=code, place=place)

    def neighbours(self) -> list["Framing"]:
        """Returns the crops that are off by a pixel or two."""
        reach = range(-2, 3)
        moved = [self.shifted(y, x) for y in reach for x in reach if 0 < abs(y) + abs(x) <= 2]
        cuts = [cut for cut in itertools.product((0, 1), repeat=4) if any(cut)]
        return [*moved, *(self.shortened(*cut) for cut in cuts)]


@dataclasses.dataclass(frozen=True)
class Points:
    """The rows and columns of an input that are looked at."""

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def spread(cls, height: int, width: int) -> "Points":
        """Returns up to `_SIDE` evenly spread rows and columns; their jitter keeps them off any grid of blocks."""
        return cls(_spread(height), _spread(width))

    def of(self, images: np.ndarray) -> np.ndarray:
        """Takes them out of [n, height, width, C]."""
        return images[:, self.rows[:, None], self.columns[None, :]]


def _spread(size: int) -> np.ndarray:
    if size <= _SIDE:
        return np.arange(size)
    even = np.linspace(0, size - 1, _SIDE)
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, _SIDE) * (size / _SIDE)
    return np.unique(np.clip(np.round(even + jitter), 0, size - 1).astype(int))


def framings(fills: tuple[float, ...] = (0.0, 127.5, 255.0, 114.0)) -> list[Framing]:
    """Returns the usual ways, the plain ones first."""
    found = [
        Framing("stretched", "picture", lambda h, w, height, width: (_whole(h, height), _whole(w, width))),
        Framing("the central crop of the input's aspect ratio", "crop", _aspect_crop),
        Framing("the centre after resizing the short side to 8/7 of the input", "centre", _short_side),
        Framing(
            "the central 87.5 %",
            f"tf.image.central_crop(picture, {_MARGIN})",
            lambda h, w, height, width: (_central(h, height), _central(w, width)),
        ),
        Framing(
            "the centre without resizing",
            "tf.image.resize_with_crop_or_pad(picture, *size)",
            lambda h, w, height, width: (_patch(h, height, (h - height) // 2), _patch(w, width, (w - width) // 2)),
        ),
        Framing(
            "the top left corner without resizing",
            "picture[:size[0], :size[1]]",
            lambda h, w, height, width: (_patch(h, height, 0), _patch(w, width, 0)),
        ),
        Framing("the top left crop of the input's aspect ratio", "corner", _corner_crop),
    ]
    for fill in fills:
        found.append(Framing(f"letterboxed (bars of {fill:g})", "letterbox", _letterbox, fill))
        found.append(Framing(f"at the top left with bars of {fill:g}", "padded", _padded, fill))
    return found


def same_place(one: Framing, other: Framing, sizes: set[tuple[int, int]], out: tuple[int, int]) -> bool:
    """Returns whether two rules do the same to pictures of these sizes."""
    return all(one.place(*size, *out) == other.place(*size, *out) for size in sizes) and (
        one.fill == other.fill or not _has_bars(one, sizes, out)
    )


def _has_bars(framing: Framing, sizes: set[tuple[int, int]], out: tuple[int, int]) -> bool:
    return any(axis.length < n for size in sizes for axis, n in zip(framing.place(*size, *out), out, strict=True))


def _axis_weights(axis: Axis, size: int, resampler: Resampler, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights [points, size], and which points are no bars."""
    matrix = weights(resampler, size, axis.length, (axis.low, axis.high), (axis.first, axis.end))
    inside = (points >= axis.start) & (points < axis.start + axis.length)
    return matrix[np.clip(points - axis.start, 0, axis.length - 1)], inside


def _whole(n: int, out: int) -> Axis:
    return Axis(0.0, n, 0, n, 0, out)


def _central(n: int, out: int) -> Axis:
    start = int((n - n * _MARGIN) / 2)
    return Axis(start, n - start, start, n - start, 0, out)


def _patch(n: int, out: int, start: int) -> Axis:
    if n < out:  # padded
        return Axis(0.0, n, 0, n, (out - n) // 2, n)
    return Axis(start, start + out, start, start + out, 0, out)


def _crop_sides(h: int, w: int, height: int, width: int) -> tuple[int, int]:
    scale = min(h / height, w / width)
    return min(h, round(height * scale)), min(w, round(width * scale))


def _aspect_crop(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
    rows, columns = _crop_sides(h, w, height, width)
    top, left = (h - rows) // 2, (w - columns) // 2
    return Axis(top, top + rows, top, top + rows, 0, height), Axis(left, left + columns, left, left + columns, 0, width)


def _corner_crop(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
    rows, columns = _crop_sides(h, w, height, width)
    return Axis(0.0, rows, 0, rows, 0, height), Axis(0.0, columns, 0, columns, 0, width)


def _short_side(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
    scale = min(h / round(height / _MARGIN), w / round(width / _MARGIN))
    placed = []
    for n, out in ((h, height), (w, width)):
        resized = round(n / scale)
        step = n / resized
        start = (resized - out) // 2
        placed.append(Axis(start * step, (start + out) * step, 0, n, 0, out))
    return placed[0], placed[1]


def _letterbox(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
    scale = max(h / height, w / width)
    rows, columns = min(height, round(h / scale)), min(width, round(w / scale))
    return (
        Axis(0.0, h, 0, h, (height - rows) // 2, rows),
        Axis(0.0, w, 0, w, (width - columns) // 2, columns),
    )


def _padded(h: int, w: int, height: int, width: int) -> tuple[Axis, Axis]:
    rows, columns = _letterbox(h, w, height, width)
    return dataclasses.replace(rows, start=0), dataclasses.replace(columns, start=0)


def _moved(axis: Axis, by: int, size: int) -> Axis:
    first, end = max(0, axis.first + by), min(size, axis.end + by)
    return dataclasses.replace(axis, low=axis.low + by, high=axis.high + by, first=first, end=end)


def _cut(axis: Axis, before: int, after: int) -> Axis:
    low, high = axis.low + before, axis.high - after
    return dataclasses.replace(axis, low=low, high=high, first=axis.first + before, end=axis.end - after)
