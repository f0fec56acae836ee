"""From a pushed model back to all that it rests on, and from a blocked push to its reason."""

import os
from collections.abc import Iterable, Set

from edge_exray import errors
from edge_exray.provenance.database import open_store
from edge_exray.provenance.graph import Graph, is_type
from edge_exray.provenance.records import Artifact, Blessing, Execution, Lineage, Outcome, Push, is_there

MODEL_BLESSING = "model_blessing"
INFRA_BLESSING = "infra_blessing"

# Name of a part -> type of its artifacts.
_PARTS = {
    "report": "LayerReport",
    "profile": "KernelProfile",
    "replay": "EdgeReplayResult",
    "conversion": "ConversionReport",
    "examples": "Examples",
}
# What an input of such a name holds was compared with: it is no ancestor, and its own history would have no end.
_COMPARED = "baseline"
_KNOWN_PUSHES = 3
_LARGEST_ID = 2**63 - 1


def lineage(database: str | os.PathLike[str], model: str | os.PathLike[str] | int | None = None) -> Lineage:
    """Traces a model through the metadata of its pipelines.

    Args:
        database: SQLite file, `mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE`, or a file with an ml-metadata
            ConnectionConfig; see `edge_exray.provenance.database.connection_config`. It is only read.
        model: Where the model was pushed to, URI of a Model artifact, a path inside one of them, id of a Model or
            PushedModel artifact, or the version of a push. None is the latest push, or attempt at one.

    Returns:
        The push with its reasons, and every artifact and execution behind it. Of a model that others were made of, such
        as the cloud model, the latest push of these.

    Raises:
        ArtifactError: The database cannot be read, has no push, or does not know the model.
        SpecError: The address or configuration of the database is not understood.
    """
    graph = Graph(open_store(database))
    if model is None:
        pushing = _all_pushing(graph)
        if not pushing:
            later = _later_run(graph, None) or "It has no run of a pipeline either."
            raise errors.ArtifactError(f"the metadata has no push: no Pusher ran yet. {later}")
        return _trace(graph, max(pushing), subject=None)
    return _trace_model(graph, _find(graph, os.fspath(model) if not isinstance(model, int) else str(model)))


def _trace_model(graph: Graph, subject: Artifact) -> Lineage:
    if not is_type(subject.type, "PushedModel"):
        pushing = _pushing_descendants(graph, subject.id)
        return _trace(graph, max(pushing, default=None), subject, pushing)
    return _trace(graph, subject.producer, subject)


def _trace(graph: Graph, pushing: int | None, subject: Artifact | None, siblings: Set[int] = frozenset()) -> Lineage:
    """Traces a push, and tells others of its model and siblings; without one, the model alone."""
    push = _push(graph, pushing) if pushing is not None else None
    start: int | None = None
    model: int | None = None
    if push:
        start, model = push.execution, push.model
    elif subject:
        start, model = subject.producer, subject.id
    artifacts, executions = _ancestors(graph, start)
    others = siblings | (_pushing_readers(graph, [model]) if model is not None else set())
    return Lineage(
        model=model,
        push=push,
        other_pushes=tuple(_push(graph, other) for other in sorted(others - {pushing}, reverse=True)),
        parts=_parts(artifacts, executions, model),
        artifacts=artifacts if subject is None else {subject.id: subject} | artifacts,
        executions=executions,
        later_run=_later_run(graph, push),
    )


def _ancestors(graph: Graph, start: int | None) -> tuple[dict[int, Artifact], dict[int, Execution]]:
    artifacts: dict[int, Artifact] = {}
    executions: dict[int, Execution] = {}
    frontier = {start} if start is not None else set()
    while frontier:
        reached = graph.executions(sorted(frontier))
        executions |= reached
        followed: set[int] = set()
        for execution in reached.values():
            for channel, ids in [*execution.inputs.items(), *execution.outputs.items()]:
                artifacts |= graph.artifacts(ids)
                followed |= set(ids) if not channel.startswith(_COMPARED) else set()
        producers = {artifacts[i].producer for i in followed if i in artifacts}
        frontier = {producer for producer in producers if producer is not None and producer not in executions}
    return artifacts, executions


def _parts(
    artifacts: dict[int, Artifact], executions: dict[int, Execution], model: int | None
) -> dict[str, tuple[int, ...]]:
    compared = {i for e in executions.values() for c, ids in e.inputs.items() if c.startswith(_COMPARED) for i in ids}
    own = [artifact for artifact in artifacts.values() if artifact.id not in compared]
    parts = {name: tuple(a.id for a in own if is_type(a.type, kind)) for name, kind in _PARTS.items()}
    producer = artifacts[model].producer if model in artifacts else None
    made_of = executions[producer].inputs.values() if producer in executions else ()
    sources = {i for ids in made_of for i in ids}
    cloud = tuple(a.id for a in own if a.id in sources and is_type(a.type, "Model"))
    return {"edge_model" if cloud else "model": (model,) if model else (), "cloud_model": cloud, **parts}


def _push(graph: Graph, pushing: int) -> Push:
    execution = graph.executions([pushing])[pushing]
    inputs = {channel: graph.artifacts(ids) for channel, ids in execution.inputs.items()}
    models = [a for found in inputs.values() for a in found.values() if is_type(a.type, "Model")]
    outputs = [a for ids in execution.outputs.values() for a in graph.artifacts(ids).values()]
    pushed_model = next((a for a in outputs if is_type(a.type, "PushedModel")), None)
    destination = _destination(pushed_model) if pushed_model else ""
    version = pushed_model.properties.get("pushed_version") if pushed_model else None
    blessings = [
        _blessing(graph, c, a) for c, found in inputs.items() if c.endswith("blessing") for a in found.values()
    ]
    return Push(
        outcome=_outcome(execution, pushed_model),
        execution=execution.id,
        run=execution.run,
        pipeline=execution.pipeline,
        time_ms=execution.time_ms,
        cached=execution.state == "cached",
        model=models[0].id if models else None,
        pushed_model=pushed_model.id if pushed_model else None,
        destination=destination or None,
        version=None if version is None else str(version),
        is_there=is_there(destination) if destination else None,
        # Pusher asks the blessing of the model first.
        blessings=tuple(sorted(blessings, key=lambda blessing: blessing.channel != MODEL_BLESSING)),
        error=execution.error,
    )


def _outcome(execution: Execution, pushed_model: Artifact | None) -> Outcome:
    if execution.state in ("new", "running"):
        return Outcome.UNFINISHED
    if execution.state in ("failed", "canceled") or pushed_model is None:
        return Outcome.FAILED
    return Outcome.PUSHED if pushed_model.properties.get("pushed") == 1 else Outcome.BLOCKED


def _blessing(graph: Graph, channel: str, artifact: Artifact) -> Blessing:
    def text(key: str) -> str | None:
        return str(artifact.properties.get(key) or "") or None

    producer = artifact.producer
    kind = next((kind for kind in ("report", "profile") if text(kind)), None)
    folder = text(kind) if kind else None
    return Blessing(
        artifact=artifact.id,
        channel=channel,
        component=graph.executions([producer])[producer].component if producer is not None else None,
        blessed=artifact.properties.get("blessed") == 1,
        verdict=text("verdict"),
        reason=text("reason"),
        failed_checks=tuple((text("failed_checks") or "").split(",")) if text("failed_checks") else (),
        worst_layer=text("worst_layer"),
        report=folder,
        page=os.path.join(folder, f"{kind}.html") if folder else None,
    )


def _all_pushing(graph: Graph) -> set[int]:
    """Returns all executions of Pushers, also of those that left nothing behind."""
    found = graph.makers(graph.of_type("PushedModel"))
    for kind in graph.store.get_execution_types():
        if kind.name.endswith("Pusher"):
            found |= {execution.id for execution in graph.store.get_executions_by_type(kind.name)}
    return found


def _pushing_readers(graph: Graph, models: Iterable[int]) -> set[int]:
    readers = graph.executions(graph.readers(models)).values()
    return {e.id for e in readers if e.type.endswith("Pusher") or _made(graph, e, "PushedModel")}


def _pushing_descendants(graph: Graph, model: int) -> set[int]:
    """Returns the executions that push the model, else those that push what was made of it, and so on."""
    seen: set[int] = set()
    generation = {model}
    while generation:
        if found := _pushing_readers(graph, generation):
            return found
        seen |= generation
        readers = graph.executions(graph.readers(generation)).values()
        generation = {i for execution in readers for i in _made(graph, execution, "Model")} - seen
    return set()


def _made(graph: Graph, execution: Execution, kind: str) -> set[int]:
    made = graph.artifacts(i for ids in execution.outputs.values() for i in ids)
    return {artifact.id for artifact in made.values() if is_type(artifact.type, kind)}


def _later_run(graph: Graph, push: Push | None) -> str | None:
    later = graph.later_run(push.run if push else None)
    if later is None:
        return None
    run, executions = later
    ids = {execution.id for execution in executions}
    same_pipeline = push is None or push.pipeline in {execution.pipeline for execution in executions}
    if not same_pipeline or ids & _all_pushing(graph) or (push and max(ids, default=0) < push.execution):
        return None
    ends = [f"{e.component} {e.state}" for e in executions if e.state not in ("complete", "cached")]
    end = ", ".join(ends) if ends else f"it ended with {executions[-1].component}" if executions else "it did nothing"
    return f"The latest run, {run}, did not get as far as a push: {end}; its log tells why."


def _find(graph: Graph, name: str) -> Artifact:
    pushed = graph.artifacts(graph.of_type("PushedModel")).values()
    found = _find_number(graph, name, pushed) if name.isdecimal() else _find_path(graph, name, pushed)
    if found is None:
        told = [_destination(a) for a in pushed if _destination(a)]
        known = f"the latest pushes went to {', '.join(told[::-1][:_KNOWN_PUSHES])}" if told else "it has no push"
        raise errors.ArtifactError(
            f"the metadata does not know the model {name}: give the path that it was pushed to, or URI or id of a "
            f"Model artifact ({known})"
        )
    return found


def _find_number(graph: Graph, name: str, pushed: Iterable[Artifact]) -> Artifact | None:
    number = int(name)
    artifact = graph.artifacts([number]).get(number) if number <= _LARGEST_ID else None
    if artifact is not None and _is_model(artifact):
        return artifact
    of_version = [found for found in pushed if found.properties.get("pushed_version") == name]
    if artifact is not None and not of_version:
        raise errors.ArtifactError(f"artifact {name} is no Model: it is of the type {artifact.type}, {artifact.uri}")
    return of_version[-1] if of_version else None


def _find_path(graph: Graph, name: str, pushed: Iterable[Artifact]) -> Artifact | None:
    destinations = {_normal(_destination(a)): a for a in pushed if _destination(a)}
    place = _normal(name)
    while place:
        if place in destinations:
            return destinations[place]
        there = graph.artifacts([artifact.id for artifact in graph.store.get_artifacts_by_uri(place)])
        if models := [artifact for artifact in there.values() if _is_model(artifact)]:
            return models[-1]
        parent = place.rpartition("/")[0]
        place = parent if not parent.endswith(":/") else ""
    return None


def _destination(pushed_model: Artifact) -> str:
    return str(pushed_model.properties.get("pushed_destination", ""))


def _normal(place: str) -> str:
    return place.rstrip("/") if "://" in place or not place else os.path.abspath(place)


def _is_model(artifact: Artifact) -> bool:
    return is_type(artifact.type, "Model") or is_type(artifact.type, "PushedModel")
