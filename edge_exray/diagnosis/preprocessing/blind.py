"""What two inputs tell of resizing and cropping where the raw picture is not known."""

import itertools

import numpy as np

from edge_exray.diagnosis.preprocessing.channel_fit import ChannelFit
from edge_exray.diagnosis.preprocessing.colour import Operation, Pixels

_RADIUS = 2
# Frames on which scales are tried.
_FRAMES = 3
# A response to the finest detail within this of 1 is no other sharpness.
_SAME_SHARPNESS = 0.1
# Shifts of less are none; within it of a whole number they are whole.
_SAME_PLACE = 0.08


def filtered(pixels: Pixels, edge: np.ndarray, fit: ChannelFit) -> Operation | None:
    """Fits the small filter that makes the app's image of the reference's: a shift, a smoother or a sharper kernel.

    Args:
        pixels: [n, height, width, C].
        edge: The app's values for them.
        fit: The best permutation and affine maps between the two.
    """
    matched = pixels[..., fit.permutation]
    with np.errstate(divide="ignore", invalid="ignore"):
        target = np.where(fit.scale != 0, (edge - fit.offset) / fit.scale, 0)
    core = (slice(None), slice(_RADIUS, -_RADIUS), slice(_RADIUS, -_RADIUS))
    shifts = list(itertools.product(range(-_RADIUS, _RADIUS + 1), repeat=2))
    y = target[core].reshape(-1).astype(np.float64)
    step = max(1, len(y) // 40000)
    columns = [np.roll(matched, shift, (1, 2))[core].reshape(-1)[::step] for shift in shifts]
    features = np.stack([*columns, np.ones_like(columns[0])], 1).astype(np.float64)
    solution, *_ = np.linalg.lstsq(features, y[::step], rcond=1e-8)
    taps = solution[:-1]
    gain = taps.sum()
    if abs(gain) < 0.2:
        return None
    taps = taps / gain
    dy, dx = (float(sum(tap * shift[axis] for tap, shift in zip(taps, shifts, strict=True))) for axis in (0, 1))
    finest = float(np.abs(sum(t * (-1) ** (a + b) for t, (a, b) in zip(taps, shifts, strict=True))))
    middle = float(np.abs(sum(t * np.exp(0.5j * np.pi * (a + b)) for t, (a, b) in zip(taps, shifts, strict=True))))
    whole = [round(dy), round(dx)]
    shifted = max(abs(dy), abs(dx)) > _SAME_PLACE
    concentrated = taps[shifts.index((whole[0], whole[1]))] > 0.9 if max(map(abs, whole)) <= _RADIUS else False
    if shifted and any(whole) and concentrated:
        down, right = whole
        return Operation(
            "crop",
            f"the picture {_way(down, 'down', 'up')}{' and ' if down and right else ''}"
            f"{_way(right, 'to the right', 'to the left')}, as from a crop that is off",
            f"np.roll(x, {(down, right)}, (-3, -2))",
            lambda p: np.roll(p, (down, right), (1, 2)),
            whole=True,
        )
    words = []
    if middle < 1 - _SAME_SHARPNESS or finest < 1 - 2 * _SAME_SHARPNESS:
        words.append("smoother")
    elif middle > 1 + _SAME_SHARPNESS or finest > 1 + 2 * _SAME_SHARPNESS:
        words.append("sharper")
    if shifted:
        words.append(f"shifted by ({dy:.2f}, {dx:.2f}) pixels")
    grid = np.round(taps.reshape(2 * _RADIUS + 1, -1)[::-1, ::-1], 3).tolist()

    def apply(p: Pixels) -> Pixels:
        moved = np.zeros_like(p)
        for tap, shift in zip(taps, shifts, strict=True):
            moved += np.float32(tap) * np.roll(p, shift, (1, 2))
        # What rolled in from the other side is no picture.
        inner = p.copy()
        inner[core] = moved[core]
        return inner

    return Operation(
        "resize",
        f"another resize kernel ({', '.join(words) or 'of other detail'})",
        f"scipy.ndimage.correlate(x, np.array({grid})[..., None])",
        apply,
        whole=True,
    )


def zoomed(pixels: Pixels, edge: np.ndarray, fit: ChannelFit) -> list[Operation]:
    """Finds scales about the centre, of each axis, that make the app's image of the reference's: another crop."""
    reference = pixels[:_FRAMES, ..., fit.permutation].mean(-1)
    target = edge[:_FRAMES].mean(-1)
    _, height, width = reference.shape
    scales = np.exp(np.linspace(-np.log(2), np.log(2), 25))
    best, best_left = (1.0, 1.0), np.inf
    step = max(1, min(height, width) // 32)
    for level in range(3):
        for sy, sx in itertools.product(scales, scales) if level == 0 else _around(best, level):
            left = _left(reference, target, sy, sx, step)
            if left < best_left:
                best, best_left = (sy, sx), left
        step = max(1, step // 2)
    sy, sx = best
    if max(abs(sy - 1) * height, abs(sx - 1) * width) < 1.0 or best_left > 0.5:
        return []
    if abs(sy - sx) < 0.01:
        sy = sx = (sy + sx) / 2
        words = f"the central {100 * sy:.3g} % of the reference's picture" if sy < 1 else "more of the picture"
    else:
        words = f"stretched or cropped otherwise (height x {1 / sy:.3g}, width x {1 / sx:.3g} about the centre)"
    return [
        Operation(
            "crop",
            words,
            f"scipy.ndimage.affine_transform(x, [{sy:.4g}, {sx:.4g}, 1], "
            f"[{(1 - sy) * (height - 1) / 2:.4g}, {(1 - sx) * (width - 1) / 2:.4g}, 0], order=1)",
            lambda p: _sampled(p, sy, sx),
            whole=True,
        )
    ]


def _way(pixels: int, forth: str, back: str) -> str:
    return f"{abs(pixels)} pixel{'s' if abs(pixels) > 1 else ''} {forth if pixels > 0 else back}" if pixels else ""


def _around(best: tuple[float, float], level: int) -> list[tuple[float, float]]:
    steps = np.linspace(-1, 1, 9) * (0.03 if level == 1 else 0.007)
    return [(best[0] * (1 + a), best[1] * (1 + b)) for a in steps for b in steps]


def _left(reference: np.ndarray, target: np.ndarray, sy: float, sx: float, step: int) -> float:
    """Share of the target's variance that the scaled reference leaves, where both show the same."""
    n, height, width = reference.shape
    rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
    y, x = (rows - (height - 1) / 2) * sy + (height - 1) / 2, (columns - (width - 1) / 2) * sx + (width - 1) / 2
    in_y, in_x = (y >= 0) & (y <= height - 1), (x >= 0) & (x <= width - 1)
    t = target[:, rows[in_y][:, None], columns[in_x][None, :]].reshape(n, -1)
    r = _bilinear(reference[..., None], y[in_y], x[in_x])[..., 0].reshape(n, -1)
    t, r = t - t.mean(), r - r.mean()
    total = float((t * t).sum())
    power = float((r * r).sum())
    if not total or not power:
        return np.inf
    return 1 - float((t * r).sum()) ** 2 / (total * power)


def _sampled(p: Pixels, sy: float, sx: float) -> Pixels:
    _, height, width, _ = p.shape
    y = (np.arange(height) - (height - 1) / 2) * sy + (height - 1) / 2
    x = (np.arange(width) - (width - 1) / 2) * sx + (width - 1) / 2
    return _bilinear(p, y, x)


def _bilinear(p: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    def axis(at: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip(at, 0, size - 1)
        low = np.minimum(at.astype(int), size - 2)
        return low, low + 1, (at - low).astype(np.float32)

    y0, y1, fy = axis(y, p.shape[1])
    x0, x1, fx = axis(x, p.shape[2])
    lines = p[:, y0] * (1 - fy)[:, None, None] + p[:, y1] * fy[:, None, None]
    return lines[:, :, x0] * (1 - fx)[:, None] + lines[:, :, x1] * fx[:, None]
