"""Runs cloud, float edge and edge model on a frame and compares them, leg by leg and layer by layer."""

import concurrent.futures
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.drift.comparison import compare_each
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.drift.values import Values
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import Frame, Inputs, UserFunctions
from edge_exray.models.alignment import Alignment, align
from edge_exray.models.interface import pair_interface
from edge_exray.models.metadata import detach
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tensors import TensorSpec
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.contracts import broken, contract_of
from edge_exray.replay.device_leg import DeviceLeg
from edge_exray.replay.device_logs import LoggedExample
from edge_exray.replay.environments import Environments
from edge_exray.replay.kernel_leg import KernelLeg
from edge_exray.replay.origin import origin
from edge_exray.replay.own_error import OwnError, OwnErrorSummary
from edge_exray.replay.sampling import Sampling
from edge_exray.replay.statistics import ALL_FRAMES, Key, ReplayStatistics

ALIGNMENT_FRAMES = 2
"""Frames on which the pairing of layers is confirmed."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What both sides answered on one frame.

    Attributes:
        frame: The frame; its inputs are dropped.
        cloud: Output name to array with batch axis: the cloud model on the reference inputs.
        edge: The same of the edge model on the edge inputs, here or on the device whose log is replayed: what a user of
            the app sees.
        nrmse: Output name to normalised RMSE between the two, see `DriftStatistics.nrmse`.
        rmse: Output name to RMSE between the two; infinite where a value of one side is not finite.
        environments: Name of each other environment, variant and device to output name to array, or why it gave no
            answer.
    """

    frame: Frame
    cloud: Inputs
    edge: Inputs
    nrmse: dict[str, float]
    rmse: dict[str, float]
    environments: Mapping[str, Inputs | str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ModelPaths:
    """The three models of a replay; they are opened anew in each process.

    Attributes:
        cloud: Directory of the SavedModel.
        float_edge: Path of the float .tflite.
        edge: Path of the .tflite that ships.
        signature: Name of the cloud signature; None takes the only one with dense inputs.
    """

    cloud: str
    float_edge: str
    edge: str
    signature: str | None = None


class Replayer:
    """Replays frames through the three models and gathers statistics.

    Three legs run, each with one cause: *conversion* (cloud against float edge model), *quantization* (float edge
    against edge model), both on the reference inputs, and *preprocessing* (reference against edge inputs, and what
    that does to the outputs of the edge model).

    Args:
        paths: The models.

    Raises:
        ModelError: A model does not load, or inputs or outputs of the models do not pair, see `pair_interface`.
    """

    def __init__(self, paths: ModelPaths) -> None:
        self.cloud = CloudModel(paths.cloud, paths.signature)
        self.float_edge = EdgeModel(paths.float_edge, preserve_tensors=True, signature=self.cloud.signature)
        self.edge = EdgeModel(paths.edge, preserve_tensors=True, signature=self.cloud.signature)
        _require_numbers(self.edge)
        # What the device runs: nothing is kept, and ops may be fused.
        self._shipped = EdgeModel(paths.edge, signature=self.cloud.signature)
        self.interface = pair_interface(self.cloud, self.edge)
        for model, interface in (
            (self.edge, self.interface),
            (self._shipped, self.interface),
            (self.float_edge, pair_interface(self.cloud, self.float_edge)),
        ):
            model.rename(interface.inputs, interface.outputs)
        self.kernels = KernelLeg(self.edge, self.cloud.signature)
        self.environments = Environments(self.edge, self.interface, self.cloud.signature)
        self.sampling = Sampling()
        self._beside = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self.contract = contract_of(self.edge)
        # The twin may have been made again, without the contract.
        self.is_quantized = detach(self.edge.content) != detach(self.float_edge.content)
        self._device = DeviceLeg(self.edge, self.float_edge if self.is_quantized else None, self.interface.outputs)
        self._alignment: Alignment | None = None
        self._cloud_tensors: list[str] = []
        self._own: OwnError | None = None
        self.own_error = OwnErrorSummary("the edge model is its own float twin")

    @property
    def alignment(self) -> Alignment | None:
        """How the layers are paired; setting it prepares the legs that look at layers."""
        return self._alignment

    @alignment.setter
    def alignment(self, alignment: Alignment) -> None:
        if alignment == self._alignment:
            return
        if self.is_quantized:
            try:
                self._own = OwnError(self.float_edge, self.edge, alignment, self.cloud.signature)
                self.own_error = OwnErrorSummary(None, self._own.absent)
            except errors.ModelError as e:
                self.own_error = OwnErrorSummary(str(e))
        self._alignment = alignment
        self._cloud_tensors = sorted({layer.cloud_tensor for layer in alignment.layers if layer.cloud_tensor})

    def align(self, frames: Sequence[Frame]) -> Alignment:
        """Pairs the layers of the models, confirmed on the reference inputs of some frames."""
        feeds = [frame.reference for frame in frames]
        self.alignment = alignment = align(self.cloud, self.float_edge, self.edge, feeds)
        if self._own:
            self.own_error = OwnErrorSummary(None, self._own.absent, self._own.rounding(feeds))
        return alignment

    def input_ranges(self) -> dict[str, tuple[float, float]]:
        """Returns the name of each quantised edge input and the values that it can represent."""
        specs = self.edge.inputs.items()
        return {
            name: spec.quantization.range(spec.dtype) for name, spec in specs if _is_narrow(spec) and spec.quantization
        }

    def input_readers(self) -> dict[str, list[int]]:
        """Returns the name of each edge input and the indices of the ops that read it."""
        return {
            name: [op.index for op in self.edge.graph.ops if tensor in op.inputs]
            for name, tensor in self.edge.input_tensors().items()
        }

    def frame(self, example: Example, functions: UserFunctions, slice_keys: Sequence[str] = ()) -> Frame:
        """Makes the frame of an example; the edge side of a logged one is what the device logged.

        Raises:
            ModuleError: A function of the user failed or returned something that does not fit the model.
            DataError: The example lacks a feature, or a feature or tensor does not fit the model.
        """
        if isinstance(example, LoggedExample):
            return self._device.frame(example, functions, self.cloud.inputs, slice_keys)
        return functions.frame(example, self.cloud.inputs, self.edge.inputs, slice_keys)

    def replay(self, frame: Frame, statistics: ReplayStatistics) -> Prediction:
        """Runs one frame through all models.

        Args:
            frame: The frame.
            statistics: What is learned is added here.

        Returns:
            The outputs of both sides.

        Raises:
            ValueError: `alignment` was neither set nor made.
        """
        if self.alignment is None:
            raise ValueError("align() comes before replay()")
        slices = [ALL_FRAMES, *(f"{key}:{value}" for key, value in frame.slices.items())]
        quantized_outputs = self._shipped.infer(frame.reference)
        if self.sampling.takes_layers(frame.id):
            cloud_outputs, float_outputs = self._replay_layers(statistics, slices, frame, quantized_outputs)
        else:
            cloud_outputs, _ = self.cloud.infer(frame.reference)
            float_outputs = self.float_edge.infer(frame.reference) if self.is_quantized else quantized_outputs
        if self.sampling.takes_kernels(frame.id):
            self.kernels.compare(frame.reference, statistics, slices)
        edge_outputs, app_outputs = self._replay_app(frame, quantized_outputs, statistics, slices)
        legs = {
            "conversion": (cloud_outputs, float_outputs),
            "preprocessing": (quantized_outputs, app_outputs),
        }
        if self.is_quantized:
            legs["quantization"] = (float_outputs, quantized_outputs)
        for leg, (reference, edge) in legs.items():
            _compare_outputs(statistics, slices, leg, reference, edge)
        environments = self._replay_environments(frame)
        nrmse, rmse = {}, {}
        for name in self.edge.outputs:
            drift = DriftStatistics()
            drift.update(cloud_outputs[name], edge_outputs[name])
            nrmse[name] = drift.nrmse
            rmse[name] = drift.rmse if drift.finite == drift.values else math.inf
        bare = dataclasses.replace(frame, reference={}, edge={}, variants={}, record=None)
        return Prediction(bare, cloud_outputs, edge_outputs, nrmse, rmse, environments)

    def close(self) -> None:
        """Ends child processes."""
        self.kernels.close()
        self.environments.close()

    def _replay_app(
        self, frame: Frame, on_reference: Inputs, statistics: ReplayStatistics, slices: Sequence[str]
    ) -> tuple[Inputs, Inputs]:
        """Returns what a user of the app sees, and what the edge model here answers to the app's inputs.

        Args:
            frame: The frame.
            on_reference: What the edge model here answers to the reference inputs.
            statistics: What is learned is added here.
            slices: The slices that the frame belongs to.
        """
        if frame.edge is None:
            # The app's inputs and the device's kernels differ at once: nothing lies between the two answers.
            assert frame.record is not None
            return frame.record.outputs, frame.record.outputs
        self._compare_inputs(statistics, slices, frame.reference, frame.edge)
        here = on_reference if frame.edge is frame.reference else self._shipped.infer(frame.edge)
        if frame.record is None:
            return here, here
        assert self._alignment is not None
        layers = self._alignment.layers if self.sampling.takes_layers(frame.id) else ()
        self._device.compare(frame, here, statistics, slices, layers)
        return frame.record.outputs, here

    def _replay_environments(self, frame: Frame) -> dict[str, Inputs | str]:
        answers = self.environments.answers(frame.edge) if frame.edge is not None else {}
        if clash := sorted(answers.keys() & frame.variants):
            raise errors.ModuleError(
                f"edge_variants_fn names variants like the environments {clash}: name them otherwise"
            )
        answers |= {name: self._shipped.infer(inputs) for name, inputs in frame.variants.items()}
        others = frame.record.others if frame.record else {}
        if clash := sorted(answers.keys() & others):
            raise errors.DataError(f"devices are named like environments or variants, {clash}: name these otherwise")
        return {**answers, **others}

    def _replay_layers(
        self, statistics: ReplayStatistics, slices: Sequence[str], frame: Frame, shipped: Inputs
    ) -> tuple[Inputs, Inputs]:
        """Compares the layers of a frame, and returns the outputs of the cloud and of the float edge model."""
        assert self._alignment is not None
        # The model with the ops of the edge model in it computes what the float edge model does.
        float_edge = self._own.model if self._own else self.float_edge
        # TensorFlow and LiteRT let go of Python's lock while they run: where there are two cores, both do.
        pending = self._beside.submit(self.cloud.infer, frame.reference, self._cloud_tensors)
        float_outputs = float_edge.infer(frame.reference)
        watched = self.edge.infer(frame.reference) if self.is_quantized else float_outputs
        cloud_outputs, cloud_values = pending.result()
        self._compare_layers(statistics, slices, cloud_values, float_edge)
        _compare_outputs(statistics, slices, "instrumentation", shipped, watched)
        return cloud_outputs, float_outputs

    def _compare_layers(
        self,
        statistics: ReplayStatistics,
        slices: Sequence[str],
        cloud_values: Mapping[str, np.ndarray],
        float_edge: EdgeModel,
    ) -> None:
        assert self.alignment is not None
        for layer in self.alignment.layers:
            if layer.float_tensor is None:
                continue
            # Views of the models' memory: LiteRT refuses to run again while one is alive, so none may outlive this.
            float_values = Values(float_edge.tensor(layer.float_tensor))
            runs: dict[tuple[str, str], Values] = {}
            if self.is_quantized:
                runs["quantization", "layer"] = Values(self.edge.tensor(layer.tensor), layer.spec)
            if self._own and layer.index in self._own.tensors:
                runs["quantization", "own"] = Values(float_edge.tensor(self._own.tensors[layer.index]), layer.spec)
            if layer.cloud_tensor:
                runs["conversion", "layer"] = Values(cloud_values[layer.cloud_tensor])
            # All at once, so that the float values are read once.
            compared = compare_each(float_values, list(runs.values()))
            for ((leg, kind), values), comparison in zip(runs.items(), compared, strict=True):
                pair = (float_values, values, comparison)
                if leg == "conversion":
                    pair = (values, float_values, comparison.mirrored())
                statistics.add(leg, slices, kind, str(layer.index), *pair)

    def _compare_inputs(
        self, statistics: ReplayStatistics, slices: Sequence[str], reference_inputs: Inputs, edge_inputs: Inputs
    ) -> None:
        fed = {name: spec.fed(edge_inputs[name]) for name, spec in self.edge.inputs.items()}
        for name, spec in self.edge.inputs.items():
            for part in slices:
                channels = statistics.at(Key("preprocessing", part, "input", name))
                channels.update(reference_inputs[name], fed[name], _representable(spec))
        if self.contract:
            reference = broken(self.contract, reference_inputs)
            edge = reference if edge_inputs is reference_inputs else broken(self.contract, fed)
            for name in self.contract.inputs:
                for part in slices:
                    statistics.at(Key("preprocessing", part, "contract", name)).update(reference[name], edge[name])


def _compare_outputs(
    statistics: ReplayStatistics, slices: Sequence[str], leg: str, reference: Inputs, edge: Inputs
) -> None:
    for name, value in edge.items():
        statistics.compare(leg, slices, "output", name, Values(reference[name]), Values(value))


def describe_models(paths: ModelPaths, replayer: Replayer) -> dict[str, Any]:
    """Returns the `models` section of `schemas/report.schema.json`."""
    from edge_exray.models import saved_model

    cloud = replayer.cloud
    return {
        "cloud": {
            "path": paths.cloud,
            "fingerprint": cloud.fingerprint,
            "bytes": saved_model.size(paths.cloud),
            "signature": cloud.signature,
        },
        "float_edge": _describe_edge(replayer.float_edge),
        "edge": {**_describe_edge(replayer.edge), "interface": dataclasses.asdict(replayer.interface)},
    }


def _describe_edge(model: EdgeModel) -> dict[str, Any]:
    description = {"path": model.path, "fingerprint": model.fingerprint, "bytes": model.bytes}
    made = origin(model)
    return {**description, "conversion": made} if made else description


def _representable(spec: TensorSpec) -> tuple[float, float] | None:
    if not spec.quantization or not _is_narrow(spec):
        return None
    low, high = spec.quantization.range(spec.dtype)
    step = max(spec.quantization.scale)
    return low - step, high + step


def _require_numbers(edge: EdgeModel) -> None:
    texts = [name for specs in (edge.inputs, edge.outputs) for name, spec in specs.items() if spec.dtype == object]
    if texts:
        raise errors.ModelError(
            f"{edge.path} takes or gives text, {texts}, which has no drift to measure: turn text into numbers outside "
            "the signature that the device runs"
        )


def _is_narrow(spec: TensorSpec) -> bool:
    """True for 8 and 16 bit integers; wider quantised tensors hold accumulators and are never clipped."""
    return spec.quantization is not None and spec.dtype.itemsize <= 2
