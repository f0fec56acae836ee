"""Permutation of channels and affine map of each channel between two images, in closed form."""

import dataclasses
import itertools

import numpy as np

# A permutation counts as found when it leaves less than half of what the given order leaves.
_BETTER = 0.5
# What is below this share of the variance is rounding, of which no share tells anything.
FLOOR = 2e-5


@dataclasses.dataclass(frozen=True)
class ChannelFit:
    """`edge[..., c] = scale[c] * reference[..., permutation[c]] + offset[c]`, by least squares.

    Attributes:
        residual: Share of the edge input's variance that the fit leaves.
        permutation: [C] which reference channel makes each edge channel.
        scale, offset: [C] affine map of each edge channel.
    """

    residual: float
    permutation: list[int]
    scale: np.ndarray
    offset: np.ndarray


def fit_moments(
    count: int,
    reference_sum: np.ndarray,
    edge_sum: np.ndarray,
    reference_products: np.ndarray,
    cross_products: np.ndarray,
    edge_products: np.ndarray,
) -> ChannelFit:
    """Fits from second moments, see `edge_exray.drift.channels.ChannelStatistics` for the arguments.

    The given order stays where another explains little more: on grey images every order fits.
    """
    mean_r, mean_e = reference_sum / count, edge_sum / count
    variance_r = np.diag(reference_products) / count - mean_r**2
    variance_e = np.diag(edge_products) / count - mean_e**2
    covariance = cross_products / count - np.outer(mean_r, mean_e)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(variance_r[:, None] > 1e-12 * (mean_r[:, None] ** 2 + 1), covariance / variance_r[:, None], 0)
    # left[i, j]: what remains of edge channel j when it is made from reference channel i.
    left = np.maximum(variance_e[None, :] - slope * covariance, 0.0)
    total = float(variance_e.sum())
    orders = [list(order) for order in itertools.permutations(range(len(mean_r)))]
    if total <= 0:
        return ChannelFit(0.0, orders[0], np.zeros(len(mean_r)), mean_e)
    residuals = [float(sum(left[i, j] for j, i in enumerate(order))) / total for order in orders]
    best = int(np.argmin(residuals))
    if residuals[best] + FLOOR > _BETTER * (residuals[0] + FLOOR):
        best = 0
    order = orders[best]
    scale = np.array([slope[i, j] for j, i in enumerate(order)])
    return ChannelFit(residuals[best], order, scale, mean_e - scale * mean_r[order])


def fit_values(reference: np.ndarray, edge: np.ndarray) -> ChannelFit:
    """Fits the values themselves: both [..., C], of the same shape."""
    r = reference.reshape(-1, reference.shape[-1]).astype(np.float64)
    e = edge.reshape(-1, edge.shape[-1]).astype(np.float64)
    # Around the mean: the difference of large sums would cost the digits that tell rounding from a change.
    shift_r, shift_e = r.mean(0), e.mean(0)
    r -= shift_r
    e -= shift_e
    fit = fit_moments(len(r), r.sum(0), e.sum(0), r.T @ r, r.T @ e, e.T @ e)
    return dataclasses.replace(fit, offset=fit.offset + shift_e - fit.scale * shift_r[fit.permutation])
