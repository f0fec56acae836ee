import json

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2

from edge_exray import errors
from edge_exray.pipelines import run_record

TYPES = ("PushedModel", "ModelBlessing", "InfraBlessing", "edge_exray.LayerReport", "edge_exray.KernelProfile")


@pytest.fixture
def layout(tmp_path):
    return run_record.Layout(tmp_path)


@pytest.fixture
def record_run(layout):
    """Returns a function that writes a run as the components do; its artifacts have the given custom properties."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(layout.metadata)
    connection.sqlite.connection_mode = connection.sqlite.READWRITE_OPENCREATE
    store = mlmd.MetadataStore(connection)
    run_type = store.put_context_type(metadata_store_pb2.ContextType(name="pipeline_run"))
    node_type = store.put_execution_type(metadata_store_pb2.ExecutionType(name="Node"))
    types = {name: store.put_artifact_type(metadata_store_pb2.ArtifactType(name=name)) for name in TYPES}

    def write(name, properties, documents):
        for key, document in documents.items():
            (layout.root / name).mkdir(exist_ok=True)
            (layout.root / name / key).write_text(json.dumps(document))
        events = []
        for type_name, values in properties.items():
            artifact = metadata_store_pb2.Artifact(type_id=types[type_name], uri=str(layout.root / name))
            for key, value in values.items():
                setattr(
                    artifact.custom_properties[key], "int_value" if isinstance(value, int) else "string_value", value
                )
            events.append((artifact, metadata_store_pb2.Event(type=metadata_store_pb2.Event.OUTPUT)))
        run = metadata_store_pb2.Context(type_id=run_type, name=name)
        store.put_execution(metadata_store_pb2.Execution(type_id=node_type), events, [run])

    return write


def outcome(pushed, model, infra):
    destination = {"pushed_destination": "/serving/1"} if pushed else {}
    return {
        "PushedModel": {"pushed": pushed, **destination},
        "ModelBlessing": {"blessed": model},
        "InfraBlessing": {"blessed": infra},
        "edge_exray.LayerReport": {},
        "edge_exray.KernelProfile": {},
    }


def documents(*verdicts):
    checks = [{"verdict": v, "message": f"check {i} {v}"} for i, v in enumerate(verdicts)]
    return {"report.json": {"checks": checks}, "profile.json": {"checks": [{"verdict": "failed", "message": "slow"}]}}


def test_a_pushed_run(layout, record_run):
    record_run("one", outcome(1, 1, 1), documents("passed"))
    record = run_record.latest_run(layout)
    assert (record.pushed, record.destination, record.model_blessed, record.infra_blessed) == (
        True,
        "/serving/1",
        True,
        True,
    )
    assert record.reasons() == []


def test_the_last_run_counts_and_says_why_it_was_blocked(layout, record_run):
    record_run("one", outcome(1, 1, 1), documents("passed"))
    record_run("two", outcome(0, 0, 1), documents("passed", "failed", "inconclusive"))
    record = run_record.latest_run(layout)
    assert (record.run_id, record.pushed, record.destination) == ("two", False, None)
    assert record.reasons() == ["check 1 failed", "check 2 inconclusive"]


def test_a_blown_budget_is_a_reason(layout, record_run):
    record_run("one", outcome(0, 1, 0), documents("passed"))
    assert run_record.latest_run(layout).reasons() == ["slow"]


def test_no_metadata_and_an_unfinished_run_are_errors(layout, record_run):
    with pytest.raises(errors.ArtifactError, match="no pipeline run"):
        run_record.latest_run(layout)
    unfinished = outcome(0, 1, 1)
    del unfinished["PushedModel"]
    record_run("one", unfinished, documents())
    with pytest.raises(errors.ArtifactError, match="has no PushedModel"):
        run_record.latest_run(layout)
    with pytest.raises(errors.ArtifactError, match="run the pipeline first"):
        run_record.latest_run(run_record.Layout(layout.root / "elsewhere"))
