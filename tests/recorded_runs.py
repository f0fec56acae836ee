"""Metadata of pipeline runs as TFX records it, without running any."""

import pathlib
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

PIPELINE = "gate"


class Recorder:
    """Writes runs into a SQLite database; the artifacts are folders beside it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.database = folder / "metadata.sqlite"
        connection = metadata_store_pb2.ConnectionConfig()
        connection.sqlite.filename_uri = str(self.database)
        connection.sqlite.connection_mode = connection.sqlite.READWRITE_OPENCREATE
        self.store = mlmd.MetadataStore(connection)
        self.run_name = ""

    def begin(self, run: str) -> None:
        """The executions that follow belong to this run."""
        self.run_name = run
        self._context("pipeline_run", run)

    def execute(
        self,
        component: str,
        inputs: dict[str, int] | None = None,
        outputs: dict[str, tuple[str, dict[str, Any]] | int] | None = None,
        state: str = "COMPLETE",
    ) -> dict[str, int]:
        """Records an execution.

        Args:
            component: Its name; the type is in a module of that name.
            inputs: Channel to artifact.
            outputs: Channel to type and custom properties of a new artifact, or to one that the cache had.
            state: What became of it.

        Returns:
            Channel to the id of each output.
        """
        kind = metadata_store_pb2.ExecutionType(name=f"components.{component.lower()}.{component}")
        execution = metadata_store_pb2.Execution(
            type_id=self.store.put_execution_type(kind), last_known_state=getattr(metadata_store_pb2.Execution, state)
        )
        event = metadata_store_pb2.Event
        pairs = []
        for channel, found in (inputs or {}).items():
            pairs.append((*self.store.get_artifacts_by_id([found]), _event(event.INPUT, channel)))
        for channel, made in (outputs or {}).items():
            if isinstance(made, int):
                (artifact,) = self.store.get_artifacts_by_id([made])
            else:
                artifact = self._artifact(*made, self.folder / self.run_name / component / channel)
            pairs.append((artifact, _event(event.OUTPUT, channel)))
        contexts = [
            self._context("pipeline", PIPELINE),
            self._context("pipeline_run", self.run_name),
            self._context("node", f"{PIPELINE}.{component}"),
        ]
        _, artifacts, _ = self.store.put_execution(execution, pairs, contexts, reuse_context_if_already_exist=True)
        return dict(zip(outputs or {}, artifacts[len(inputs or {}) :], strict=True))

    def _artifact(self, kind: str, properties: dict[str, Any], place: pathlib.Path) -> metadata_store_pb2.Artifact:
        place.mkdir(parents=True)
        kind_id = self.store.put_artifact_type(metadata_store_pb2.ArtifactType(name=kind))
        artifact = metadata_store_pb2.Artifact(type_id=kind_id, uri=str(place), state=metadata_store_pb2.Artifact.LIVE)
        for key, value in properties.items():
            setattr(artifact.custom_properties[key], "int_value" if isinstance(value, int) else "string_value", value)
        return artifact

    def _context(self, kind: str, name: str) -> metadata_store_pb2.Context:
        kind_id = self.store.put_context_type(metadata_store_pb2.ContextType(name=kind))
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is None:
            self.store.put_contexts([metadata_store_pb2.Context(type_id=kind_id, name=name)])
            found = self.store.get_context_by_type_and_name(kind, name)
        return found

    def gate(
        self,
        run: str,
        *,
        model: int = 1,
        infra: int | None = 1,
        cached: dict[str, int] | None = None,
        baseline: int | None = None,
        push: bool = True,
    ) -> dict[str, int]:
        """Records a run of the whole pipeline.

        Args:
            run: Name of the run.
            model: What LayerValidator says.
            infra: What KernelProfiler says; None when the pipeline has none.
            cached: What an earlier run returned, whose examples and models come from the cache.
            baseline: Report that LayerValidator compared with.
            push: Whether Pusher ran.

        Returns:
            Channel of each output to its id.
        """
        self.begin(run)
        old = cached or {}
        state = "CACHED" if cached else "COMPLETE"
        made: dict[str, int] = {}

        def step(component: str, inputs: dict[str, str], outputs: dict[str, tuple[str, dict[str, Any]]]) -> None:
            again = {channel: old.get(channel, new) for channel, new in outputs.items()}
            made.update(self.execute(component, {k: made[v] for k, v in inputs.items()}, again, state))

        step("ExampleGen", {}, {"examples": ("Examples", {})})
        step("Trainer", {"examples": "examples"}, {"model": ("Model", {})})
        edge_models = {"edge_model": ("Model", {"quantization": "int8"}), "float_edge_model": ("Model", {})}
        report = {"conversion_report": ("edge_exray.ConversionReport", {})}
        step("EdgeConverter", {"model": "model", "examples": "examples"}, edge_models | report)
        state, old = "COMPLETE", {}
        replayed = {name: name for name in ("model", "edge_model", "float_edge_model", "examples")}
        step("EdgeReplay", replayed, {"replay": ("edge_exray.EdgeReplayResult", {})})
        told: dict[str, str] = {}
        if infra is not None:
            reason = {"verdict": ("failed", "passed")[infra], "reason": "It is slow." * (1 - infra)}
            profile = {"profile": str(self.folder / run / "KernelProfiler" / "profile")}
            outputs = {
                "infra_blessing": ("InfraBlessing", {"blessed": infra, **reason, **profile}),
                "profile": ("edge_exray.KernelProfile", {}),
            }
            step("KernelProfiler", {"edge_model": "edge_model"}, outputs)
            told["infra_blessing"] = "infra_blessing"
        reasons = {
            "verdict": ("failed", "passed")[model],
            "failed_checks": ("own_error,label_flip_rate", "")[model],
            "reason": ("Layer 4 is wrong.", "All is well.")[model],
            "worst_layer": ("block/conv", "")[model],
            "report": str(self.folder / run / "LayerValidator" / "report"),
        }
        if baseline is not None:
            made["baseline"] = baseline
        compared = {"baseline_report": "baseline"} if baseline is not None else {}
        outputs = {
            "model_blessing": ("ModelBlessing", {"blessed": model, **reasons}),
            "report": ("edge_exray.LayerReport", {}),
        }
        step("LayerValidator", {"replay": "replay"} | compared, outputs)
        if push:
            pushed = model and infra in (1, None)
            place = self.folder / "serving" / run
            properties = {"pushed_destination": str(place), "pushed_version": run} if pushed else {}
            if pushed:
                place.mkdir(parents=True)
            step(
                "Pusher",
                {"model": "edge_model", "model_blessing": "model_blessing"} | told,
                {"pushed_model": ("PushedModel", {"pushed": int(bool(pushed)), **properties})},
            )
        return made


def _event(kind: int, channel: str) -> metadata_store_pb2.Event:
    event = metadata_store_pb2.Event(type=kind)
    event.path.steps.add().key = channel
    event.path.steps.add().index = 0
    return event
