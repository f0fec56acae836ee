import json
import os
import shutil

import pytest
from exray_command import exray
from recorded_runs import Recorder

import edge_exray
from edge_exray import errors


@pytest.fixture
def record(tmp_path) -> Recorder:
    return Recorder(tmp_path)


def types(found: edge_exray.Lineage) -> set[str]:
    return {artifact.type.removeprefix("edge_exray.") for artifact in found.artifacts.values()}


def test_a_push_leads_back_to_all_that_it_rests_on(record, tmp_path):
    made = record.gate("1")
    found = edge_exray.lineage(record.database)
    push = found.push
    assert (push.pushed, push.reason, push.run, push.version) == (True, None, "1", "1")
    assert (push.destination, push.is_there) == (str(tmp_path / "serving/1"), True)
    assert {part: list(ids) for part, ids in found.parts.items()} == {
        "edge_model": [made["edge_model"]],
        "cloud_model": [made["model"]],
        "report": [made["report"]],
        "profile": [made["profile"]],
        "replay": [made["replay"]],
        "conversion": [made["conversion_report"]],
        "examples": [made["examples"]],
    }
    assert set(found.artifacts) == set(made.values())
    by_component = {execution.component: execution for execution in found.executions.values()}
    assert dict(by_component["EdgeReplay"].inputs) == {
        name: (made[name],) for name in ("model", "edge_model", "float_edge_model", "examples")
    }
    assert found.artifacts[made["replay"]].producer == by_component["EdgeReplay"].id
    assert (found.missing, found.gone, found.other_pushes, found.later_run) == ([], [], (), None)


@pytest.mark.parametrize(
    ("outcome", "reason", "checks"),
    [
        ({"model": 0}, "Layer 4 is wrong.", ("own_error", "label_flip_rate")),
        ({"infra": 0}, "It is slow.", ()),
        ({"model": 0, "infra": 0}, "Layer 4 is wrong. It is slow.", ("own_error", "label_flip_rate")),
    ],
)
def test_a_blocked_push_leads_to_its_reason(record, tmp_path, outcome, reason, checks):
    record.gate("1")
    record.gate("2", **outcome)
    push = edge_exray.lineage(record.database).push
    assert (str(push.outcome), push.run, push.reason, push.destination) == ("blocked", "2", reason, None)
    blessing = push.blessing("model_blessing")
    assert (blessing.component, blessing.failed_checks) == ("LayerValidator", checks)
    assert blessing.worst_layer == ("block/conv" if checks else None)
    assert blessing.page == str(tmp_path / "2/LayerValidator/report/report.html")
    assert push.blessing("infra_blessing").page == str(tmp_path / "2/KernelProfiler/profile/profile.html")


def test_a_model_is_found_by_whatever_names_it(record, tmp_path, monkeypatch):
    made = record.gate("1")
    other = record.gate("20", model=0)
    monkeypatch.chdir(tmp_path)
    edge = tmp_path / "1/EdgeConverter/edge_model"
    names = [
        tmp_path / "serving/1",
        "serving/1/",
        "serving/1/tflite",
        edge,
        f"{edge}/Format-Serving",
        made["edge_model"],
    ]
    # Of a model that was never to be pushed itself, what was made of it.
    for name in [*names, str(made["model"]), str(made["pushed_model"])]:
        found = edge_exray.lineage(record.database, name)
        assert (found.push.run, found.model) == ("1", made["edge_model"]), name
    assert edge_exray.lineage(record.database, other["edge_model"]).push.reason == "Layer 4 is wrong."
    alone = edge_exray.lineage(record.database, made["float_edge_model"])
    assert (alone.push, alone.model) == (None, made["float_edge_model"])
    assert types(alone) == {"Model", "Examples", "ConversionReport"}


def test_a_version_is_a_name_too(record):
    record.gate("1795316994")
    assert edge_exray.lineage(record.database, "1795316994").push.version == "1795316994"


def test_an_unknown_model_is_an_error_that_says_what_is_known(record, tmp_path):
    made = record.gate("1")
    for unknown in ("serving/2", "gs://bucket/serving/1", "77"):
        with pytest.raises(errors.ArtifactError, match=rf"does not know the model {unknown}.*{tmp_path}/serving/1"):
            edge_exray.lineage(record.database, unknown)
    with pytest.raises(errors.ArtifactError, match=r"is no Model.*edge_exray\.EdgeReplayResult"):
        edge_exray.lineage(record.database, made["replay"])


def test_a_number_that_no_database_holds_is_an_unknown_model(record):
    record.gate("1")
    with pytest.raises(errors.ArtifactError, match="does not know the model 99999999999999999999"):
        edge_exray.lineage(record.database, "99999999999999999999")


def test_all_pushes_of_one_model_are_told(record):
    first = record.gate("1")
    record.gate("2", model=0, cached=first)
    record.gate("3", cached=first)
    found = edge_exray.lineage(record.database, first["edge_model"])
    assert found.push.run == "3"
    assert [(push.run, str(push.outcome)) for push in found.other_pushes] == [("2", "blocked"), ("1", "pushed")]
    # What came from the cache was made by the first run.
    made_by = {a.type: found.executions[a.producer].run for a in found.artifacts.values()}
    assert (made_by["Model"], made_by["Examples"], made_by["edge_exray.EdgeReplayResult"]) == ("1", "1", "3")


def test_a_cloud_model_tells_of_all_edge_models_that_were_made_of_it(record):
    first = record.gate("1")
    second = record.gate("2", model=0, cached={name: first[name] for name in ("examples", "model")})
    found = edge_exray.lineage(record.database, first["model"])
    assert (found.push.run, str(found.push.outcome)) == ("2", "blocked")
    assert [(push.run, push.model) for push in found.other_pushes] == [("1", first["edge_model"])]
    assert (
        f"Model {first['edge_model']}, its sibling, was pushed"
        in exray("lineage", record.database, first["model"]).stdout
    )
    assert edge_exray.lineage(record.database, second["edge_model"]).other_pushes == ()


def test_a_push_from_the_cache_says_so(record):
    made = record.gate("1")
    record.begin("2")
    inputs = {name: made[name] for name in ("model_blessing", "infra_blessing")} | {"model": made["edge_model"]}
    record.execute("Pusher", inputs, {"pushed_model": made["pushed_model"]}, "CACHED")
    latest = edge_exray.lineage(record.database).push
    assert (latest.run, latest.cached) == ("2", True)
    assert "by an earlier run" in str(latest) or "nothing any more" in str(latest)
    by_path = edge_exray.lineage(record.database, record.folder / "serving/1")
    assert (by_path.push.run, by_path.push.cached) == ("1", False)
    assert "earlier" not in str(by_path.push)


def test_a_pipeline_without_a_profiler_lacks_a_profile_alone(record):
    record.gate("1", infra=None)
    found = edge_exray.lineage(record.database)
    assert (found.push.pushed, found.missing) == (True, ["profile"])
    assert found.push.blessing("infra_blessing") is None
    assert "not in the metadata of this push: profile" in exray("lineage", record.database).stdout


def test_what_was_deleted_is_told(record, tmp_path):
    made = record.gate("1")
    shutil.rmtree(tmp_path / "1/EdgeReplay")
    shutil.rmtree(tmp_path / "serving/1")
    found = edge_exray.lineage(record.database, tmp_path / "serving/1")
    assert [artifact.id for artifact in found.gone] == [made["replay"]]
    assert found.push.is_there is False
    told = exray("lineage", record.database).stdout
    assert f"There is nothing any more at {tmp_path}/serving/1." in told
    (line,) = (line for line in told.splitlines() if "/EdgeReplay/replay" in line)
    assert "gone" in line


def test_a_failed_push_and_one_that_never_ended_are_the_latest(record):
    made = record.gate("1")
    inputs = {"model": made["edge_model"], "model_blessing": made["model_blessing"]}
    for state, outcome in (("FAILED", "failed"), ("RUNNING", "unfinished")):
        record.begin(state)
        record.execute("Pusher", inputs, {}, state)
        push = edge_exray.lineage(record.database).push
        assert (str(push.outcome), push.run, push.destination) == (outcome, state, None)
        assert outcome in push.reason


def test_a_later_run_that_did_not_push_is_told(record):
    made = record.gate("1")
    record.begin("2")
    record.execute("LayerValidator", {"replay": made["replay"]}, {}, "FAILED")
    found = edge_exray.lineage(record.database)
    assert found.push.run == "1"
    assert "The latest run, 2, did not get as far as a push: LayerValidator failed" in found.later_run


def test_without_any_push_the_error_says_how_far_it_got(record):
    with pytest.raises(errors.ArtifactError, match="no run"):
        edge_exray.lineage(record.database)
    record.gate("1", push=False)
    with pytest.raises(errors.ArtifactError, match="1, did not get as far as a push: it ended with LayerValidator"):
        edge_exray.lineage(record.database)


def test_a_baseline_is_no_ancestor(record):
    first = record.gate("1")
    second = record.gate("2", baseline=first["report"])
    found = edge_exray.lineage(record.database)
    assert found.parts["report"] == (second["report"],)
    assert first["report"] in found.artifacts
    assert {execution.run for execution in found.executions.values()} == {"2"}


def test_the_command_shows_each_artifact_once_with_its_branches(record):
    made = record.gate("1", model=0)
    result = exray("lineage", record.database)
    assert result.returncode == 0
    assert result.stdout.startswith("blocked")
    for told in ("not blessed by LayerValidator: Layer 4 is wrong.", "own_error, label_flip_rate", "block/conv"):
        assert told in result.stdout
    uris = [artifact.uri for artifact in edge_exray.lineage(record.database).artifacts.values() if artifact.uri]
    pushed_model = next(uri for uri in uris if uri.endswith("pushed_model"))
    lines = result.stdout.splitlines()
    for uri in set(uris) - {pushed_model}:
        assert sum(f" {uri}" in line and "report: " not in line for line in lines) == 1, uri

    document = json.loads(exray("lineage", record.database, made["edge_model"], "--json").stdout)
    assert (document["push"]["outcome"], document["push"]["reason"]) == ("blocked", "Layer 4 is wrong.")
    assert {artifact["id"] for artifact in document["artifacts"]} == set(made.values())


def test_the_database_is_only_read(record):
    record.gate("1")
    os.chmod(record.database, 0o444)
    before = record.database.read_bytes()
    edge_exray.lineage(record.database)
    assert record.database.read_bytes() == before
    assert {path.suffix for path in record.folder.iterdir() if path.is_file()} == {".sqlite"}
