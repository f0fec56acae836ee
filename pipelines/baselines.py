"""How a pipeline comes by its baseline: the report and the profile of the model that was blessed last."""

import dataclasses

from tfx import types
from tfx.dsl.components.base import base_node
from tfx.dsl.components.common import importer, resolver

from edge_exray.components import LatestBlessedStrategy
from edge_exray.components.types import KernelProfile, LayerReport


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What new models are compared with; as it is made by default, with nothing.

    Attributes:
        report: Channel for the `baseline_report` of LayerValidator.
        profile: Channel for the `baseline_profile` of KernelProfiler, whose `profile_spec` then needs a
            `max_latency_growth`.
        nodes: What provides them: further components of the pipeline.
    """

    report: types.BaseChannel | None = None
    profile: types.BaseChannel | None = None
    nodes: tuple[base_node.BaseNode, ...] = ()


def last_blessed(*, report: bool = True, profile: bool = False) -> Baseline:
    """Returns the baseline that ML Metadata knows, found anew in each run; there is none before the first blessing.

    Kubeflow Pipelines runs no resolvers: give `imported` there.

    Args:
        report: Whether to compare with the report.
        profile: Whether to compare with the profile.
    """
    channels = {"report": LayerReport} if report else {}
    channels |= {"profile": KernelProfile} if profile else {}
    if not channels:
        return Baseline()
    node = resolver.Resolver(
        strategy_class=LatestBlessedStrategy, **{name: types.Channel(type=kind) for name, kind in channels.items()}
    ).with_id("baseline")
    return Baseline(**{name: node.outputs[name] for name in channels}, nodes=(node,))


def imported(*, report: str | None = None, profile: str | None = None) -> Baseline:
    """Returns a baseline from given places, for orchestrators without resolvers.

    Args:
        report: URI of an `edge_exray.LayerReport`, the folder of its `report.json`; None for no comparison.
        profile: URI of an `edge_exray.KernelProfile`, the folder of its `profile.json`; None for no comparison.
    """
    nodes = {
        name: importer.Importer(source_uri=uri, artifact_type=kind).with_id(f"baseline_{name}")
        for name, uri, kind in (("report", report, LayerReport), ("profile", profile, KernelProfile))
        if uri
    }
    return Baseline(**{name: node.outputs["result"] for name, node in nodes.items()}, nodes=tuple(nodes.values()))
