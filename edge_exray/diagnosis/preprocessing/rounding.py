"""Steps in the app's values: agreement up to rounding, and truncation in its place."""

import numpy as np

from edge_exray.diagnosis.preprocessing.hypothesis import Change

# Of a step: two grids of a slightly different step differ by up to a quarter in the mean of bright or dark images;
# truncation makes a half.
_SAME_MEAN = 0.3
# Two roundings in a row, each evenly spread over a step, differ by 0.41 steps.
_SAME_RMS = 0.5
_MOST_LEVELS = 260
_COARSEST = 2.6


def step_of(edge: np.ndarray, pixel_step: float) -> tuple[float, bool]:
    """Returns the distance of the app's values, and whether they are on a grid of 8 bits or so.

    Args:
        edge: The app's values.
        pixel_step: The distance of two neighbouring pixel values, which is returned where there is no grid.
    """
    values = np.unique(np.round(edge.reshape(-1).astype(np.float64) / pixel_step, 3))
    if not 2 < len(values) <= _MOST_LEVELS:
        return pixel_step, False
    gaps = np.diff(values)
    step = float(np.min(gaps[gaps > 0.05])) if np.any(gaps > 0.05) else 1.0
    ratios = gaps / step
    # None of the gaps is a step where all are smaller than the pixels'.
    if not np.round(ratios).any() or np.abs(ratios - np.round(ratios)).max() > 0.1:
        return pixel_step, False
    # The mean over all gaps is more exact than one of them.
    return float((values[-1] - values[0]) / np.round(ratios).sum()) * pixel_step, True


def agree(reference: np.ndarray, edge: np.ndarray, pixel_step: np.ndarray) -> bool:
    """Returns whether the two [..., C] differ by no more than roundings to 8 bits do."""
    for c in range(reference.shape[-1]):
        step, gridded = step_of(edge[..., c], float(pixel_step[c]))
        step = min(step, _COARSEST * pixel_step[c]) if gridded else float(pixel_step[c])
        apart = (edge[..., c].astype(np.float64) - reference[..., c]) / max(step, pixel_step[c])
        if abs(apart.mean()) > _SAME_MEAN or np.sqrt(np.mean(apart**2)) > _SAME_RMS:
            return False
    return True


def truncation(expected: np.ndarray, edge: np.ndarray, pixel_step: float, code: str = "x") -> Change | None:
    """Finds values that were cut to their step instead of rounded.

    Args:
        expected: What the app would feed with rounding or without steps.
        edge: What it feeds.
        pixel_step: The distance of two neighbouring pixel values.
        code: The expression whose values are cut.
    """
    step, gridded = step_of(edge, pixel_step)
    if not gridded or step > _COARSEST * pixel_step:
        return None
    apart = ((edge.astype(np.float64) - expected) / step).reshape(-1)
    if np.sqrt(np.mean(apart**2)) > 1:
        return None
    origin = float(edge.min() % step)
    level = np.round((edge.reshape(-1).astype(np.float64) - origin) / step).astype(int)
    # Towards zero: what is below zero goes up, what is above goes down. Where zero is shows in the steps themselves.
    first = int(level.min())
    counts = np.bincount(level - first)
    sums = np.bincount(level - first, apart)
    below = np.concatenate([[0.0], np.cumsum(sums)])
    above = sums.sum() - below
    split = int(np.argmax(below - above))
    share_below = counts[:split].sum() / counts.sum()
    signed = np.where(level - first < split, -apart, apart)
    slack = 0.04
    if share_below >= 0.01:  # zero itself is reached from both sides
        signed = signed[np.abs(level - first - split + 0.5) > 1]
    if not signed.size or abs(signed.mean() + 0.5) > 0.2 or np.mean((signed < -1 - slack) | (signed > slack)) > 0.01:
        return None
    floor = f"np.floor(({code}{_shift(origin)}) / {step:.6g}) * {step:.6g}{_shift(-origin)}"
    if share_below < 0.01:
        return Change("truncation", "values cut down to their 8-bit step instead of rounded", floor)
    zero = origin + (first + split) * step
    towards = f"np.trunc(({code}{_shift(zero)}) / {step:.6g}) * {step:.6g}{_shift(-zero)}"
    return Change("truncation", "values cut towards zero to their 8-bit step instead of rounded", towards)


def _shift(value: float) -> str:
    return "" if abs(value) < 1e-9 else f" {'-' if value > 0 else '+'} {abs(value):.6g}"
