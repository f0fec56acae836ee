"""What each quantization mode asks of TensorFlow's converter, and what it promises about the result."""

import dataclasses

import numpy as np

from edge_exray import errors
from edge_exray.models.tensors import TensorSpec


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way to convert; see "Post-training quantization" in the LiteRT guide.

    Attributes:
        name: What users write.
        quantized: The converter may change the weights.
        weights: Name of the TensorFlow dtype of the weights, where it is not the converter's choice.
        activations: Name of the integer dtype that every op computes on, or the conversion fails; needs calibration.
        io: Name of the dtype that replaces float32 at the inputs and outputs; None keeps float32.
    """

    name: str
    quantized: bool = True
    weights: str | None = None
    activations: str | None = None
    io: str | None = None

    @property
    def needs_calibration(self) -> bool:
        """True when the ranges of the activations have to be measured on frames."""
        return self.activations is not None

    @property
    def weight_types(self) -> set[str]:
        """The types of the TFLite schema that the weights of a layer may be stored in."""
        if self.weights:
            return {self.weights.upper()}
        return {"INT8", "INT4"} if self.quantized else {"FLOAT32"}

    def io_dtype(self, cloud: TensorSpec) -> np.dtype:
        """Returns the dtype that an input or output of the cloud model has in the edge model."""
        return np.dtype(self.io) if self.io and cloud.dtype == np.float32 else cloud.dtype


MODES = {
    mode.name: mode
    for mode in (
        Mode("none", quantized=False),
        Mode("float16", weights="float16"),
        Mode("dynamic_range"),
        Mode("int8", activations="int8", io="int8"),
        Mode("int8_float_io", activations="int8"),
        Mode("int16x8", activations="int16", io="int16"),
    )
}


def find(name: str) -> Mode:
    """Returns the mode of that name.

    Raises:
        SpecError: There is none.
    """
    if name not in MODES:
        raise errors.SpecError(f"unknown quantization {name!r}: choose from {', '.join(MODES)}")
    return MODES[name]
