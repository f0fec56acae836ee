"""What every converted model must hold, whatever the converter says."""

from collections.abc import Mapping

from edge_exray import errors
from edge_exray.conversion.modes import Mode
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel

# The converter leaves these, and an edge model full of zeros, when it could not freeze a variable.
_UNFROZEN = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


def check(edge: EdgeModel, mode: Mode, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> None:
    """Compares a converted model with what its mode promises.

    Args:
        edge: The converted model.
        mode: How it was converted.
        inputs: Inputs of the cloud model's signature.
        outputs: Its outputs.

    Raises:
        ConversionError: A promise is broken; names the tensor or op.
    """
    unfrozen = sorted({op.name for op in edge.graph.ops} & _UNFROZEN)
    if unfrozen:
        raise errors.ConversionError(
            f"the {mode.name} model still has variables ({', '.join(unfrozen)}), which are empty on a device: export a "
            "signature that assigns none, with all variables tracked by the exported module"
        )
    for kind, cloud, converted in (("inputs", inputs, edge.inputs), ("outputs", outputs, edge.outputs)):
        if set(cloud) != set(converted):
            raise errors.ConversionError(
                f"the {mode.name} model has the {kind} {sorted(converted)} where the signature has {sorted(cloud)}: "
                "check that the signature uses every input and returns a dictionary of named outputs"
            )
        for name, spec in cloud.items():
            if converted[name].dtype != mode.io_dtype(spec):
                raise errors.ConversionError(
                    f"{name} of the {mode.name} model is {converted[name].dtype}, the mode promises "
                    f"{mode.io_dtype(spec)}: the converter leaves alone what the graph does not compute with, "
                    "so drop it from the signature"
                )
