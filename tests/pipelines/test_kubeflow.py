import json

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from edge_exray.pipelines import kubeflow_runner

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


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    file = tmp_path_factory.mktemp("kubeflow") / "demo.yaml"
    kubeflow_runner.main([f"--output={file}", *ARGUMENTS])
    assert [p.name for p in file.parent.iterdir()] == ["demo.yaml"]
    return json_format.ParseDict(yaml.safe_load(file.read_text("utf-8")), pipeline_spec_pb2.PipelineSpec())


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


def test_a_json_file_is_a_pipeline_job(tmp_path):
    kubeflow_runner.main([f"--output={tmp_path / 'demo.json'}", "--quantization=float16", *ARGUMENTS])
    job = json.loads((tmp_path / "demo.json").read_text("utf-8"))
    assert set(job["pipelineSpec"]["root"]["dag"]["tasks"]) == set(TASKS)
    assert "float16" in json.dumps(job["pipelineSpec"]["root"]["dag"]["tasks"]["EdgeConverter"])
