"""What each quantization mode asks of a quantizer, and what it promises about the result."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models.tensors import TensorSpec

TENSORFLOW, AI_EDGE_QUANTIZER = QUANTIZERS = ("tensorflow", "ai_edge_quantizer")

# The mode that is what a recipe of ai-edge-quantizer makes of the model.
RECIPE = "recipe"


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way to convert; see "Post-training quantization" in the LiteRT guide.

    Attributes:
        name: What users write.
        quantized: The converter may change the weights.
        weights: Name of the TensorFlow dtype of the weights, where it is not the converter's choice.
        activations: Name of the integer dtype that every op computes on, or the conversion fails; needs calibration.
        io: Name of the dtype that replaces float32 at the inputs and outputs; None keeps float32.
        measured: The weights are chosen by the activations that they meet, which needs calibration too.
        is_typed: It promises the types of inputs, outputs, weights and activations; a recipe promises op by op instead.
    """

    name: str
    quantized: bool = True
    weights: str | None = None
    activations: str | None = None
    io: str | None = None
    measured: bool = False
    is_typed: bool = True

    @property
    def needs_calibration(self) -> bool:
        """True when the activations have to be measured on frames."""
        return self.activations is not None or self.measured

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


def find(name: str, recipe: Sequence[Mapping[str, Any]] | None = None) -> Mode:
    """Returns the mode of that name.

    Args:
        name: One of `MODES`, or "recipe".
        recipe: What "recipe" stands for, see `edge_exray.conversion.recipes.resolve`.

    Raises:
        SpecError: There is none, or it lacks its recipe.
    """
    if name == RECIPE:
        return _of_recipe(recipe)
    if name not in MODES:
        raise errors.SpecError(f"unknown quantization {name!r}: choose from {', '.join([*MODES, RECIPE])}")
    return MODES[name]


def check_choice(modes: Sequence[Mode], quantizer: str, recipe: object, keep_float_layers: Sequence[str]) -> None:
    """Refuses choices that contradict each other.

    Args:
        modes: All modes of a conversion.
        quantizer: One of `QUANTIZERS`.
        recipe: Anything but None when a recipe is given.
        keep_float_layers: Names or patterns of layers.

    Raises:
        SpecError: A choice is unknown, or cannot be had together with another.
    """
    if quantizer not in QUANTIZERS:
        raise errors.SpecError(f"unknown quantizer {quantizer!r}: choose from {', '.join(QUANTIZERS)}")
    if recipe is not None and all(mode.name != RECIPE for mode in modes):
        raise errors.SpecError(f"a recipe is given, and nothing is made of it: choose quantization={RECIPE!r}")
    if isinstance(keep_float_layers, str):
        raise errors.SpecError(f"keep_float_layers is a list of names, write [{keep_float_layers!r}]")
    strange = [name for name in keep_float_layers if not isinstance(name, str)]
    if strange:
        raise errors.SpecError(f"keep_float_layers: {strange[0]!r} is no name; layers go by the names of the report")
    if not keep_float_layers:
        return
    quantized = [mode for mode in modes if mode.quantized]
    if not quantized:
        raise errors.SpecError("keep_float_layers needs a quantization: without one, all layers are in float anyway")
    # Its quantizer of int16 takes no exceptions, and the one that does makes zero points that no kernel accepts; the
    # weights of the modes without calibration change while the graph is lowered, where there is no way to except any.
    unable = [m.name for m in quantized if m.name != RECIPE and m.activations != "int8"]
    if unable and quantizer == TENSORFLOW:
        raise errors.SpecError(
            f"keep_float_layers: TensorFlow's converter keeps none in {unable[0]}: choose int8 or int8_float_io, or "
            f"quantizer={AI_EDGE_QUANTIZER!r}"
        )


def _of_recipe(recipe: Sequence[Mapping[str, Any]] | None) -> Mode:
    if recipe is None:
        raise errors.SpecError(f"quantization {RECIPE!r} needs a recipe: give it one of ai-edge-quantizer")
    configs = [entry.get("op_config", {}).get("activation_tensor_config") for entry in recipe]
    activations = next((f"int{config['num_bits']}" for config in configs if config), None)
    measured = any(entry["algorithm_key"] == "GPTQ" for entry in recipe)
    return Mode(RECIPE, activations=activations, measured=measured, is_typed=False)
