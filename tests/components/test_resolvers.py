"""The report or profile of the last blessed model, found by a resolver in a pipeline that really runs."""

import pathlib

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from edge_exray.components import LatestBlessedStrategy
from edge_exray.components.types import KernelProfile, LayerReport


@component
def Validator(  # noqa: N802
    report: OutputArtifact[LayerReport],
    blessed: Parameter[int],
    seen: Parameter[str],
    baseline: InputArtifact[LayerReport] = None,
) -> None:
    """Stands in for LayerValidator: marks its report as that does, and tells which baseline it was given."""
    pathlib.Path(seen).write_text(baseline.uri if baseline else "none")
    report.set_int_custom_property("blessed", blessed)


def test_a_resolver_finds_the_last_blessed_report(tmp_path):
    seen = tmp_path / "seen"
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))

    def run(blessed: int) -> str:
        baseline = Resolver(strategy_class=LatestBlessedStrategy, report=types.Channel(type=LayerReport)).with_id(
            "baseline"
        )
        validator = Validator(blessed=blessed, seen=str(seen), baseline=baseline.outputs["report"])
        LocalDagRunner().run(
            pipeline.Pipeline(
                pipeline_name="gate",
                pipeline_root=str(tmp_path / "root"),
                components=[baseline, validator],
                metadata_connection_config=connection,
                enable_cache=False,
            )
        )
        return seen.read_text()

    def reports() -> list[str]:
        with metadata.Metadata(connection) as store:
            found = store.store.get_artifacts_by_type(LayerReport.TYPE_NAME)
            states = {artifact.state for artifact in found}
            assert states == {metadata_store_pb2.Artifact.LIVE}
            return [artifact.uri for artifact in sorted(found, key=lambda artifact: artifact.id)]

    assert run(blessed=1) == "none"
    assert run(blessed=0) == reports()[0]
    assert run(blessed=1) == reports()[0]
    assert run(blessed=0) == reports()[2]


@pytest.mark.parametrize("kind", [LayerReport, KernelProfile])
def test_each_channel_has_its_own_and_none_is_none(kind):
    def report(
        artifact_id: int, blessed: int | None, model: int | None = None, devices: str | None = None
    ) -> types.Artifact:
        made = kind()
        made.id = artifact_id
        if blessed is not None:
            made.set_int_custom_property("blessed", blessed)
        if model is not None:
            made.set_int_custom_property("current_model_id", model)
        if devices is not None:
            made.set_string_custom_property("devices", devices)
        return made

    channels = {
        "one": [report(3, 1), report(9, 0), report(7, 1)],
        "two": [report(4, None)],
        "three": [],
        "the same model again": [report(3, 1, 1), report(4, 0, 2), report(8, 1, 2), report(6, 1, 2), report(9, 0, 3)],
        "then with a phone": [report(3, 1, 1, ""), report(4, 1, 1, "phone")],
        "and from the cache": [report(3, 1, 1, ""), report(4, 1, 1, "phone"), report(5, 1, 1, "phone")],
        "then without one": [report(2, 1, 1), report(3, 1, 1, "phone"), report(4, 1, 1, "")],
    }
    found = LatestBlessedStrategy().resolve_artifacts(None, channels)
    assert {name: [artifact.id for artifact in artifacts] for name, artifacts in found.items()} == {
        "one": [7],
        "two": [],
        "three": [],
        "the same model again": [6],
        "then with a phone": [4],
        "and from the cache": [4],
        "then without one": [2],
    }
