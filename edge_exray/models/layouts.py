"""Where the ops that have weights keep them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where an op with weights has its inputs, and on which axis of the weights its output channels are."""

    channels: int
    data: int = 0
    weights: int = 1
    bias: int = 2


WEIGHTED_OPS = {
    "CONV_2D": Layout(channels=0),
    "DEPTHWISE_CONV_2D": Layout(channels=3),
    "FULLY_CONNECTED": Layout(channels=0),
    "TRANSPOSE_CONV": Layout(channels=0, data=2, bias=3),
}
