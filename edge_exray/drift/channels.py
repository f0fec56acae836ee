"""Mergeable second moments of a model input as prepared by two preprocessings, per channel."""

import dataclasses

import numpy as np

# More channels than an image has are features of a table or a spectrum: they are compared as one.
MAX_CHANNELS = 4


@dataclasses.dataclass
class ChannelStatistics:
    """Sums over pairs (reference value r, edge value e) of one input; C channels on its last axis.

    Attributes:
        frames: Number of frames.
        differing: Number of frames in which any value differs.
        mismatched: Number of frames in which the two sides differ in shape; they are in no sum.
        nonfinite: Number of frames with a NaN or infinite value on either side; they are in no sum.
        count: Number of values of one channel.
        reference_sum, edge_sum: [C] sums.
        reference_products: [C, C] sums of r_i * r_j.
        cross_products: [C, C] sums of r_i * e_j.
        edge_products: [C, C] sums of e_i * e_j.
        reference_range, edge_range: [2] smallest and largest value.
        clipped: Reference values that the quantised edge input cannot represent.
        quantized: Reference values for which that was asked.
    """

    frames: int = 0
    differing: int = 0
    mismatched: int = 0
    nonfinite: int = 0
    count: int = 0
    reference_sum: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    edge_sum: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    reference_products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))
    cross_products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))
    edge_products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))
    reference_range: np.ndarray = dataclasses.field(default_factory=lambda: np.array([np.inf, -np.inf]))
    edge_range: np.ndarray = dataclasses.field(default_factory=lambda: np.array([np.inf, -np.inf]))
    clipped: int = 0
    quantized: int = 0

    def update(self, reference: np.ndarray, edge: np.ndarray, representable: tuple[float, float] | None = None) -> None:
        """Adds one frame.

        Args:
            reference: Reference input with batch axis, any numeric dtype.
            edge: Edge input as real values, with batch axis.
            representable: Smallest and largest real value of the quantised edge input, if it is quantised.
        """
        self.frames += 1
        if reference.shape != edge.shape:
            self.mismatched += 1
            return
        same = reference is edge or np.array_equal(reference, edge)
        self.differing += not same
        channels = reference.shape[-1] if reference.ndim > 2 and reference.shape[-1] <= MAX_CHANNELS else 1
        r = reference.astype(np.float64).reshape(-1, channels)
        e = r if same else edge.astype(np.float64).reshape(-1, channels)
        if not r.size:  # a dimension of unknown size, which this frame has nothing in
            return
        span = r.min(), r.max()
        edge_span = span if same else (e.min(), e.max())
        # NaN and infinity come to the extremes.
        if not np.isfinite([span, edge_span]).all():
            self.nonfinite += 1
            return
        if representable:
            self.quantized += r.size
            if span[0] < representable[0] or span[1] > representable[1]:
                self.clipped += int(np.count_nonzero((r < representable[0]) | (r > representable[1])))
        if not self.count:
            self.reference_sum, self.edge_sum = np.zeros(channels), np.zeros(channels)
            self.reference_products, self.cross_products, self.edge_products = np.zeros((3, channels, channels))
        self.count += len(r)
        sums, products = r.sum(0), r.T @ r
        self.reference_sum += sums
        self.reference_products += products
        self._widen(self.reference_range, *span)
        self.edge_sum += sums if same else e.sum(0)
        self.cross_products += products if same else r.T @ e
        self.edge_products += products if same else e.T @ e
        self._widen(self.edge_range, *edge_span)

    def merge(self, other: "ChannelStatistics") -> None:
        """Adds the frames that `other` has seen."""
        for name in ("frames", "differing", "mismatched", "nonfinite", "clipped", "quantized"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if not other.count:
            return
        sums = ("reference_sum", "edge_sum", "reference_products", "cross_products", "edge_products")
        for name in sums:
            theirs = getattr(other, name)
            setattr(self, name, getattr(self, name) + theirs if self.count else theirs.copy())
        self.count += other.count
        self._widen(self.reference_range, *other.reference_range)
        self._widen(self.edge_range, *other.edge_range)

    @staticmethod
    def _widen(span: np.ndarray, low: float, high: float) -> None:
        span[:] = min(span[0], low), max(span[1], high)
