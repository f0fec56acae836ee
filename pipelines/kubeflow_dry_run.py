"""Rehearses a compiled pipeline on this machine: `python -m edge_exray.pipelines.kubeflow_dry_run SPEC --root DIR`.

Task by task as the launcher of the open-source Kubeflow Pipelines v2 does it, without a cluster: every task is a
process of its own in an empty folder, which is given its inputs as the JSON of an ExecutorInput and answers with that
of an ExecutorOutput. Artifacts and their custom properties go through these and the specification alone. Nothing is
cached, and no `preCacheCheck` runs, which only Vertex AI knows. The commands run in this Python, without their images.

Exit status: 0 the edge model was pushed (or the pipeline has no Pusher), 2 it was blocked, 1 error.
"""

import argparse
import collections
import contextlib
import dataclasses
import datetime
import graphlib
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import yaml

from edge_exray import errors, files
from edge_exray.pipelines import run_record
from edge_exray.pipelines.command_line import Parser
from edge_exray.pipelines.task_processes import TaskProcesses

_TAIL_LINES = 15
# What object stores and cluster file systems are named by.
_REMOTE = re.compile(r"\b(?:gs|s3a?|minio|hdfs|viewfs|abfss?|wasbs?)://[^\s\"'\\]*")
_PLACEHOLDER = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](?:\.(uri|value))?\}\}")
# A parameter that TFX reads files from, whatever the component.
_INPUT_PATHS = ("input_base", "artifact_uri")


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of a compiled pipeline, as it stands in the specification.

    Attributes:
        name: Its name in the pipeline.
        inputs: Where its inputs come from.
        component: What its inputs and outputs are.
        executor: The container or importer that it is.
    """

    name: str
    inputs: Mapping[str, Any]
    component: Mapping[str, Any]
    executor: Mapping[str, Any]

    def parameters(self, values: Mapping[str, Any], done: Mapping[str, "TaskOutput"]) -> dict[str, Any]:
        """Returns the values of its parameters; those that come from a task that is not done yet are left out.

        Args:
            values: The parameters of the pipeline.
            done: The tasks before it.
        """
        found = {}
        for name, source in self.inputs.get("parameters", {}).items():
            if "runtimeValue" in source:
                found[name] = source["runtimeValue"]["constant"]
            elif "componentInputParameter" in source:
                found[name] = values[source["componentInputParameter"]]
            elif (output := source["taskOutputParameter"])["producerTask"] in done:
                found[name] = done[output["producerTask"]].parameters[output["outputParameterKey"]]
        return found

    def producers(self) -> set[str]:
        """Returns the names of the tasks that it takes something of."""
        sources = [s.get("taskOutputArtifact") for s in self.inputs.get("artifacts", {}).values()]
        sources += [s.get("taskOutputParameter") for s in self.inputs.get("parameters", {}).values()]
        return {source["producerTask"] for source in sources if source}


@dataclasses.dataclass(frozen=True)
class TaskOutput:
    """What a task left behind.

    Attributes:
        artifacts: Name to RuntimeArtifact, in the form of its JSON.
        parameters: Name to value.
    """

    artifacts: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a rehearsal.

    Attributes:
        run_id: Name of its folder in `runs/`.
        tasks: Name to what it left behind.
        by_type: Name of an artifact type to the last artifact of it that a task made. Of several Pushers the first one
            that was blocked counts, with what led to it; else the last one.
    """

    run_id: str
    tasks: Mapping[str, TaskOutput]
    by_type: Mapping[str, run_record.RunArtifact]

    @property
    def pushed(self) -> bool | None:
        """Whether all Pushers pushed their models; None when the pipeline has no Pusher."""
        model = self.by_type.get("PushedModel")
        return None if model is None else model.properties.get("pushed") == 1

    def record(self) -> run_record.RunRecord:
        """Returns the same as of a local run.

        Raises:
            ArtifactError: The pipeline has no LayerValidator, KernelProfiler or Pusher.
        """
        return run_record.record_of(self.run_id, self.run_id, self.by_type)

    def text(self) -> str:
        """Returns in a few words what came of it, and of what is known why."""
        if self.by_type.keys() >= run_record.NEEDED:
            return self.record().outcome()
        if self.pushed is None:
            return f"{len(self.tasks)} tasks ran, none of which is a Pusher"
        if self.pushed:
            return f"pushed to {self.by_type['PushedModel'].properties['pushed_destination']}"
        blocking = [made.properties for made in self.by_type.values() if made.properties.get("blessed") == 0]
        reasons = [str(properties["reason"]) for properties in blocking if "reason" in properties]
        return f"not pushed: {' '.join(reasons)}"


class Rehearsal:
    """A compiled pipeline that can be run here.

    Args:
        spec: The compiled file: a pipeline spec (YAML) or pipeline job (JSON).
        parameters: Runtime parameters that differ from their defaults, as values or as texts of the command line.

    Raises:
        SpecError: The file is no compiled pipeline, has what cannot be run here, or a parameter is unknown or missing.
        DataError: It reads from a place that this machine does not reach.
    """

    def __init__(self, spec: str | pathlib.Path, parameters: Mapping[str, Any] | None = None) -> None:
        self._place = str(spec)
        document = _read(self._place)
        self.name: str = document["pipelineInfo"]["name"]
        self._tasks = {
            name: self._task(document, name, task) for name, task in document["root"]["dag"]["tasks"].items()
        }
        declared = document["root"].get("inputDefinitions", {}).get("parameters", {})
        self._values = self._choose(declared, parameters or {})
        self.order = self._sort()
        for task in self._tasks.values():
            self._check_reach(task)

    def modules(self) -> list[str]:
        """Returns the Python modules that the tasks run, for `TaskProcesses`."""
        found = []
        for task in self._tasks.values():
            command = _command(task)
            if _is_python_module(command):
                found.append(command[2])
            for flag, value in itertools.pairwise(command):
                if flag == "--executor_class_path":
                    found.append(value.rpartition(".")[0])
        return sorted(set(found))

    def run(
        self,
        root: str | pathlib.Path,
        processes: TaskProcesses,
        console: rich.console.Console,
        *,
        resume: bool = False,
    ) -> Outcome:
        """Runs all tasks, one after another, and prints what each took.

        Args:
            root: Every run makes a folder in `root/runs`, and there every task one with its log and its artifacts.
            processes: Where Python modules are run.
            console: Where to print.
            resume: Take the outputs of tasks with the same command and inputs from the last run that has them. What
                changed in files and installed code it does not see.

        Raises:
            TaskError: A task failed. Its log stays, its artifacts are removed.
        """
        runs = pathlib.Path(root).resolve() / "runs"
        run_id = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        done: dict[str, TaskOutput] = {}
        begun = time.monotonic()
        with console.status("loading TFX") as status:
            processes.wait_for_imports()
            for name in self.order:
                status.update(name)
                started = time.monotonic()
                known = None
                inputs = self._executor_inputs(self._tasks[name], done)
                key = _fingerprint(self._tasks[name], inputs)
                if resume:
                    known = _find(runs, name, key)
                done[name] = known or self._run_task(self._tasks[name], inputs, runs / run_id / name, processes)
                _remember(runs / run_id / name, key, done[name])
                took = "as before" if known else f"{time.monotonic() - started:.1f} s"
                console.print(f"  {name:<18}{took:>10}")
        console.print(f"  {'in all':<18}{time.monotonic() - begun:>8.1f} s")
        return Outcome(run_id, done, self._by_type(done))

    def _task(self, document: Mapping[str, Any], name: str, task: Mapping[str, Any]) -> Task:
        component = document["components"][task["componentRef"]["name"]]
        executor = document["deploymentSpec"]["executors"].get(component.get("executorLabel"), {})
        for obstacle, found in (
            ("is a pipeline of its own", "dag" in component),
            (
                "is a resolver, which the open-source Kubeflow Pipelines does not run: import a given URI",
                "resolver" in executor,
            ),
            ("depends on a condition", task.get("triggerPolicy", {}).get("condition")),
            ("is repeated for many items", "parameterIterator" in task or "artifactIterator" in task),
            ("is neither a container nor an importer", not {"container", "importer", "resolver"} & set(executor)),
        ):
            if found:
                raise errors.SpecError(f"{self._place} cannot be rehearsed: task {name} {obstacle}")
        return Task(name, task.get("inputs", {}), component, executor)

    def _choose(self, declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(given) - set(declared))
        if unknown:
            raise errors.SpecError(
                f"{self._place} has no parameter {', '.join(unknown)}, only {', '.join(sorted(declared)) or 'none'}"
            )
        values = {name: d["defaultValue"] for name, d in declared.items() if "defaultValue" in d}
        values |= {name: _typed(name, value, declared[name]["parameterType"]) for name, value in given.items()}
        missing = sorted(set(declared) - set(values))
        if missing:
            raise errors.SpecError(
                f"{self._place} has no default of {', '.join(missing)}: give "
                f"{' '.join(f'--parameter {name}=VALUE' for name in missing)}"
            )
        return values

    def _sort(self) -> list[str]:
        graph = {}
        for name, task in self._tasks.items():
            lost = sorted(task.producers() - set(self._tasks))
            if lost:
                raise errors.SpecError(f"{self._place}: task {name} waits for {', '.join(lost)}, which is no task")
            graph[name] = task.producers()
        try:
            return list(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as e:
            raise errors.SpecError(f"{self._place}: tasks wait for each other: {' -> '.join(e.args[1])}") from e

    def _check_reach(self, task: Task) -> None:
        """Refuses what this machine does not reach before anything runs."""
        for part in _command(task):
            if remote := _REMOTE.search(part):
                raise errors.DataError(
                    f"{self._place}: the command of {task.name} names {remote[0]}, which a rehearsal on this machine "
                    "does not use; compile the pipeline without it, Beam arguments for one"
                )
        for key, value in task.parameters(self._values, {}).items():
            source = task.inputs["parameters"][key]
            name = source.get("componentInputParameter")
            remedy = (
                f"give a local one with --parameter {name}=VALUE"
                if name
                else "compile the pipeline with a local one, or make it a runtime parameter"
            )
            remote = _REMOTE.search(value) if isinstance(value, str) else None
            if remote:
                raise errors.DataError(
                    f"{self._place}: {key} of {task.name} is {remote[0]}, which a rehearsal on this machine does not "
                    f"use; {remedy}"
                )
            if key in _INPUT_PATHS and not (os.path.isabs(value) and os.path.exists(value)):
                what = f"there is no {value} here" if os.path.isabs(value) else f"{value} is no absolute path"
                raise errors.DataError(f"{self._place}: {key} of {task.name}: {what}; {remedy}")

    def _executor_inputs(self, task: Task, done: Mapping[str, TaskOutput]) -> dict[str, Any]:
        artifacts = {}
        for name, source in task.inputs.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            artifacts[name] = {"artifacts": [done[output["producerTask"]].artifacts[output["outputArtifactKey"]]]}
        return {"parameterValues": task.parameters(self._values, done), "artifacts": artifacts}

    def _run_task(
        self, task: Task, inputs: Mapping[str, Any], folder: pathlib.Path, processes: TaskProcesses
    ) -> TaskOutput:
        folder.mkdir(parents=True)
        if "importer" in task.executor:
            return _import(task, inputs)
        definitions = task.component.get("outputDefinitions", {})
        provisioned = {
            name: {
                "uri": str(folder / name),
                "type": definition["artifactType"],
                "metadata": definition.get("metadata", {}),
            }
            for name, definition in definitions.get("artifacts", {}).items()
        }
        answer = folder / "executor_output.json"
        executor_input = {
            "inputs": inputs,
            "outputs": {
                "artifacts": {name: {"artifacts": [artifact]} for name, artifact in provisioned.items()},
                "parameters": {
                    name: {"outputFile": str(folder / "parameters" / name)}
                    for name in definitions.get("parameters", {})
                },
                "outputFile": str(answer),
            },
        }
        try:
            self._execute(task, executor_input, folder, processes)
        except BaseException:
            for artifact in provisioned.values():
                shutil.rmtree(artifact["uri"], ignore_errors=True)
            raise
        output = json.loads(answer.read_text("utf-8")) if answer.exists() else {}
        return TaskOutput(
            {name: _publish(artifact, output.get("artifacts", {}).get(name)) for name, artifact in provisioned.items()},
            output.get("parameterValues", {}),
        )

    def _execute(
        self, task: Task, executor_input: Mapping[str, Any], folder: pathlib.Path, processes: TaskProcesses
    ) -> None:
        container = task.executor["container"]
        command = [_fill(part, executor_input) for part in _command(task)]
        environment = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
        work, log = folder / "work", folder / "log.txt"
        work.mkdir()
        if _is_python_module(command):
            status = processes.run(command[2], command[3:], folder=work, log=log, environment=environment)
        else:
            try:
                with log.open("wb") as stream:
                    ended = subprocess.run(
                        command, cwd=work, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | environment
                    )
                status = ended.returncode
            except OSError as e:
                raise errors.TaskError(
                    f"task {task.name}: {command[0]} does not run here ({e.strerror}); a rehearsal runs the commands "
                    f"of containers without their images ({container['image']})"
                ) from e
        with contextlib.suppress(OSError):
            work.rmdir()
        if status:
            end = f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            tail = collections.deque(log.read_text("utf-8", errors="replace").splitlines(), _TAIL_LINES)
            raise errors.TaskError("\n".join([*tail, f"task {task.name} failed ({end}); the whole log: {log}"]))

    def _by_type(self, done: Mapping[str, TaskOutput]) -> dict[str, run_record.RunArtifact]:
        """Returns the last artifact of each type, of several Pushers what the deciding one made and what led to it."""
        made = {
            name: {
                _title(artifact).removeprefix("tfx."): run_record.RunArtifact(artifact["uri"], artifact["metadata"])
                for artifact in done[name].artifacts.values()
            }
            for name in self.order
            # What was imported, a baseline for one, is not of this run.
            if "container" in self._tasks[name].executor
        }
        pushers = [name for name, artifacts in made.items() if "PushedModel" in artifacts]
        blocked = [name for name in pushers if made[name]["PushedModel"].properties.get("pushed") != 1]
        if deciding := [*blocked[:1], *pushers[-1:]]:
            led_to_it = self._ancestors(deciding[0])
            made = {name: artifacts for name, artifacts in made.items() if name in led_to_it}
        return {kind: artifact for artifacts in made.values() for kind, artifact in artifacts.items()}

    def _ancestors(self, name: str) -> set[str]:
        """Returns the names of a task and of all that it takes something of, by others or not."""
        found, ahead = {name}, [name]
        while ahead:
            new = self._tasks[ahead.pop()].producers() - found
            found |= new
            ahead += new
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the pipeline, prints the outcome and returns the exit status."""
    parser = Parser(
        description="Run a pipeline that was compiled for Kubeflow Pipelines v2 on this machine, task by task."
    )
    parser.add_argument("spec", metavar="SPEC", help="the compiled pipeline, .yaml or .json")
    parser.add_argument("--root", required=True, metavar="DIR", help="folder of all but the pushed model")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="a runtime parameter; may be given repeatedly",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take the outputs of tasks with the same command and inputs from earlier runs in DIR",
    )
    args = parser.parse_args(argv)
    console = rich.console.Console(highlight=False, soft_wrap=True)
    try:
        rehearsal = Rehearsal(args.spec, dict(args.parameter))
        files.check_folder(args.root)
        with TaskProcesses(rehearsal.modules(), pathlib.Path(args.root, "runs", ".imports")) as processes:
            outcome = rehearsal.run(args.root, processes, console, resume=args.resume)
    except errors.ExrayError as e:
        print(e, file=sys.stderr)
        return 1
    print(outcome.text())
    return 2 if outcome.pushed is False else 0


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def _read(place: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(pathlib.Path(place).read_text("utf-8"))
    except OSError as e:
        raise errors.SpecError(f"{place} is not readable: {e.strerror}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise errors.SpecError(f"{place} is neither YAML nor JSON: {e}") from e
    if isinstance(document, dict):
        document = document.get("pipelineSpec", document)
    if not isinstance(document, dict) or not {"root", "components", "deploymentSpec", "pipelineInfo"} <= set(document):
        raise errors.SpecError(f"{place} is no pipeline that was compiled for Kubeflow Pipelines v2")
    if not str(document.get("schemaVersion", "")).startswith("2.1"):
        raise errors.SpecError(
            f"{place} has schema {document.get('schemaVersion')}: compile it with use_pipeline_spec_2_1=True"
        )
    return document


def _typed(name: str, value: Any, parameter_type: str) -> Any:
    """Returns a value of the command line in the type of its parameter."""
    if not isinstance(value, str) or parameter_type == "STRING":
        return value
    try:
        return json.loads(value)
    except ValueError as e:
        raise errors.SpecError(f"parameter {name} is of type {parameter_type}, which {value!r} is not") from e


def _command(task: Task) -> list[str]:
    container = task.executor.get("container", {})
    return [*container.get("command", []), *container.get("args", [])]


def _is_python_module(command: Sequence[str]) -> bool:
    return len(command) > 2 and command[0] in ("python", "python3") and command[1] == "-m"


def _fill(text: str, executor_input: Mapping[str, Any]) -> str:
    """Fills in what stands for the inputs and outputs of the task."""
    if text == "{{$}}":
        return json.dumps(executor_input)

    def value(match: re.Match[str]) -> str:
        side, kind, name, what = match.groups()
        if kind == "parameters":
            return str(executor_input[side]["parameterValues"][name])
        uri = executor_input[side]["artifacts"][name]["artifacts"][0]["uri"]
        return uri if what == "uri" else pathlib.Path(uri, "value").read_text("utf-8")

    return _PLACEHOLDER.sub(value, text)


def _import(task: Task, inputs: Mapping[str, Any]) -> TaskOutput:
    importer = task.executor["importer"]
    source = importer["artifactUri"]
    uri = source["constant"] if "constant" in source else inputs["parameterValues"][source["runtimeParameter"]]
    (name,) = task.component["outputDefinitions"]["artifacts"]
    return TaskOutput(
        {name: _publish({"uri": uri, "type": importer["typeSchema"], "metadata": importer.get("metadata", {})}, None)},
        {},
    )


def _publish(provisioned: Mapping[str, Any], answered: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns an artifact as the tasks behind see it: as it was provisioned, with what the executor said of it."""
    said = answered["artifacts"][0] if answered else {}
    return {
        # A number, as of an artifact in ML Metadata.
        "name": str(time.time_ns()),
        "uri": said.get("uri") or provisioned["uri"],
        "type": provisioned["type"],
        "metadata": {**provisioned["metadata"], **said.get("metadata", {})},
    }


def _title(artifact: Mapping[str, Any]) -> str:
    kind = artifact["type"]
    return kind.get("schemaTitle") or yaml.safe_load(kind["instanceSchema"])["title"]


def _fingerprint(task: Task, inputs: Mapping[str, Any]) -> str:
    content = json.dumps([task.executor, task.component, inputs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _remember(folder: pathlib.Path, key: str, output: TaskOutput) -> None:
    document = {"fingerprint": key, **dataclasses.asdict(output)}
    files.write_atomically(folder / "task.json", json.dumps(document, indent=1).encode())


def _find(runs: pathlib.Path, task: str, key: str) -> TaskOutput | None:
    for path in sorted(runs.glob(f"*/{task}/task.json"), reverse=True):
        document = json.loads(path.read_text("utf-8"))
        if document.pop("fingerprint") == key:
            output = TaskOutput(**document)
            if all(_is_there(artifact["uri"]) for artifact in output.artifacts.values()):
                return output
    return None


def _is_there(uri: str) -> bool:
    return bool(_REMOTE.match(uri)) or pathlib.Path(uri).exists()


if __name__ == "__main__":
    sys.exit(main())
