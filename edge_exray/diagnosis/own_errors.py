"""Which op adds more error by itself than quantisation explains.

An op that is computed rightly on rounded inputs and weights, with a rounded output, errs by a known amount: a uniform
rounding error of one step has the standard deviation step / sqrt(12) (Widrow & Kollar, Quantization Noise, 2008,
chapter 5), and what the rounding of inputs and weights does was measured on the float model. The own error of a healthy
op is near this amount, whatever the op; that of an op with wrong weights, scales, zero points or biases is ten times it
and more.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from edge_exray.diagnosis.evidence import Evidence
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.models.alignment import Layer

# Frames that calibration has not seen have some values beyond its range. So many are normal, and what they lose is
# no fault of the op; the check of the calibration judges larger shares.
_NORMAL_CLIPPED_SHARE = 0.01
_NORMAL_CLIPPED_VALUES = 2
# A range that cuts values off at one end and has so large a part without any at the other was not calibrated but moved.
_MOVED_SHARE = 0.25

# A step of rounding that no tensor shows: in the range of the values, of 8 bits, which weights have where activations
# are finer; in the largest value, of the 11 significant bits of float16, in models that have nothing coarser.
_INTEGER_STEP, _FLOAT_STEP = 1 / 255, 2**-10


@dataclasses.dataclass(frozen=True)
class OwnFigures:
    """The own error of a layer.

    Attributes:
        layer: The layer.
        drift: Output of the op on the float model's inputs, against the float model's output.
        expected: Root mean square of the error that rounding alone causes, in the units of the tensor.
        inherited: Root mean square of the rest of the layer's drift: what came in through its inputs.
        span: Range of the layer's values, over which errors are normalised.
    """

    layer: Layer
    drift: DriftStatistics
    expected: float
    inherited: float
    span: float

    @property
    def ratio(self) -> float:
        """Own error over what rounding explains; 0 where there is none."""
        if not self.drift.rmse:
            return 0.0
        return self.drift.rmse / self.expected if self.expected else math.inf

    @property
    def inherited_nrmse(self) -> float:
        """Inherited error over the range of the layer's values."""
        return self.inherited / self.span if self.span else 0.0


def figures(evidence: Evidence) -> list[OwnFigures]:
    """Returns the own error of each layer that has one, in execution order."""
    rounding = evidence.replay.summary["own_error"]["rounding"]
    is_float = not rounding and not any(layer.spec.quantization for layer in evidence.layers)
    found = []
    for layer in evidence.layers:
        own, total = evidence.own_drift(layer), evidence.drift("quantization", layer)
        if own is None or total is None or not own.finite:
            continue
        lows, highs = (own.reference_min, own.edge_min), (own.reference_max, own.edge_max)
        # A fault may leave the output in a corner of its range, but not widen what the float model computes.
        span = own.reference_max - own.reference_min
        inherited = math.sqrt(max(total.rmse**2 - own.rmse**2, 0.0)) if total.finite else math.nan
        largest = max(abs(own.reference_min), abs(own.reference_max))
        least_step = largest * _FLOAT_STEP if is_float else span * _INTEGER_STEP
        expected = _expected(layer, own, least_step, rounding.get(str(layer.index), 0.0))
        found.append(OwnFigures(layer, own, expected, inherited, max(highs) - min(lows)))
    return found


def outlier(found: Sequence[OwnFigures], limit: float) -> OwnFigures | None:
    """Returns the first op, in execution order, whose own error stands out.

    Args:
        found: The own errors of the layers.
        limit: Ratio to the expected error that no op is accused below; it grows with the median ratio.
    """
    middle = statistics.median([own.ratio for own in found] or [0.0])
    # What all ops of a model have in common, weights of few bits for example, makes none of them stand out; but a model
    # whose ops are mostly wrong must not make its own measure.
    bound = limit * min(max(middle, 1.0), limit)
    return next((own for own in found if own.ratio > bound), None)


def _expected(layer: Layer, own: DriftStatistics, least_step: float, rounding: float) -> float:
    quantization = layer.spec.quantization
    step = max(max(quantization.scale) if quantization else 0.0, least_step)
    square = step**2 / 12 + rounding**2
    if quantization and own.clipped <= _NORMAL_CLIPPED_VALUES + _NORMAL_CLIPPED_SHARE * own.quantized:
        low, high = quantization.range(layer.spec.dtype)
        above, below = own.reference_max - high, low - own.reference_min
        is_moved = min(-above, -below) < 0 < max(-above, -below) - _MOVED_SHARE * (high - low)
        excess = 0.0 if is_moved else max(above, below, 0.0)
        square += own.clipped / max(own.quantized, 1) * excess**2
    return math.sqrt(square)
