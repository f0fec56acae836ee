"""The gate as a whole: the demo pipeline, and what ML Metadata says afterwards."""

import pathlib

import gate_scenarios
import ml_metadata as mlmd
import pytest
import rich.console
import yaml
from ml_metadata.proto import metadata_store_pb2

import edge_exray
from edge_exray.models.tflite import EdgeModel
from edge_exray.pipelines import kubeflow_dry_run, kubeflow_runner, pipeline, run_record, task_processes, tiles

pytestmark = pytest.mark.pipeline

# Enough for a model that the thresholds fit, in a fraction of the demo's time.
TRAIN_STEPS = 80
TILES_PER_CLASS = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a scenario; all share one root, hence the trained model."""
    root = tmp_path_factory.mktemp("gate")
    tiles.write_tfrecords(root / "tiles", tiles_per_class=TILES_PER_CLASS)

    def run_scenario(scenario: gate_scenarios.Scenario) -> run_record.RunRecord:
        return scenario.run(root, data_root=root / "tiles", train_steps=TRAIN_STEPS)

    run_scenario.layout = run_record.Layout(root)
    return run_scenario


@pytest.fixture(scope="module")
def healthy(run) -> run_record.RunRecord:
    return run(gate_scenarios.HEALTHY[-1])


def artifacts_of(layout: run_record.Layout, record: run_record.RunRecord) -> dict[str, list]:
    """The artifacts of a run by type, from the metadata."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(layout.metadata)
    connection.sqlite.connection_mode = connection.sqlite.READONLY
    store = mlmd.MetadataStore(connection)
    context = store.get_context_by_type_and_name("pipeline_run", record.run_id)
    found: dict[str, list] = {}
    for artifact in store.get_artifacts_by_context(context.id):
        found.setdefault(artifact.type, []).append(artifact)
    return found


def plain(artifact) -> dict[str, str | int | float]:
    return {name: getattr(v, v.WhichOneof("value")) for name, v in artifact.custom_properties.items()}


def test_a_healthy_model_is_pushed_without_a_word(run, healthy):
    assert gate_scenarios.HEALTHY[-1].judge(healthy) is None
    report = healthy.report()
    assert {check["verdict"] for check in report["checks"]} == {"passed"}
    assert (report["suspects"], healthy.reasons()) == ([], [])
    assert report["accuracy"]["cloud"] > 0.6
    assert report["accuracy"]["edge"] == pytest.approx(report["accuracy"]["cloud"], abs=0.02)

    # What was pushed is the model that was judged.
    (pushed,) = pathlib.Path(healthy.destination).rglob("tflite")
    assert EdgeModel(pushed).fingerprint == report["models"]["edge"]["fingerprint"]


def test_the_blessing_tells_its_story(run, healthy):
    artifacts = artifacts_of(run.layout, healthy)
    (blessing,) = artifacts["ModelBlessing"]
    found = plain(blessing)
    (edge_model,) = (model for model in artifacts["Model"] if model.id == found["current_model_id"])
    assert edge_model.uri == found["current_model"]
    assert plain(edge_model)["quantization"] == "int8"
    assert (found["blessed"], found["verdict"], found["failed_checks"]) == (1, "passed", "")
    assert pathlib.Path(found["report"]) == healthy.report_dir
    (infra_blessing,) = artifacts["InfraBlessing"]
    assert plain(infra_blessing)["blessed"] == 1

    lineage = edge_exray.lineage(run.layout.metadata, healthy.destination)
    assert (lineage.push.run, lineage.model) == (healthy.run_id, edge_model.id)
    assert (lineage.missing, lineage.gone) == ([], [])
    # The run made nothing else but what did not lead to the push.
    own = {artifact.id for found in artifacts.values() for artifact in found}
    assert own == set(lineage.artifacts)


# What an app may do otherwise to its inputs is one fault to the gate: `benchmarks.gate` shows it the other one.
FAULTS = [scenario for scenario in gate_scenarios.FAULTS if "unit_scale" not in str(scenario.options)]


@pytest.mark.parametrize("scenario", FAULTS, ids=lambda scenario: scenario.name)
def test_a_fault_is_blocked_and_its_cause_is_named(scenario, run, healthy):
    record = run(scenario)

    assert scenario.judge(record) is None
    assert (record.model_blessed, record.infra_blessed) == (False, True)
    (blessing,) = artifacts_of(run.layout, record)["ModelBlessing"]
    found = plain(blessing)
    assert (found["blessed"], found["verdict"]) == (0, "failed")
    assert found["failed_checks"].split(",")[0] == scenario.cause
    assert scenario.words in found["reason"]
    (told,) = (b for b in edge_exray.lineage(run.layout.metadata).push.blessings if not b.blessed)
    assert (told.component, ",".join(told.failed_checks)) == ("LayerValidator", found["failed_checks"])
    report = record.report()
    if scenario.converter is gate_scenarios.TamperingExecutor:
        assert report["suspects"][0]["layer"] == gate_scenarios.TAMPERED_OP
        assert report["suspects"][0]["name"] == found["worst_layer"]
    if scenario.cause == "preprocessing":
        # The app is to blame, no layer of the model is.
        assert (report["suspects"], found["worst_layer"]) == ([], "")
    assert len(list(run.layout.serving.iterdir())) == 1, "only the healthy model is to be there"


def test_a_model_over_its_budget_is_blocked_by_the_budget_alone(run, healthy):
    scenario = gate_scenarios.over_budget(healthy)
    record = run(scenario)

    assert scenario.judge(record) is None
    assert (record.model_blessed, record.infra_blessed) == (True, False)
    (infra_blessing,) = artifacts_of(run.layout, record)["InfraBlessing"]
    assert plain(infra_blessing)["failed_checks"] == "latency_p50"
    assert len(list(run.layout.serving.iterdir())) == 1


def import_instead(spec: dict, task: str, output: str, artifact) -> None:
    """Puts an importer of what the local run made in the place of a task."""
    component = spec["components"][task]
    definition = component["outputDefinitions"]["artifacts"][output]
    component["outputDefinitions"]["artifacts"] = {output: definition}
    properties = {**artifact.properties, **artifact.custom_properties}
    spec["deploymentSpec"]["executors"][component["executorLabel"]] = {
        "importer": {
            "artifactUri": {"constant": artifact.uri},
            "typeSchema": definition["artifactType"],
            "metadata": {name: getattr(v, v.WhichOneof("value")) for name, v in properties.items()},
        }
    }


@pytest.fixture(scope="module")
def rehearse(run, healthy, tmp_path_factory):
    """Runs what was compiled for Kubeflow Pipelines, with runtime parameters, on the model that the local run trained.

    Training is left out: it costs most, and in a process that has trained before it ends a little differently.
    """
    root = tmp_path_factory.mktemp("rehearsal")
    compiled = pipeline.create_pipeline(
        pipeline_name="rehearsed",
        pipeline_root="gs://bucket/of/the/cluster",
        data_root=str(run.layout.root / "tiles"),
        serving_model_dir=str(root / "serving"),
        train_steps=TRAIN_STEPS,
    )
    path = root / "pipeline.yaml"
    kubeflow_runner.compile_pipeline(
        compiled, path, image="edge-exray", runtime_parameters=kubeflow_runner.RUNTIME_PARAMETERS
    )
    spec = yaml.safe_load(path.read_text("utf-8"))
    made = artifacts_of(run.layout, healthy)
    import_instead(spec, "ImportExampleGen", "examples", made["Examples"][0])
    import_instead(spec, "Trainer", "model", min(made["Model"], key=lambda model: model.id))
    path.write_text(yaml.safe_dump(spec), "utf-8")
    modules = kubeflow_dry_run.Rehearsal(path).modules()
    with task_processes.TaskProcesses(modules, root / "imports") as processes:

        def run_spec(resume: bool = False, **parameters: str) -> kubeflow_dry_run.Outcome:
            rehearsal = kubeflow_dry_run.Rehearsal(path, parameters)
            return rehearsal.run(root, processes, rich.console.Console(), resume=resume)

        yield run_spec
    import resource

    print("CHILDREN", resource.getrusage(resource.RUSAGE_CHILDREN))


def figures(record: run_record.RunRecord) -> dict:
    """The report without times and places."""
    report = record.report()
    del report["kernels"]
    for entry in [*report["models"].values(), *report["worst_frames"]]:
        entry.pop("path", None)
        entry.pop("place", None)
    return report


def test_what_was_compiled_for_kubeflow_does_the_same(rehearse, run, healthy):
    rehearsed = rehearse()
    record = rehearsed.record()
    assert (record.pushed, record.model_blessed, record.infra_blessed) == (True, True, True)
    assert figures(record) == figures(healthy)
    (pushed,) = pathlib.Path(record.destination).rglob("tflite")
    assert EdgeModel(pushed).fingerprint == healthy.report()["models"]["edge"]["fingerprint"]

    (bgr,) = (scenario for scenario in FAULTS if "bgr" in str(scenario.options))
    # What does not depend on the app is not run again.
    blocked = rehearse(resume=True, **bgr.options)
    assert [name for name, made in blocked.tasks.items() if made == rehearsed.tasks[name]] == [
        "ImportExampleGen",
        "Trainer",
        "EdgeConverter",
        "KernelProfiler",
    ]
    assert bgr.judge(blocked.record()) is None
    assert figures(blocked.record()) == figures(run(bgr))
    assert len(list(pathlib.Path(record.destination).parent.iterdir())) == 1
