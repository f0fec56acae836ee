"""Turned, mirrored and scrambled images: rearrangements of the values of an image."""

import dataclasses
from collections.abc import Callable

import numpy as np

from edge_exray.diagnosis.preprocessing.hypothesis import Change

Rearrangement = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rearranged:
    """One rearrangement of [n, height, width, C].

    Attributes:
        change: What the app does.
        undo: Makes the reference's arrangement of the app's.
    """

    change: Change
    undo: Rearrangement


def _of_axes(kind: str, words: str, code: str, undo: Rearrangement) -> Rearranged:
    return Rearranged(Change(kind, words, code), undo)


_ON_SQUARES = (
    _of_axes(
        "rotation",
        "rotated by 90 degrees counter-clockwise",
        "np.rot90(x, 1, (-3, -2))",
        lambda e: np.rot90(e, -1, (1, 2)),
    ),
    _of_axes(
        "rotation", "rotated by 90 degrees clockwise", "np.rot90(x, -1, (-3, -2))", lambda e: np.rot90(e, 1, (1, 2))
    ),
    _of_axes(
        "transposed_axes", "height and width transposed", "np.swapaxes(x, -3, -2)", lambda e: np.swapaxes(e, 1, 2)
    ),
    _of_axes(
        "transposed_axes",
        "height and width transposed, and rotated by 180 degrees",
        "np.swapaxes(x[..., ::-1, ::-1, :], -3, -2)",
        lambda e: np.swapaxes(e, 1, 2)[:, ::-1, ::-1],
    ),
)

_ON_ALL = (
    _of_axes("rotation", "rotated by 180 degrees", "x[..., ::-1, ::-1, :]", lambda e: e[:, ::-1, ::-1]),
    _of_axes("flip", "mirrored left to right", "x[..., ::-1, :]", lambda e: e[:, :, ::-1]),
    _of_axes("flip", "upside down (mirrored top to bottom)", "x[..., ::-1, :, :]", lambda e: e[:, ::-1]),
    _of_axes(
        "layout",
        "the values of an NCHW image reshaped to NHWC instead of transposed",
        "np.moveaxis(x, -1, -3).reshape(x.shape)",
        lambda e: np.moveaxis(e.reshape(len(e), e.shape[3], *e.shape[1:3]), 1, 3),
    ),
    _of_axes(
        "layout",
        "the values of an NHWC image read as NCHW",
        "np.moveaxis(x.reshape(*x.shape[:-3], x.shape[-1], *x.shape[-3:-1]), -3, -1)",
        lambda e: np.moveaxis(e, 3, 1).reshape(e.shape),
    ),
)

_ON_OBLONGS = (
    _of_axes(
        "transposed_axes",
        "height and width transposed, then reshaped",
        "np.swapaxes(x, -3, -2).reshape(x.shape)",
        lambda e: np.swapaxes(e.reshape(len(e), e.shape[2], e.shape[1], e.shape[3]), 1, 2),
    ),
)


def rearrangements(height: int, width: int) -> tuple[Rearranged, ...]:
    """Returns those that keep the shape of an image."""
    return (_ON_SQUARES if height == width else _ON_OBLONGS) + _ON_ALL
