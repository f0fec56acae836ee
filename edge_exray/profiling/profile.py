"""The kernel profile: what the models cost, and whether the budgets are kept."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from edge_exray import environment, errors, files, schemas
from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import budget, comparison, device_budgets, device_profile, machine, profiler
from edge_exray.profiling.analysis import analyse
from edge_exray.profiling.feeds import Feed, random_feed
from edge_exray.profiling.groups import Group
from edge_exray.profiling.model_profile import ModelProfile
from edge_exray.profiling.roofline import Roofline
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.profiling.stragglers import Straggler

FORMAT_VERSION = 1
FILENAME = "profile.json"


@dataclasses.dataclass(frozen=True)
class Unmeasured:
    """A model that this machine could not time.

    Attributes:
        role, path: The model.
        reason: Why not, for people.
    """

    role: str
    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Profile:
    """Outcome of profiling; `bool(profile)` is true only when the verdict is `passed`.

    The JSON form is described by `schemas/kernel_profile.schema.json`. It is the content of `edge_exray.KernelProfile`,
    the artifact of KernelProfiler, as `edge_exray.Report` is that of `edge_exray.LayerReport`.

    Attributes:
        verdict: `failed` when a budget is exceeded, `inconclusive` when one cannot be decided.
        summary: One sentence for people.
        checks: One for each budget that is set.
        models: One for each model, the edge model first; those of this machine before those of others.
        environment: Versions and machine facts.
        machine: See `edge_exray.profiling.machine.describe`; None when it is not known.
        comparison: See `edge_exray.profiling.comparison.compare`; None with one model.
        roofline: What the machine can do at best; None when it was not measured.
        stragglers: Ops that take longer than they need to, what saves most first.
        groups: Times by type of op, by layer and by kernels.
        unmeasured: Models that this machine could not time, because it does not run the edge model. The verdict is that
            of the budgets on other machines then.
    """

    verdict: Verdict
    summary: str
    checks: list[CheckResult]
    models: list[ModelProfile]
    environment: dict[str, Any]
    machine: dict[str, Any] | None = None
    comparison: dict[str, Any] | None = None
    roofline: Roofline | None = None
    stragglers: list[Straggler] = dataclasses.field(default_factory=list)
    groups: list[Group] = dataclasses.field(default_factory=list)
    unmeasured: list[Unmeasured] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASSED

    @property
    def failed_checks(self) -> list[CheckResult]:
        """The checks whose budget is exceeded."""
        return [check for check in self.checks if check.verdict is Verdict.FAILED]

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON document."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        """Returns the JSON text of `to_dict`, checked against the schema."""
        # Through JSON first: the schema knows texts and arrays, not enums and tuples.
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        schemas.check(json.loads(text), "kernel_profile", errors.ArtifactError)
        return text

    @classmethod
    def from_json(cls, text: str, source: str = "") -> "Profile":
        """Reads what `to_json` wrote.

        Args:
            text: The document.
            source: Name of the file that it is from, for messages.

        Raises:
            ArtifactError: The text is no JSON or does not fit the schema.
        """
        title = " ".join(filter(None, ["kernel profile", source]))
        try:
            document = json.loads(text)
        except json.JSONDecodeError as e:
            raise errors.ArtifactError(f"{title} is not valid JSON: {e}; give what a profiling wrote") from e
        schemas.check(document, "kernel_profile", errors.ArtifactError, title)
        return cls(
            verdict=Verdict(document["verdict"]),
            summary=document["summary"],
            checks=[CheckResult(**{**c, "verdict": Verdict(c["verdict"])}) for c in document["checks"]],
            models=[ModelProfile.from_dict(m) for m in document["models"]],
            environment=document["environment"],
            machine=document.get("machine"),
            comparison=document.get("comparison"),
            roofline=Roofline.from_dict(document["roofline"]) if document.get("roofline") else None,
            stragglers=[Straggler(**s) for s in document.get("stragglers", ())],
            groups=[Group(**g) for g in document.get("groups", ())],
            unmeasured=[Unmeasured(**u) for u in document.get("unmeasured", ())],
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Profile":
        """Reads a `profile.json`, or that of a folder.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        place = pathlib.Path(path)
        if place.is_dir():
            place /= FILENAME
        try:
            text = place.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            reason = e.strerror if isinstance(e, OSError) else "it is no text"
            raise errors.ArtifactError(
                f"cannot read the kernel profile {place}: {reason}; give a profile.json or the folder that it is in"
            ) from e
        return cls.from_json(text, os.fspath(place))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a `profile.json`, whole or not at all."""
        files.write_atomically(path, self.to_json().encode())


def profile(
    models: Mapping[str, str | os.PathLike[str]],
    spec: ProfileSpec | None = None,
    feeds: Sequence[Feed] | None = None,
    *,
    signature: str | None = None,
    baseline: Profile | None = None,
    device_profiles: Mapping[str, str | os.PathLike[str]] | None = None,
) -> Profile:
    """Profiles models on this machine and checks the edge model's budgets, here and on other machines.

    Args:
        models: Role to path of a .tflite. The role `edge` is the model that the budgets are for, `float_edge` the
            one that `max_latency_ratio_to_float` compares it with, `baseline` the one of `max_latency_growth`; others
            are only profiled.
        spec: Budgets and conditions; None sets no budget.
        feeds: Inputs with batch axis, real values for quantised inputs; None makes random ones.
        signature: The signature to run; may be left out when the models have at most one.
        baseline: Profile of the model that was blessed last; only with `max_latency_growth`. Where the file of that
            model is still as it was, it is timed again in turn with the new one, which no load of the machine and no
            change of it falsifies. Otherwise the stored figures count, if they are of a machine like this one.
        device_profiles: Name of another machine to its profile of the edge model, which the budgets of latency and
            memory hold for too; see `edge_exray.profiling.device_profile.read_profiles`. With one of these the edge
            model need not run here, as long as there is a budget for them.

    Raises:
        ArtifactError: A machine's profile is damaged or of another model.
        ProfilingError: There is no model with the role `edge`, or a model cannot be timed.
        ModelError: A model does not load, or it does not run here and there is no other machine to judge it by.
        DataError: The feeds do not fit a model.
        SpecError: A budget is for a type of op that there is not, or there is a baseline and no `max_latency_growth`.
    """
    if budget.EDGE not in models:
        raise errors.ProfilingError(
            f"no model has the role {budget.EDGE!r}, only {sorted(models)}: name the edge model so"
        )
    spec = spec or ProfileSpec()
    if baseline is not None and spec.max_latency_growth is None:
        raise errors.SpecError(
            "the profile spec sets no max_latency_growth, which the baseline is there for: set it, for example to 1.1, "
            "or leave the baseline out; to see two models side by side give both as models"
        )
    devices = device_profile.read_profiles(device_profiles or {}, models)
    here = machine.describe()
    stored = None
    if baseline is not None and budget.BASELINE not in models and not baseline.unmeasured:
        stored = budget.Baseline(_edge(baseline), baseline.machine)
        if _is_unchanged(stored.model) and _takes(stored.model.path, signature, feeds):
            models = {**models, budget.BASELINE: stored.model.path}
    ordered = {role: models[role] for role in sorted(models, key=lambda role: role != budget.EDGE)}
    there = device_budgets.check_devices(devices, spec, baseline.models if baseline else None)
    try:
        profiles = profiler.profile_models(ordered, spec, feeds=feeds, signature=signature)
    except errors.UnrunnableError as e:
        if not devices or e.path != os.fspath(models[budget.EDGE]):
            raise
        return _elsewhere(ordered, e, devices, there, spec)
    checks = budget.check_budgets(profiles, spec, stored, here) + there
    verdict = _verdict(checks)
    found = analyse(profiles, feeds)
    described = [*found.models, *devices]
    return Profile(
        verdict,
        _summary(profiles[0], checks, verdict),
        checks,
        described,
        environment.describe(),
        machine=here,
        comparison=comparison.compare(described),
        roofline=found.roofline,
        stragglers=found.stragglers,
        groups=found.groups,
    )


def _elsewhere(
    models: Mapping[str, str | os.PathLike[str]],
    failure: errors.UnrunnableError,
    devices: Sequence[ModelProfile],
    there: Sequence[CheckResult],
    spec: ProfileSpec,
) -> Profile:
    """Judges a model that this machine does not run by what other machines measured.

    Raises:
        UnrunnableError: No budget is for other machines.
    """
    if not there:
        raise errors.UnrunnableError(
            f"{failure}. Nor is there a budget that the profiles of other machines could be held to: set one of "
            "latency or memory, for example max_latency_ms",
            failure.path,
        ) from failure
    checks = [*budget.check_size(os.path.getsize(failure.path), spec), *there]
    verdict = _verdict(checks)
    names = ", ".join(profile.device["name"] for profile in devices if profile.device)
    return Profile(
        verdict,
        f"{_summary(devices[0], checks, verdict)}. It was not measured here, only on {names}: {failure}",
        checks,
        list(devices),
        environment.describe(),
        machine=machine.describe(),
        comparison=comparison.compare(devices),
        unmeasured=[
            Unmeasured(
                role, os.fspath(path), str(failure) if role == budget.EDGE else "the edge model does not run here"
            )
            for role, path in models.items()
        ],
    )


def _edge(baseline: Profile) -> ModelProfile:
    edge = next((model for model in baseline.models if model.role == budget.EDGE), None)
    if edge is None:
        raise errors.ProfilingError("the baseline profile has no edge model: give one that `profile` made")
    return edge


def _is_unchanged(model: ModelProfile) -> bool:
    """Returns whether the file that was profiled is still there."""
    path = pathlib.Path(model.path)
    return path.is_file() and files.sha256(path) == model.fingerprint


def _takes(path: str, signature: str | None, feeds: Sequence[Feed] | None) -> bool:
    """Returns whether a model can be fed what the new one is."""
    try:
        plain = EdgeModel(path, signature=signature)
        plain.set_inputs(feeds[0] if feeds else random_feed(plain.inputs))
    except (errors.DataError, errors.ModelError):
        return False
    return True


def _verdict(checks: Sequence[CheckResult]) -> Verdict:
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        if any(check.verdict is verdict for check in checks):
            return verdict
    return Verdict.PASSED


def _summary(edge: ModelProfile, checks: Sequence[CheckResult], verdict: Verdict) -> str:
    if verdict is not Verdict.PASSED:
        return "; ".join(check.message for check in checks if check.verdict is verdict)
    kept = f"keeps all of its {len(checks)} budgets" if len(checks) > 1 else "keeps its budget"
    said = f"The edge model {kept}" if checks else "Measured; no budget is set"
    size = f", {edge.bytes:,} bytes" if edge.bytes is not None else ""
    return f"{said}: p50 latency {edge.latency_ms.p50:.4g} ms{size}"
