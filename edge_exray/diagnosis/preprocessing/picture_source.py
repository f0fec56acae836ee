"""How raw pictures become the reference's inputs, and what an app may do with them instead."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edge_exray.diagnosis.preprocessing import colour, raw_picture
from edge_exray.diagnosis.preprocessing.channel_fit import ChannelFit, fit_values
from edge_exray.diagnosis.preprocessing.framing import Framing, Points, framings, same_place
from edge_exray.diagnosis.preprocessing.hypothesis import Change, Pair
from edge_exray.diagnosis.preprocessing.resampling import RESAMPLERS, Resampler
from edge_exray.diagnosis.preprocessing.value_ranges import Convention

# A raw picture is the source of the reference when resizing it leaves less.
_FROM_SOURCE = 3e-3
# Pixels of raw pictures that are held in memory.
_MOST_PIXELS = 8e6


@dataclasses.dataclass(frozen=True)
class Spatial:
    """How the raw picture becomes the input; `quality` is that of a JPEG recompression before all else."""

    framing: Framing
    resampler: Resampler
    quality: int | None = None


class PictureSource:
    """The raw pictures of some frames.

    Args:
        pictures: [height, width, C] each, with as many channels as the input.
        chosen: Indices of the frames that they belong to.
        out: Height and width of the input.
        points: The rows and columns of the input that are looked at.

    Attributes:
        chosen: See above.
        spatial: What the reference does with them, once `locate` has found it.
    """

    spatial: Spatial

    def __init__(
        self, pictures: Sequence[np.ndarray], chosen: np.ndarray, out: tuple[int, int], points: Points
    ) -> None:
        self.chosen = chosen
        self._pictures, self._out, self._points = pictures, out, points
        self._order = list(range(pictures[0].shape[-1]))
        sizes = {(picture.shape[0], picture.shape[1]) for picture in pictures}
        self._framings: list[Framing] = []
        for framing in framings():
            if not any(same_place(framing, other, sizes, out) for other in self._framings):
                self._framings.append(framing)
        self._near: list[Framing] = []

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], frames: Iterable[int], shape: Sequence[int], points: Points
    ) -> "PictureSource | None":
        """Finds the raw pictures of frames in their examples; None when one has none.

        Args:
            pairs: All frames.
            frames: Indices of those that are wanted; fewer are taken when their pictures are large.
            shape: Height, width and channels of the input.
            points: See above.
        """
        pictures: list[np.ndarray] = []
        chosen: list[int] = []
        total = 0
        for index in frames:
            picture = raw_picture.find(pairs[index].source, tuple(shape))
            if picture is None:
                return None
            total += picture.shape[0] * picture.shape[1]
            if chosen and total > _MOST_PIXELS:
                break
            pictures.append(_with_channels(picture, shape[-1]))
            chosen.append(index)
        return cls(pictures, np.array(chosen), (shape[0], shape[1]), points)

    @property
    def size(self) -> int:
        """Number of values of the first picture."""
        return self._pictures[0].size

    def locate(self, target: np.ndarray) -> ChannelFit | None:
        """Finds what the reference does with the pictures.

        Args:
            target: Reference values at the points, [frames, rows, columns, C].

        Returns:
            The map of the channels that is left between them; None when resizing does not make the reference of them.
        """

        def left(spatial: Spatial) -> float:
            return fit_values(self.render(spatial), target).residual

        smooth = RESAMPLERS[1]
        by_framing = sorted((Spatial(framing, smooth) for framing in self._framings), key=left)[:2]
        candidates = [Spatial(s.framing, r) for s in by_framing for r in RESAMPLERS]
        best = min(candidates, key=lambda s: round(left(s), 6))
        if left(best) > _FROM_SOURCE:
            around = [Spatial(f, best.resampler) for f in best.framing.neighbours()]
            best = min([best, *around], key=left)
        fit = fit_values(self.render(best), target)
        if fit.residual > _FROM_SOURCE:
            return None
        self.spatial, self._near, self._order = best, best.framing.neighbours(), fit.permutation
        return fit

    def render(self, spatial: Spatial, points: Points | None = None, few: int | None = None) -> np.ndarray:
        """Returns inputs made of the pictures, [frames, rows, columns, C], in 0..255 and the reference's channel order.

        Args:
            spatial: How they are made.
            points: Rows and columns; None for those of the source.
            few: Only so many of the pictures; None for all.
        """
        pictures = self._pictures[:few]
        if spatial.quality is not None:
            pictures = [colour.jpeg(spatial.quality).apply(picture[None])[0] for picture in pictures]
        points = points or self._points
        rendered = [spatial.framing.render(p, self._out, spatial.resampler, points) for p in pictures]
        return np.stack(rendered)[..., self._order]

    def alternatives(self, current: Spatial) -> Iterator[Spatial]:
        """Yields what differs in one thing: the kernel, or the part of the picture."""
        yield from (dataclasses.replace(current, resampler=r) for r in RESAMPLERS if r != current.resampler)
        if current.framing is self.spatial.framing:
            others = [f for f in self._framings if f is not current.framing]
            yield from (dataclasses.replace(current, framing=f) for f in [*others, *self._near])

    def changes(self, spatial: Spatial, convention: Convention) -> list[Change]:
        """Names what differs from what the reference does; the code of the last one makes the input of `picture`."""
        of, named = self.spatial, []
        call = spatial.resampler.code.replace("picture", spatial.framing.code)
        if spatial.quality is not None:
            call = call.replace("picture", f"tf.io.decode_jpeg(tf.io.encode_jpeg(picture, quality={spatial.quality}))")
            named.append(Change("jpeg", f"JPEG recompression of the picture, quality {spatial.quality}", "x"))
        if self._order != sorted(self._order):
            call += f"[..., {self._order}]"
        if spatial.framing is not of.framing:
            words = f"{spatial.framing.description} instead of {of.framing.description}"
            if spatial.framing in self._near:
                words = f"a crop that is off: {spatial.framing.description}"
            named.append(Change("crop", words, "x"))
        if spatial.resampler is not of.resampler:
            words = f"resized with {spatial.resampler.description} instead of {of.resampler.description}"
            named.append(Change("resize", words, "x"))
        if named:
            named[-1] = dataclasses.replace(named[-1], code=convention.write(call))
        return named


def _with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    if channels == picture.shape[-1]:
        return picture
    if channels == 1:
        return (picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return np.repeat(picture[..., :1], channels, -1)
