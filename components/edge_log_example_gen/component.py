"""EdgeLogExampleGen: makes examples of what devices logged, for TFX's own components."""

import json
from collections.abc import Mapping

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from edge_exray import errors
from edge_exray.components.edge_log_example_gen import executor
from edge_exray.components.types import EdgeLogs
from edge_exray.version import __version__


class EdgeLogExampleGenSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of EdgeLogExampleGen."""

    INPUTS = {  # noqa: RUF012
        "device_logs": component_spec.ChannelParameter(type=EdgeLogs),
    }
    OUTPUTS = {  # noqa: RUF012
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    PARAMETERS = {  # noqa: RUF012
        "split": component_spec.ExecutionParameter(type=str),
        "names": component_spec.ExecutionParameter(type=str),
        "layers": component_spec.ExecutionParameter(type=int),
        "library_version": component_spec.ExecutionParameter(type=str),
    }


class EdgeLogExampleGen(base_component.BaseComponent):
    """Makes an Examples artifact of device logs, so that StatisticsGen and ExampleValidator find drift in the field.

    ## Example

    ```python
    content = {"content": fingerprint("field/logs")}  # of edge_exray.components: new logs are new to TFX's cache
    logs = tfx.dsl.Importer("field/logs", edge_exray.EdgeLogs, custom_properties=content).with_id("logs")
    field = EdgeLogExampleGen(device_logs=logs.outputs["result"], names={"raw/grams": "grams"})
    statistics = StatisticsGen(examples=field.outputs["examples"]).with_id("field_statistics")
    anomalies = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema_gen.outputs["schema"])
    ```

    Component `outputs` contains:

    - `examples`: Channel of type `Examples` with one split of gzipped TFRecords, a tf.Example a frame: `raw/NAME`,
      `input/NAME` and `output/NAME` as flat real values, `user/KEY`, `span_ns/STAGE`, and `exray/...`.

    Args:
        device_logs: Channel of type `edge_exray.EdgeLogs`.
        split: Name of the split.
        names: Feature to the name that it gets instead, as training data calls it; one schema then describes both.
        layers: Whether the layers come along, as `layer/INDEX/TENSOR`.

    Raises:
        SpecError: The split has no name, or two features get the same.
    """

    SPEC_CLASS = EdgeLogExampleGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        device_logs: types.BaseChannel,
        split: str = "field",
        names: Mapping[str, str] | None = None,
        layers: bool = False,
    ) -> None:
        names = dict(names or {})
        if not split:
            raise errors.SpecError("EdgeLogExampleGen: the split needs a name")
        if len(set(names.values())) < len(names):
            raise errors.SpecError(f"EdgeLogExampleGen: names gives two features the same name: {names}")
        super().__init__(
            spec=EdgeLogExampleGenSpec(
                device_logs=device_logs,
                split=split,
                names=json.dumps(names, sort_keys=True),
                layers=int(layers),
                # Part of the cache key, which knows nothing of the executor's code.
                library_version=__version__,
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )
