"""Artifacts and executions of ML Metadata and what connects them, read as far as they are asked for."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from edge_exray.provenance.records import Artifact, Execution, Value, is_there

_EVENT = metadata_store_pb2.Event
_INPUTS = (_EVENT.INPUT, _EVENT.DECLARED_INPUT, _EVENT.INTERNAL_INPUT)
_OUTPUTS = (_EVENT.OUTPUT, _EVENT.DECLARED_OUTPUT)
# What a resolver hands on was made by another execution.
_HANDED_ON = (*_OUTPUTS, _EVENT.INTERNAL_OUTPUT)
_STATES = metadata_store_pb2.Execution.State
_PIPELINE, _RUN, _NODE = "pipeline", "pipeline_run", "node"
# Where TFX's runners put the message of a failed executor.
_RESULT = "__execution_result__"


class Graph:
    """Reads a store; what was read once is kept.

    Args:
        store: An open one.
    """

    def __init__(self, store: mlmd.MetadataStore) -> None:
        self.store = store
        self._artifacts: dict[int, Artifact] = {}
        self._executions: dict[int, Execution] = {}

    def artifacts(self, ids: Iterable[int]) -> dict[int, Artifact]:
        """Returns artifacts by id; ids that do not exist are left out."""
        wanted = list(ids)
        new = [i for i in wanted if i not in self._artifacts]
        found = self.store.get_artifacts_by_id(new) if new else []
        producers = self._producers([artifact.id for artifact in found])
        for artifact in found:
            self._artifacts[artifact.id] = Artifact(
                id=artifact.id,
                type=artifact.type,
                uri=artifact.uri,
                state=metadata_store_pb2.Artifact.State.Name(artifact.state).lower(),
                is_there=is_there(artifact.uri),
                producer=producers.get(artifact.id),
                properties=_plain(artifact),
            )
        return {i: self._artifacts[i] for i in wanted if i in self._artifacts}

    def executions(self, ids: Iterable[int]) -> dict[int, Execution]:
        """Returns executions by id."""
        wanted = list(ids)
        new = [i for i in wanted if i not in self._executions]
        events: dict[int, list[Any]] = {i: [] for i in new}
        for event in self.store.get_events_by_execution_ids(new) if new else []:
            events[event.execution_id].append(event)
        for execution in self.store.get_executions_by_id(new) if new else []:
            contexts = {c.type: c.name for c in self.store.get_contexts_by_execution(execution.id)}
            properties = _plain(execution)
            pipeline, node = contexts.get(_PIPELINE), contexts.get(_NODE)
            component = node.removeprefix(f"{pipeline}.") if node else execution.type.rpartition(".")[2]
            self._executions[execution.id] = Execution(
                id=execution.id,
                component=component,
                type=execution.type,
                state=_STATES.Name(execution.last_known_state).lower(),
                pipeline=pipeline,
                run=contexts.get(_RUN),
                time_ms=execution.last_update_time_since_epoch,
                error=_message(properties.pop(_RESULT, None)),
                properties=properties,
                inputs=_channels(events[execution.id], _INPUTS),
                outputs=_channels(events[execution.id], _HANDED_ON),
            )
        return {i: self._executions[i] for i in wanted}

    def makers(self, artifacts: Iterable[int]) -> set[int]:
        """Returns the executions that had these artifacts as outputs, made anew or from the cache."""
        return self._connected(artifacts, _OUTPUTS)

    def readers(self, artifacts: Iterable[int]) -> set[int]:
        """Returns the executions that had these artifacts as inputs."""
        return self._connected(artifacts, _INPUTS)

    def of_type(self, name: str) -> list[int]:
        """Returns the ids of all artifacts of a type, whatever module it comes from."""
        types = [t for t in self.store.get_artifact_types() if is_type(t.name, name)]
        return sorted({a.id for t in types for a in self.store.get_artifacts_by_type(t.name)})

    def later_run(self, name: str | None) -> tuple[str, list[Execution]] | None:
        """Returns the latest run, if it began after the named one, with its executions."""
        types = {t.name for t in self.store.get_context_types()}
        runs = sorted(self.store.get_contexts_by_type(_RUN), key=lambda run: run.id) if _RUN in types else []
        if not runs or runs[-1].name == name:
            return None
        ids = [execution.id for execution in self.store.get_executions_by_context(runs[-1].id)]
        return runs[-1].name, list(self.executions(sorted(ids)).values())

    def _connected(self, artifacts: Iterable[int], kinds: tuple[int, ...]) -> set[int]:
        ids = list(artifacts)
        events = self.store.get_events_by_artifact_ids(ids) if ids else []
        return {event.execution_id for event in events if event.type in kinds}

    def _producers(self, artifacts: list[int]) -> dict[int, int]:
        events = self.store.get_events_by_artifact_ids(artifacts) if artifacts else []
        made = [event for event in events if event.type in _OUTPUTS]
        executions = self.store.get_executions_by_id({event.execution_id for event in made}) if made else []
        cached = {execution.id: execution.last_known_state == _STATES.Value("CACHED") for execution in executions}
        producers: dict[int, int] = {}
        # The first that did not come from the cache, if the metadata still has it.
        for event in sorted(made, key=lambda event: (cached.get(event.execution_id, True), event.execution_id)):
            producers.setdefault(event.artifact_id, event.execution_id)
        return producers


def is_type(full_name: str, name: str) -> bool:
    """Returns whether the name of a type, perhaps with that of a module before it, is this one."""
    return full_name.rpartition(".")[2] == name


def _channels(events: Iterable[Any], kinds: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    channels: dict[str, list[int]] = {}
    for event in events:
        if event.type in kinds:
            key = next((step.key for step in event.path.steps if step.HasField("key")), "")
            channels.setdefault(key, []).append(event.artifact_id)
    return {key: tuple(ids) for key, ids in channels.items()}


def _plain(node: Any) -> dict[str, Value]:
    values = [*node.properties.items(), *node.custom_properties.items()]
    return {name: _value(value) for name, value in sorted(values, key=lambda pair: pair[0])}


def _value(value: Any) -> Value:
    kind = value.WhichOneof("value")
    found = getattr(value, kind) if kind else ""
    return found if isinstance(found, str | int | float) else str(found)


def _message(result: Value | None) -> str | None:
    if result is None:
        return None
    try:
        return json.loads(str(result)).get("resultMessage")
    except (json.JSONDecodeError, AttributeError):
        return str(result)
