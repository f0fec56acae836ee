"""What a device logged against what its model computes here.

A frame of a log brings its own edge side. Where the inputs were logged, the same .tflite runs here on them: what
differs is the device's kernels, or a runtime of another version. Where they were not, nobody can tell the app's
preprocessing from the device's kernels.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from edge_exray import errors
from edge_exray.drift.values import Values
from edge_exray.frames.functions import DeviceRecord, Frame, Inputs, UserFunctions
from edge_exray.models.alignment import Layer
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel
from edge_exray.monitor.log import LoggedFrame
from edge_exray.monitor.tensors import LoggedTensor
from edge_exray.replay.device_logs import LoggedExample, over_logs
from edge_exray.replay.statistics import ReplayStatistics

DEVICE = "device"
"""Kind of the statistics of the kernel leg that compare a logged layer with the edge model's here."""

DEVICE_FLOAT = "device_float"
"""The same with the float edge model here on the logged inputs: the quantisation and the device's kernels together."""


class DeviceLeg:
    """Takes the edge side of frames from logs, and compares it with the edge model here.

    Args:
        edge: The edge model, with its layers kept; its inputs and outputs have the cloud's names.
        float_edge: The float edge model likewise; None where the edge model is its own.
        outputs: Name of each output to that in the file.
    """

    def __init__(self, edge: EdgeModel, float_edge: EdgeModel | None, outputs: Mapping[str, str]) -> None:
        self._edge, self._float_edge = edge, float_edge
        names = {d["index"]: d["name"] for d in edge.interpreter.get_tensor_details()}
        # An interpreter with several signatures is logged by the names of its tensors.
        self._inputs = {name: (edge.stored_inputs[name], names[i]) for name, i in edge.input_tensors().items()}
        self._outputs = {name: (outputs[name], names[i]) for name, i in edge.output_tensors().items()}
        self._layer_names = {index: f"{index}/{name}" for index, name in names.items()}

    def frame(
        self,
        example: LoggedExample,
        functions: UserFunctions,
        reference: Mapping[str, TensorSpec],
        slice_keys: Sequence[str],
    ) -> Frame:
        """Makes the frame of a logged example: its id, inputs and answers are those of the device.

        Args:
            example: The example.
            functions: The user's functions; what the device logged takes the place of `edge_inputs_fn`.
            reference: Inputs of the cloud model.
            slice_keys: See `UserFunctions.frame`.

        Raises:
            DataError: The log lacks an output of the model, or a tensor does not fit the model.
            ModuleError: A function of the user failed.
        """
        logged = example.frame
        frame = over_logs(functions).frame(example, reference, self._edge.inputs, slice_keys)
        try:
            edge = self._named("input", logged.inputs, self._inputs, self._edge.inputs) if logged.inputs else None
            layers = {name: t.value for name, t in logged.layers.items() if t.value is not None}
            record = DeviceRecord(
                self._answer(logged), layers, {name: self._other(other) for name, other in example.others.items()}
            )
        except errors.DataError as e:
            raise errors.DataError(e.reason, frame.id) from e
        return dataclasses.replace(frame, edge=edge, record=record)

    def compare(
        self,
        frame: Frame,
        here: Inputs,
        statistics: ReplayStatistics,
        slices: Sequence[str],
        layers: Sequence[Layer],
    ) -> None:
        """Compares what the device computed of its inputs with what the models here do.

        Args:
            frame: The frame, whose inputs were logged.
            here: Outputs of the edge model here on these inputs.
            statistics: What is learned is added here.
            slices: The slices that the frame belongs to.
            layers: The layers to compare.

        Raises:
            DataError: A logged layer has another shape than here.
        """
        assert frame.edge is not None
        assert frame.record is not None
        for name, value in frame.record.outputs.items():
            statistics.compare("kernel", slices, "output", name, Values(here[name]), Values(value))
        found = [(layer, self._layer_names[layer.tensor]) for layer in layers]
        found = [(layer, name) for layer, name in found if name in frame.record.layers]
        if not found:
            return
        self._edge.infer(frame.edge)
        if self._float_edge:
            self._float_edge.infer({name: self._edge.inputs[name].fed(v) for name, v in frame.edge.items()})
        for layer, name in found:
            stored = frame.record.layers[name]
            # Views of the models' memory: none may outlive this.
            ours = self._edge.tensor(layer.tensor)
            if stored.shape != ours.shape or stored.dtype != ours.dtype:
                raise errors.DataError(
                    f"the device logged layer {name} as {stored.dtype}{list(stored.shape)}, the model computes "
                    f"{ours.dtype}{list(ours.shape)} here",
                    frame.id,
                )
            device = Values(stored, layer.spec)
            statistics.compare("kernel", slices, DEVICE, str(layer.index), Values(ours, layer.spec), device)
            if self._float_edge and layer.float_tensor is not None:
                twin = Values(self._float_edge.tensor(layer.float_tensor))
                statistics.compare("kernel", slices, DEVICE_FLOAT, str(layer.index), twin, device)

    def _answer(self, logged: LoggedFrame) -> Inputs:
        if not logged.outputs:
            ended = f"; the app's frame ended with {logged.error}" if logged.error else ""
            raise errors.DataError(f"the device logged no answer of the model{ended}")
        specs = self._edge.outputs
        return {
            name: specs[name].fed(value)
            for name, value in self._named("output", logged.outputs, self._outputs, specs).items()
        }

    def _other(self, logged: LoggedFrame | str) -> Inputs | str:
        try:
            return logged if isinstance(logged, str) else self._answer(logged)
        except errors.DataError as e:
            return e.reason

    def _named(
        self,
        role: str,
        logged: Mapping[str, LoggedTensor],
        names: Mapping[str, tuple[str, str]],
        specs: Mapping[str, TensorSpec],
    ) -> Inputs:
        """Returns the logged tensors by the names that the cloud has for them; all of them must be there."""
        found = {}
        for name, known in names.items():
            tensor = next((logged[k] for k in known if k in logged), None)
            if tensor is None and len(names) == len(logged) == 1:  # of a function of the app, which has no names
                (tensor,) = logged.values()
            if tensor is None:
                raise errors.DataError(
                    f"the device logged the {role}s {sorted(logged)}, the model's {role} {name} ({known[0]}) is not "
                    "among them"
                )
            found[name] = _fit(f"{role} {name}", tensor, specs[name])
        return found


def _fit(place: str, tensor: LoggedTensor, spec: TensorSpec) -> np.ndarray:
    """Returns stored values in the model's own dtype, or real values, with batch axis."""
    value = tensor.value
    if value is None:
        raise errors.DataError(f"the device logged {place} as its hash")
    if not spec.fits(value.shape) and spec.fits((1, *value.shape)):
        value = value[np.newaxis]
    is_one = spec.fits(value.shape) and (spec.shape[:1] != (-1,) or value.shape[0] == 1)
    is_real = value.dtype.kind == "f" and spec.quantization is not None
    if not is_one or not (is_real or value.dtype.kind == spec.dtype.kind):
        raise errors.DataError(
            f"the device logged {place} as {tensor.dtype}{list(tensor.shape)}, which is not one frame of the model's "
            f"{spec.dtype}{list(spec.shape)}"
        )
    try:
        return value if is_real else spec.cast(value)
    except ValueError as e:
        raise errors.DataError(f"what the device logged of {place} {e}") from e
