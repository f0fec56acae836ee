"""What pipeline runs leave behind: their files, and what came of each."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from edge_exray import errors
from edge_exray.provenance.lineage import INFRA_BLESSING, MODEL_BLESSING, lineage

NEEDED = frozenset(
    {"PushedModel", "ModelBlessing", "InfraBlessing", "edge_exray.LayerReport", "edge_exray.KernelProfile"}
)
"""Types of the artifacts that a run which got as far as Pusher has."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of local runs under one root; runs of the same root share metadata and cache."""

    root: pathlib.Path

    @property
    def data(self) -> pathlib.Path:
        """The demo's tiles."""
        return self.root / "data"

    @property
    def artifacts(self) -> pathlib.Path:
        """The pipeline root."""
        return self.root / "pipeline"

    @property
    def serving(self) -> pathlib.Path:
        """Where blessed models are pushed."""
        return self.root / "serving"

    @property
    def metadata(self) -> pathlib.Path:
        """ML Metadata, SQLite."""
        return self.root / "metadata.sqlite"

    @property
    def logs(self) -> pathlib.Path:
        """Output of runs that were started by the demo."""
        return self.root / "logs"


@dataclasses.dataclass(frozen=True)
class RunArtifact:
    """What a component left behind.

    Attributes:
        uri: Where it is.
        properties: Its custom properties.
    """

    uri: str
    properties: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Outcome of one pipeline run.

    Attributes:
        run_id: Name of the run in the metadata.
        pushed: Whether Pusher pushed the edge model.
        destination: Where it was pushed to; None when it was not.
        model_blessed: Whether LayerValidator blessed the edge model.
        infra_blessed: Whether KernelProfiler blessed it.
        report_dir: Folder of `report.json` and `report.html`.
        profile_dir: Folder of `profile.json`.
    """

    run_id: str
    pushed: bool
    destination: str | None
    model_blessed: bool
    infra_blessed: bool
    report_dir: pathlib.Path
    profile_dir: pathlib.Path

    def report(self) -> dict[str, Any]:
        """Returns the validation report, see `schemas/report.schema.json`."""
        return json.loads((self.report_dir / "report.json").read_text("utf-8"))

    def profile(self) -> dict[str, Any]:
        """Returns the kernel profile, see `schemas/kernel_profile.schema.json`."""
        return json.loads((self.profile_dir / "profile.json").read_text("utf-8"))

    def reasons(self) -> list[str]:
        """Returns why the model was not pushed: the messages of all failed or inconclusive checks, cause first."""
        documents = [] if self.model_blessed else [self.report()]
        documents += [] if self.infra_blessed else [self.profile()]
        return [c["message"] for d in documents for c in d["checks"] if c["verdict"] != "passed"]

    def outcome(self) -> str:
        """Returns two lines: whether the model was pushed or why not, and where the report is."""
        outcome = f"pushed to {self.destination}" if self.pushed else f"not pushed: {' '.join(self.reasons())}"
        return f"{outcome}\nreport: {self.report_dir / 'report.html'}"


def latest_run(layout: Layout) -> RunRecord:
    """Reads the last run from the metadata.

    Args:
        layout: Where the local runner ran.

    Raises:
        ArtifactError: There is no run, or it did not get as far as Pusher.
    """
    found = lineage(layout.metadata)
    push = found.push
    if push is None or found.later_run:
        raise errors.ArtifactError(f"{layout.metadata} has no outcome of the last run. {found.later_run}")
    model, infra = push.blessing(MODEL_BLESSING), push.blessing(INFRA_BLESSING)
    if model is None or infra is None or not model.report or not infra.report:
        raise errors.ArtifactError(
            f"{layout.metadata}: {push.run} is no run of the demo's pipeline, which gives Pusher both blessings"
        )
    return RunRecord(
        run_id=push.run or "",
        pushed=push.pushed,
        destination=push.destination,
        model_blessed=model.blessed,
        infra_blessed=infra.blessed,
        report_dir=pathlib.Path(model.report),
        profile_dir=pathlib.Path(infra.report),
    )


def record_of(place: str, run_id: str, by_type: Mapping[str, RunArtifact]) -> RunRecord:
    """Reads the outcome of a run from its artifacts.

    Args:
        place: What an error calls the run.
        run_id: Name of the run.
        by_type: The names of the artifact types to the artifacts.

    Raises:
        ArtifactError: It did not get as far as Pusher, or has no such components.
    """
    missing = NEEDED - set(by_type)
    if missing:
        raise errors.ArtifactError(f"run {place} has no {', '.join(sorted(missing))}: it did not finish; see its log")
    pushed = by_type["PushedModel"].properties
    is_pushed = pushed.get("pushed") == 1
    return RunRecord(
        run_id=run_id,
        pushed=is_pushed,
        destination=str(pushed["pushed_destination"]) if is_pushed else None,
        model_blessed=by_type["ModelBlessing"].properties.get("blessed") == 1,
        infra_blessed=by_type["InfraBlessing"].properties.get("blessed") == 1,
        report_dir=pathlib.Path(by_type["edge_exray.LayerReport"].uri),
        profile_dir=pathlib.Path(by_type["edge_exray.KernelProfile"].uri),
    )
