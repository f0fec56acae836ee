import json

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from edge_exray import errors
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.pipelines import baselines, kubeflow_runner, pipeline

ARGUMENTS = [
    "--image=registry.example/edge-exray:1",
    "--pipeline-root=/mnt/pipeline",
    "--data-root=/mnt/data",
    "--serving-model-dir=/mnt/serving",
]
TASKS = {
    "ImportExampleGen": set(),
    "Trainer": {"ImportExampleGen"},
    "EdgeConverter": {"ImportExampleGen", "Trainer"},
    "EdgeReplay": {"ImportExampleGen", "Trainer", "EdgeConverter"},
    "KernelProfiler": {"EdgeConverter"},
    "LayerValidator": {"EdgeReplay", "KernelProfiler"},
    "Pusher": {"EdgeConverter", "LayerValidator", "KernelProfiler"},
}


def compile_demo(folder, *arguments):
    """Returns what the command line compiles, as Kubeflow reads it: anything that it does not know is an error."""
    file = folder / "demo.yaml"
    kubeflow_runner.main([f"--output={file}", *ARGUMENTS, *arguments])
    assert [p.name for p in file.parent.iterdir()] == ["demo.yaml"]
    return json_format.ParseDict(yaml.safe_load(file.read_text("utf-8")), pipeline_spec_pb2.PipelineSpec())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return compile_demo(tmp_path_factory.mktemp("kubeflow"))


def test_every_component_is_a_task_after_those_it_reads_from(compiled):
    assert compiled.schema_version == "2.1.0"
    assert compiled.pipeline_info.name == "edge-exray-demo"
    assert {name: set(task.dependent_tasks) for name, task in compiled.root.dag.tasks.items()} == TASKS


def test_every_task_runs_in_the_image(compiled):
    deployment = json_format.MessageToDict(compiled.deployment_spec)
    images = {e["container"]["image"] for e in deployment["executors"].values()}
    assert images == {"registry.example/edge-exray:1"}


def test_pusher_waits_for_both_blessings(compiled):
    inputs = compiled.root.dag.tasks["Pusher"].inputs.artifacts
    producers = {name: i.task_output_artifact.producer_task for name, i in inputs.items()}
    assert producers == {
        "model": "EdgeConverter",
        "model_blessing": "LayerValidator",
        "infra_blessing": "KernelProfiler",
    }


def test_artifact_types_of_edge_exray_can_be_imported_by_name(compiled):
    import edge_exray

    titles = {
        yaml.safe_load(artifact.artifact_type.instance_schema)["title"]
        for component in compiled.components.values()
        for artifact in component.output_definitions.artifacts.values()
    }
    ours = {t for t in titles if t.startswith("edge_exray.")}
    assert ours == {f"edge_exray.{n}" for n in ("ConversionReport", "EdgeReplayResult", "LayerReport", "KernelProfile")}
    for title in ours:
        artifact_type = getattr(edge_exray, title.removeprefix("edge_exray."))
        assert title == artifact_type.TYPE_NAME


def test_what_flags_say_is_the_default_of_runtime_parameters(tmp_path, tmp_path_factory):
    (tmp_path / "spec.json").write_text('{"max_label_flip_rate": 0.03}')
    flags = [
        f"--validation-spec={tmp_path / 'spec.json'}",
        "--train-steps=7",
        "--app-module-path=app.preprocessing",
        "--beam-arg=--direct_num_workers=2",
    ]
    compiled = compile_demo(tmp_path_factory.mktemp("flags"), *flags)
    assert compiled.default_pipeline_root == "/mnt/pipeline"
    declared = compiled.root.input_definitions.parameters
    assert set(declared) == set(kubeflow_runner.RUNTIME_PARAMETERS)
    defaults = {name: parameter.default_value.string_value for name, parameter in declared.items()}
    assert defaults["data_root"] == "/mnt/data"
    assert json.loads(defaults["train_args"]) == {"num_steps": 7}
    assert json.loads(defaults["push_destination"]) == {"filesystem": {"base_directory": "/mnt/serving"}}
    assert (defaults["quantization"], defaults["app_module_path"]) == ("int8", "app.preprocessing")
    assert ValidationSpec.from_json(defaults["validation_spec"]) == ValidationSpec(max_label_flip_rate=0.03)
    for name, (task, key) in kubeflow_runner.RUNTIME_PARAMETERS.items():
        assert compiled.root.dag.tasks[task].inputs.parameters[key].component_input_parameter == name
        assert key in compiled.components[task].input_definitions.parameters
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    with_beam = {n for n, e in executors.items() if "--direct_num_workers=2" in e["container"]["args"]}
    assert with_beam >= {f"{task}_executor" for task in ("ImportExampleGen", "EdgeReplay", "LayerValidator")}


def test_a_baseline_is_imported_from_a_uri_that_a_run_may_give_anew(tmp_path):
    compiled = compile_demo(tmp_path, "--baseline-report=gs://bucket/report")
    assert set(compiled.root.dag.tasks) == {*TASKS, "baseline_report"}
    source = compiled.root.dag.tasks["LayerValidator"].inputs.artifacts["baseline_report"].task_output_artifact
    assert source.producer_task == "baseline_report"
    assert (
        compiled.root.input_definitions.parameters["baseline_report"].default_value.string_value == "gs://bucket/report"
    )
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    importer = executors["baseline_report_executor"]["importer"]
    assert importer["artifactUri"] == {"runtimeParameter": "artifact_uri"}
    assert yaml.safe_load(importer["typeSchema"]["instanceSchema"])["title"] == "edge_exray.LayerReport"


def create_pipeline(**options):
    return pipeline.create_pipeline(
        pipeline_name="demo", pipeline_root="/root", data_root="/data", serving_model_dir="/serving", **options
    )


def test_a_resolver_is_refused_with_what_to_do_instead(tmp_path):
    with_resolver = create_pipeline(baseline=baselines.last_blessed())
    with pytest.raises(
        errors.SpecError, match=r"no resolvers, but the pipeline demo has baseline: .*baselines\.imported"
    ):
        kubeflow_runner.compile_pipeline(with_resolver, tmp_path / "demo.yaml", image="x")
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_parameter_of_nothing_is_refused(tmp_path):
    with pytest.raises(
        errors.SpecError, match=r"runtime parameter steps: .* no constant steps of Trainer; .*train_args"
    ):
        kubeflow_runner.compile_pipeline(
            create_pipeline(), tmp_path / "demo.yaml", image="x", runtime_parameters={"steps": ("Trainer", "steps")}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_is_a_pipeline_job(tmp_path):
    kubeflow_runner.main([f"--output={tmp_path / 'demo.json'}", "--quantization=float16", *ARGUMENTS])
    job = json.loads((tmp_path / "demo.json").read_text("utf-8"))
    assert set(job["pipelineSpec"]["root"]["dag"]["tasks"]) == set(TASKS)
    assert job["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]["quantization"]["defaultValue"] == "float16"
