"""Artifact types of the components.

Their TYPE_NAME is importable (`edge_exray.EdgeReplayResult`), which is how Kubeflow Pipelines v2 finds the
class again. Facts for lineage are custom properties: declared PROPERTIES break TFX's Kubeflow compiler.
"""

from tfx.types import artifact


class ConversionReport(artifact.Artifact):
    """How an edge model was made: `conversion.json`."""

    TYPE_NAME = "edge_exray.ConversionReport"


class EdgeReplayResult(artifact.Artifact):
    """Everything that was learned by running cloud and edge model on the same frames."""

    TYPE_NAME = "edge_exray.EdgeReplayResult"


class EdgeLogs(artifact.Artifact):
    """A directory of logs that `edge_exray.EdgeMonitor` and its C++ and Java twins wrote, see `schemas/edge_log.md`."""

    TYPE_NAME = "edge_exray.EdgeLogs"


class LayerReport(artifact.Artifact):
    """`report.html`, `report.json`, `summary.md`, `junit.xml` and `model_explorer/` of a validation."""

    TYPE_NAME = "edge_exray.LayerReport"


class KernelProfile(artifact.Artifact):
    """`profile.json`, `profile.html`, `chrome_trace.json` and `model_explorer/` of a profiling.

    `edge_exray.Profile` reads its `profile.json`.
    """

    TYPE_NAME = "edge_exray.KernelProfile"
