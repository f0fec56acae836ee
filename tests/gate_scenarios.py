"""What the gate is shown: a healthy model in every form, and the same model with one fault at a time."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any
from unittest import mock

import tampering
from tfx import types
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils

from edge_exray.components import EdgeConverter, artifacts
from edge_exray.components.edge_converter import executor
from edge_exray.pipelines import local_runner, run_record
from edge_exray.profiling.spec import ProfileSpec

TAMPERED_OP = 4


class TamperingExecutor(executor.Executor):
    """Converts, and then spoils the weights of one convolution of the edge model, not of its float twin."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        super().Do(input_dict, output_dict, exec_properties)
        path = pathlib.Path(artifacts.tflite_path(artifact_utils.get_single_instance(output_dict["edge_model"])))
        path.write_bytes(tampering.scale_weights(path.read_bytes(), TAMPERED_OP, 0.5))


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One run of the demo pipeline.

    Attributes:
        name: What is special about it.
        options: Arguments of `create_pipeline`.
        cause: The first check that must fail; None when the model is to be pushed.
        words: What the message of that check must say.
        converter: Executor that takes the place of EdgeConverter's own.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cause: str | None = None
    words: str = ""
    converter: type[executor.Executor] = executor.Executor

    def run(self, root: str | os.PathLike[str], **options: Any) -> run_record.RunRecord:
        """Runs the pipeline; see `edge_exray.pipelines.local_runner.run_pipeline`."""
        converter = executor_spec.ExecutorClassSpec(self.converter)
        with mock.patch.object(EdgeConverter, "EXECUTOR_SPEC", converter):
            return local_runner.run_pipeline(root, **self.options, **options)

    def judge(self, record: run_record.RunRecord) -> str | None:
        """Returns what the gate got wrong, or None."""
        if record.pushed != (self.cause is None):
            return "was pushed" if record.pushed else f"was blocked: {' '.join(record.reasons())}"
        found = first_failure(record)
        if self.cause and (found.get("name") != self.cause or self.words not in found.get("message", "")):
            return f"{found} does not name {self.cause}, {self.words!r}"
        return None


HEALTHY = tuple(Scenario(mode, {"quantization": mode}) for mode in ("none", "float16", "dynamic_range", "int8"))

_FAULTS = "edge_exray.pipelines.faults"
FAULTS = (
    Scenario(
        "the app feeds BGR",
        {"app_module_path": f"{_FAULTS}.bgr"},
        cause="preprocessing",
        words="reversed channels (BGR instead of RGB)",
    ),
    Scenario(
        "the app feeds [0, 1] instead of [-1, 1]",
        {"app_module_path": f"{_FAULTS}.unit_scale"},
        cause="preprocessing",
        words="wrong scale: [0, 1] instead of [-1, 1]",
    ),
    Scenario(
        "calibrated on [0, 1] instead of [-1, 1]",
        {"module_path": f"{_FAULTS}.calibration_scale"},
        cause="calibration_range",
        words="was calibrated for [0, 1], but the reference inputs span [-1, 1]",
    ),
    Scenario(
        "weights of one convolution halved",
        cause="own_error",
        words=f"An op is wrong by itself, layer {TAMPERED_OP} CONV_2D",
        converter=TamperingExecutor,
    ),
)


def over_budget(healthy: run_record.RunRecord) -> Scenario:
    """A latency budget far below what was measured of the healthy model."""
    (latency,) = (m["latency_ms"]["p50"] for m in healthy.profile()["models"] if m["role"] == "edge")
    budget = round(latency / 10, 6)
    spec = ProfileSpec(max_latency_ms=budget).to_json()
    return Scenario(
        "a tenth of its latency as budget", {"profile_spec": spec}, "latency_p50", f"budget of {budget:g} ms"
    )


def first_failure(record: run_record.RunRecord) -> dict[str, Any]:
    """Returns the first check that failed, of LayerValidator before KernelProfiler; empty when none did."""
    checks = record.report()["checks"] + record.profile()["checks"]
    return next((check for check in checks if check["verdict"] == "failed"), {})
