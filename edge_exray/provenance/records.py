"""What came of pushes, and the artifacts and executions that led to them."""

import dataclasses
import enum
import os
from collections.abc import Mapping
from typing import Any

Value = str | int | float


class Outcome(str, enum.Enum):
    """What came of an execution of Pusher."""

    PUSHED = "pushed"
    BLOCKED = "blocked"
    FAILED = "failed"
    UNFINISHED = "unfinished"

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True)
class Artifact:
    """An artifact of the metadata.

    Attributes:
        id: Its number in the metadata.
        type: Name of its type.
        uri: Where its files are.
        state: What the metadata says of it: `live`, `deleted`, `abandoned`, ...
        is_there: Whether there is anything at the URI; None when that is no path of this machine.
        producer: Id of the execution that made it, not of one that took it from the cache; None when none is known.
        properties: All that the metadata tells of it.
    """

    id: int
    type: str
    uri: str
    state: str
    is_there: bool | None
    producer: int | None
    properties: Mapping[str, Value]


@dataclasses.dataclass(frozen=True)
class Execution:
    """One run of a component.

    Attributes:
        id: Its number in the metadata.
        component: Name of the node in its pipeline.
        type: Name of its type.
        state: `complete`, `cached`, `failed`, `running`, ...
        pipeline: Name of the pipeline; None when it is not recorded.
        run: Name of the run of the pipeline; None when it is not recorded.
        time_ms: When it was last changed, in ms since 1970.
        error: Message of a failure, where the runner recorded one.
        properties: Parameters.
        inputs: Name of the channel to the ids of its artifacts.
        outputs: The same for what it made.
    """

    id: int
    component: str
    type: str
    state: str
    pipeline: str | None
    run: str | None
    time_ms: int
    error: str | None
    properties: Mapping[str, Value]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Blessing:
    """What a component said to Pusher, and why.

    Attributes:
        artifact: Id of the blessing.
        channel: Pusher's name for it: `model_blessing` or `infra_blessing`.
        component: Who said it; None when that is not recorded.
        blessed: Whether it lets the model go.
        verdict: `passed`, `failed` or `inconclusive`; None where the component tells none, as TFX's own do.
        reason: In a sentence; None as well.
        failed_checks: Names of the checks that did not pass, the cause first.
        worst_layer: Layer that is to blame; None when there is none.
        report: Folder of the report or profile; None when none is recorded.
        page: File in it to read; None as well.
    """

    artifact: int
    channel: str
    component: str | None
    blessed: bool
    verdict: str | None
    reason: str | None
    failed_checks: tuple[str, ...]
    worst_layer: str | None
    report: str | None
    page: str | None


@dataclasses.dataclass(frozen=True)
class Push:
    """An execution of Pusher.

    Attributes:
        outcome: What came of it.
        execution: Id of the execution.
        run: Name of the run of the pipeline; None when it is not recorded.
        pipeline: Name of the pipeline; None as well.
        time_ms: When, in ms since 1970.
        cached: Whether it comes from the cache: nothing was copied by this run.
        model: Id of the Model that was to be pushed; None when it is not recorded.
        pushed_model: Id of the PushedModel; None when a failure left none.
        destination: Where the model was pushed to; None when it was not.
        version: Name of the version there; None as well.
        is_there: Whether there is still anything; None when the destination is no path of this machine.
        blessings: What it was told.
        error: Message of a failure, where the runner recorded one.
    """

    outcome: Outcome
    execution: int
    run: str | None
    pipeline: str | None
    time_ms: int
    cached: bool
    model: int | None
    pushed_model: int | None
    destination: str | None
    version: str | None
    is_there: bool | None
    blessings: tuple[Blessing, ...]
    error: str | None

    @property
    def pushed(self) -> bool:
        """Whether the model was pushed."""
        return self.outcome is Outcome.PUSHED

    def __str__(self) -> str:
        """Returns in a line what came of it."""
        if not self.pushed:
            return f"{self.outcome}: {self.reason}"
        told = f"pushed to {self.destination}"
        if self.is_there is False:
            return f"{told}, where there is nothing any more: take it from the model's artifact, or clear the cache"
        return f"{told} by an earlier run, whose result the cache had: nothing was copied" if self.cached else told

    def blessing(self, channel: str) -> Blessing | None:
        """Returns the blessing of a channel, `model_blessing` or `infra_blessing`."""
        return next((blessing for blessing in self.blessings if blessing.channel == channel), None)

    @property
    def reason(self) -> str | None:
        """Why nothing was pushed; None when it was."""
        if self.pushed:
            return None
        if self.outcome is not Outcome.BLOCKED:
            return self.error or f"Pusher {self.outcome}; the metadata has no reason, the log of the run may."
        refused = [blessing for blessing in self.blessings if not blessing.blessed]
        told = [b.reason or f"{b.component or b.channel} did not bless the model and gave no reason." for b in refused]
        return " ".join(told) or "Pusher did not push, though nothing in the metadata held it back."


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Where a model comes from and what came of it.

    Attributes:
        model: Id of the model; None for a push without one.
        push: Its latest push, or the one that was asked for; None when it was never to be pushed.
        other_pushes: What else came of the same model, of a cloud model also of others that were made of it; the latest
            first.
        parts: What a push of an edge model rests on, by name, to the ids of the artifacts. Empty for what the pipeline
            has not got or what is not recorded.
        artifacts: All that led to it, by id; what it was only compared with is there without its own ancestors.
        executions: What made them, by id.
        later_run: What became of the latest run of the pipeline, when it came later and did not get as far as a push.
    """

    model: int | None
    push: Push | None
    other_pushes: tuple[Push, ...]
    parts: Mapping[str, tuple[int, ...]]
    artifacts: Mapping[int, Artifact]
    executions: Mapping[int, Execution]
    later_run: str | None

    @property
    def missing(self) -> list[str]:
        """Parts that the metadata does not have."""
        return [name for name, ids in self.parts.items() if not ids]

    @property
    def gone(self) -> list[Artifact]:
        """Artifacts that the metadata has and whose files are no more."""
        return [artifact for artifact in self.artifacts.values() if artifact.is_there is False]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain values, for JSON."""
        document = dataclasses.asdict(self)
        document["artifacts"] = list(document["artifacts"].values())
        document["executions"] = list(document["executions"].values())
        pushes = ((document["push"], self.push), *zip(document["other_pushes"], self.other_pushes, strict=True))
        for plain, push in pushes:
            if push is not None:
                plain |= {"outcome": str(push.outcome), "reason": push.reason}
        return document | {"missing": self.missing, "gone": [artifact.id for artifact in self.gone]}


def is_there(uri: str) -> bool | None:
    """Returns whether there is anything at a URI; None when it is no path of this machine."""
    path = uri.removeprefix("file://")
    return os.path.exists(path) if path and "://" not in path else None
