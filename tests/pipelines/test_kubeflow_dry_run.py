"""Compiled pipelines run task by task, shown on tasks of a few lines; `test_gate` has the whole pipeline."""

import copy
import json
import pathlib
import shutil
import textwrap

import pytest
import rich.console
import yaml

from edge_exray import errors
from edge_exray.pipelines import kubeflow_dry_run
from edge_exray.pipelines.task_processes import TaskProcesses

# What TFX's entry point does with its arguments, in short: `make` makes a model, `push` pushes it when it is blessed.
TOY = """
import json, os, pathlib, sys

given = json.loads(sys.argv[sys.argv.index("--json_serialized_invocation_args") + 1])
parameters, outputs = given["inputs"]["parameterValues"], given["outputs"]
print("here I am")
assert os.listdir() == [], "the folder is not empty"
pathlib.Path("scratch").write_text("mine")
answer = {}
for name, made in outputs["artifacts"].items():
    uri = pathlib.Path(made["artifacts"][0]["uri"])
    uri.mkdir(parents=True)
    uri.joinpath("content").write_text(str(os.getpid()))
    assert "title" in made["artifacts"][0]["type"]["instanceSchema"]
    answer[name] = {"artifacts": [{"uri": str(uri), "metadata": {"blessed": parameters.get("blessed", 0)}}]}
if parameters["job"] == "fail":
    sys.exit("I cannot go on")
if parameters["job"] == "die":
    os.abort()
if parameters["job"] == "push":
    (model,) = given["inputs"]["artifacts"]["model"]["artifacts"]
    assert model["type"]["instanceSchema"] == "title: edge_exray.LayerReport", model
    assert int(model["name"]) > 0
    assert pathlib.Path(model["uri"], "content").read_text() != str(os.getpid()), "one process for two tasks"
    blessed = model["metadata"]["blessed"] == 1
    properties = {"pushed": int(blessed), **({"pushed_destination": parameters["to"]} if blessed else {})}
    answer["pushed_model"]["artifacts"][0]["metadata"] = properties
pathlib.Path(outputs["outputFile"]).write_text(json.dumps({"artifacts": answer}))
"""
COMMAND = ["python", "-m", "toy_task"]


def artifact(title: str) -> dict:
    return {"artifactType": {"instanceSchema": f"title: {title}"}}


def container(image: str = "edge-exray:1", command: list[str] = COMMAND) -> dict:
    return {"container": {"image": image, "command": command, "args": ["--json_serialized_invocation_args", "{{$}}"]}}


SPEC = {
    "schemaVersion": "2.1.0",
    "pipelineInfo": {"name": "toy"},
    "components": {
        "Make": {
            "executorLabel": "Make_executor",
            "outputDefinitions": {"artifacts": {"model": artifact("edge_exray.LayerReport")}},
        },
        "Push": {
            "executorLabel": "Push_executor",
            "outputDefinitions": {"artifacts": {"pushed_model": artifact("tfx.PushedModel")}},
        },
    },
    "deploymentSpec": {"executors": {"Make_executor": container(), "Push_executor": container()}},
    "root": {
        "inputDefinitions": {
            "parameters": {
                "blessed": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1.0},
                "job": {"parameterType": "STRING", "defaultValue": "make"},
                "to": {"parameterType": "STRING", "defaultValue": "/serving/1"},
            }
        },
        "dag": {
            "tasks": {
                "Push": {
                    "componentRef": {"name": "Push"},
                    "inputs": {
                        "parameters": {
                            "job": {"runtimeValue": {"constant": "push"}},
                            "to": {"componentInputParameter": "to"},
                        },
                        "artifacts": {
                            "model": {"taskOutputArtifact": {"producerTask": "Make", "outputArtifactKey": "model"}}
                        },
                    },
                },
                "Make": {
                    "componentRef": {"name": "Make"},
                    "inputs": {
                        "parameters": {
                            "job": {"componentInputParameter": "job"},
                            "blessed": {"componentInputParameter": "blessed"},
                        }
                    },
                },
            }
        },
    },
}


@pytest.fixture
def write(tmp_path):
    """Returns a function that changes the toy and writes it."""

    def change(edit=lambda spec: None) -> str:
        spec = copy.deepcopy(SPEC)
        edit(spec)
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(spec))
        return str(path)

    return change


@pytest.fixture
def toy_module(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/toy_task.py").write_text(textwrap.dedent(TOY))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=":")


@pytest.fixture
def call(tmp_path, capsys, toy_module):
    """Returns a function that runs the command line on `root` and gives status, output and errors."""

    def run(spec: str, *arguments: str) -> tuple[int, str, str]:
        status = kubeflow_dry_run.main([spec, f"--root={tmp_path / 'root'}", *arguments])
        return status, *capsys.readouterr()

    return run


def the_run(tmp_path: pathlib.Path) -> pathlib.Path:
    (run,) = (tmp_path / "root/runs").glob("2*")
    return run


def test_artifacts_and_properties_go_from_task_to_task(write, call, tmp_path):
    status, out, err = call(write())
    assert (status, err) == (0, "")
    assert out.index("Make") < out.index("Push") < out.index("pushed to /serving/1")
    made, pushed = (json.loads((the_run(tmp_path) / task / "task.json").read_text()) for task in ("Make", "Push"))
    assert made["artifacts"]["model"]["metadata"] == {"blessed": 1.0}
    assert pushed["artifacts"]["pushed_model"]["metadata"]["pushed"] == 1
    assert (the_run(tmp_path) / "Make/log.txt").read_text() == "here I am\n"


def test_a_parameter_changes_the_verdict_and_its_type_is_that_of_the_spec(write, call):
    status, out, _ = call(write(), "--parameter", "blessed=0")
    assert (status, "not pushed" in out) == (2, True)


@pytest.mark.parametrize(("job", "end"), [("fail", "status 1"), ("die", "killed by SIGABRT")])
def test_a_task_that_fails_is_named_with_its_log_and_leaves_no_artifact(write, call, tmp_path, job, end):
    status, _, err = call(write(), f"--parameter=job={job}")
    assert status == 1
    assert f"task Make failed ({end})" in err
    log = the_run(tmp_path) / "Make/log.txt"
    assert str(log) in err
    assert ("I cannot go on" in err) == (job == "fail")
    assert not (log.parent / "model").exists()
    assert not (log.parent / "task.json").exists()


def test_a_rehearsal_resumes_where_it_failed(write, tmp_path, toy_module):
    console = rich.console.Console(record=True, width=80)
    spec = write()
    with TaskProcesses(["toy_task_that_is_missing"], tmp_path / "imports") as processes:
        first = kubeflow_dry_run.Rehearsal(spec, {"to": "/serving/1"}).run(tmp_path, processes, console)
        second = kubeflow_dry_run.Rehearsal(spec, {"to": "/serving/2"}).run(tmp_path, processes, console, resume=True)
        third = kubeflow_dry_run.Rehearsal(spec, {"to": "/serving/2"}).run(tmp_path, processes, console)
    assert second.tasks["Make"] == first.tasks["Make"]
    assert second.by_type["PushedModel"].properties["pushed_destination"] == "/serving/2"
    assert third.tasks["Make"] != first.tasks["Make"]
    assert console.export_text().count("as before") == 1


def test_what_is_gone_is_made_anew(write, tmp_path, toy_module):
    console = rich.console.Console(record=True, width=80)
    rehearsal = kubeflow_dry_run.Rehearsal(write())
    with TaskProcesses(["toy_task_that_is_missing"], tmp_path / "imports") as processes:
        first = rehearsal.run(tmp_path, processes, console)
        shutil.rmtree(first.tasks["Make"].artifacts["model"]["uri"])
        second = rehearsal.run(tmp_path, processes, console, resume=True)
    assert "as before" not in console.export_text()
    assert pathlib.Path(second.tasks["Make"].artifacts["model"]["uri"]).exists()


def test_wrong_usage_is_no_blocked_push(write, call):
    with pytest.raises(SystemExit) as ended:
        call(write(), "--parameter=nonsense")
    assert ended.value.code == 1


def test_the_pusher_that_was_blocked_counts(write, call):
    def push_twice(spec):
        tasks = spec["root"]["dag"]["tasks"]
        tasks["MakeGood"] = copy.deepcopy(tasks["Make"])
        tasks["MakeGood"]["inputs"]["parameters"]["blessed"] = {"runtimeValue": {"constant": 1.0}}
        # In the order of the names it is the last.
        tasks["PushTwo"] = copy.deepcopy(tasks["Push"])
        tasks["PushTwo"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] = "MakeGood"

    status, out, _ = call(write(push_twice), "--parameter=blessed=0")
    assert status == 2
    assert "not pushed" in out
    assert call(write(push_twice))[0] == 0


def make_importer(spec: dict) -> None:
    spec["deploymentSpec"]["executors"]["Make_executor"] = {
        "importer": {
            "artifactUri": {"runtimeParameter": "artifact_uri"},
            "typeSchema": {"instanceSchema": "title: edge_exray.LayerReport"},
            "metadata": {"blessed": 1},
        }
    }
    task = spec["root"]["dag"]["tasks"]["Make"]
    task["inputs"]["parameters"] = {"artifact_uri": {"componentInputParameter": "to"}}


def test_an_importer_gives_what_is_there(write, call, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/content").write_text("made elsewhere")
    status, out, _ = call(write(make_importer), f"--parameter=to={tmp_path / 'model'}")
    assert (status, "pushed to" in out) == (0, True)


def set_in(*path, value):
    def edit(spec: dict) -> None:
        for key in path[:-1]:
            spec = spec.setdefault(key, {})
        spec[path[-1]] = value

    return edit


PUSHED_MODEL = ("root", "dag", "tasks", "Push", "inputs", "artifacts", "model")
MAKE = ("root", "dag", "tasks", "Make")
WAITS = {"parameters": {"job": {"taskOutputParameter": {"producerTask": "Push", "outputParameterKey": "x"}}}}
UNRUNNABLE = {
    "schema 2.0.0": set_in("schemaVersion", value="2.0.0"),
    "task Make is a resolver": set_in("deploymentSpec", "executors", "Make_executor", value={"resolver": {}}),
    "task Make depends on a condition": set_in(*MAKE, "triggerPolicy", "condition", value="true"),
    "task Make is a pipeline of its own": set_in("components", "Make", value={"dag": {}}),
    "task Make is repeated": set_in(*MAKE, "parameterIterator", value={}),
    "tasks wait for each other": set_in(*MAKE, "inputs", value=WAITS),
    "task Push waits for Trainer, which": set_in(
        "root",
        "dag",
        "tasks",
        "Push",
        "inputs",
        "artifacts",
        "model",
        "taskOutputArtifact",
        "producerTask",
        value="Trainer",
    ),
    "no default of to: give --parameter to=VALUE": set_in(
        "root", "inputDefinitions", "parameters", "to", value={"parameterType": "STRING"}
    ),
    "command of Make names s3://bucket/tmp": set_in(
        "deploymentSpec", "executors", "Make_executor", "container", "args", value=["--temp_location=s3://bucket/tmp"]
    ),
}


@pytest.mark.parametrize("message", UNRUNNABLE)
def test_what_cannot_be_rehearsed_is_refused_before_anything_runs(message, write):
    with pytest.raises(errors.ExrayError, match=message):
        kubeflow_dry_run.Rehearsal(write(UNRUNNABLE[message]))


@pytest.mark.parametrize(
    ("edit", "parameters", "message"),
    [
        (None, {"steps": "1"}, "no parameter steps, only blessed, job, to"),
        (None, {"blessed": "yes"}, "parameter blessed is of type NUMBER_INTEGER, which 'yes' is not"),
        (None, {"to": "gs://bucket/serving"}, "to of Push is gs://bucket/serving.*--parameter to=VALUE"),
        (None, {"to": '{"base_directory": "minio://b/s"}'}, "to of Push is minio://b/s,"),
        (make_importer, {"to": "model"}, "artifact_uri of Make: model is no absolute path"),
        (make_importer, {"to": "/no/where"}, "artifact_uri of Make: there is no /no/where here.*--parameter to=VALUE"),
    ],
)
def test_wrong_parameters_are_refused_with_what_to_do(edit, parameters, message, write):
    with pytest.raises(errors.ExrayError, match=message):
        kubeflow_dry_run.Rehearsal(write(edit) if edit else write(), parameters)


@pytest.mark.parametrize("content", ["[1, 2]", "{", "{}"])
def test_a_file_that_is_no_pipeline_is_an_error_in_one_line(content, tmp_path, call):
    (tmp_path / "file.yaml").write_text(content)
    for place in (tmp_path / "file.yaml", tmp_path / "missing.yaml"):
        status, _, err = call(str(place))
        assert (status, str(place) in err) == (1, True)


def test_a_command_that_is_only_in_its_image_is_named(write, call):
    spec = write(set_in("deploymentSpec", "executors", "Make_executor", value=container("trainer:7", ["train-it"])))
    status, _, err = call(spec)
    assert status == 1
    assert "task Make: train-it does not run here" in err
    assert "trainer:7" in err
