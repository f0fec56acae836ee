"""The whole job as functions: convert what is missing, replay, judge, report."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edge_exray import errors, files
from edge_exray.conversion.converter import convert
from edge_exray.conversion.linter import lint
from edge_exray.diagnosis.baseline import Baseline
from edge_exray.diagnosis.checks import arrange
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.report import Report
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.frames.examples import Example, check_examples, try_examples
from edge_exray.frames.functions import UserFunctions, load_functions
from edge_exray.models import locations
from edge_exray.profiling import profile as profiling
from edge_exray.profiling.budget import EDGE
from edge_exray.profiling.feeds import Feed
from edge_exray.profiling.spec import ProfileSpec
from edge_exray.replay.device_logs import DeviceLogs, over_logs
from edge_exray.replay.replay import Stream, replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.sampling import sample
from edge_exray.replay.tally import TallyOptions

__all__ = ["check_paths", "lint", "name_roles", "profile", "validate"]

Logs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""The name of a log or a folder of logs, or several."""


def check_paths(
    cloud: str | os.PathLike[str],
    edge: str | os.PathLike[str],
    examples: str | os.PathLike[str] | Iterable[Example] | None = None,
    *,
    logs: Logs | None = None,
    out: str | os.PathLike[str] | None = None,
    float_edge: str | os.PathLike[str] | None = None,
) -> None:
    """Does what needs no TensorFlow of `validate`: makes sure that there is something at each path.

    Raises:
        ModelError: A model is missing, or something else is there.
        DataError: Examples or logs are missing, both are given, or a log is another model's.
        ArtifactError: Nothing can be written to `out`.
    """
    locations.check_saved_model(cloud)
    for model in (edge, float_edge):
        if model is not None:
            locations.check_tflite(model)
    if (examples is None) == (logs is None):
        raise errors.DataError("give either examples or the logs of devices to replay, one of the two")
    if isinstance(examples, str | os.PathLike):
        check_examples(os.fspath(examples))
    if logs is not None:
        _open_logs(logs).require_model(edge)
    if out is not None:
        files.check_folder(out)


def validate(
    cloud: str | os.PathLike[str],
    edge: str | os.PathLike[str],
    examples: str | os.PathLike[str] | Iterable[Example] | None = None,
    *,
    logs: Logs | None = None,
    out: str | os.PathLike[str] | None = None,
    spec: ValidationSpec | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    module: str | UserFunctions | None = None,
    signature: str | None = None,
    slice_keys: Sequence[str] = (),
    max_failed_frames: int = 0,
    worst_frames: int = 5,
    input_samples: int = 16,
    layer_frames: int = 0,
    kernel_frames: int = 0,
    environments: Sequence[str] = (),
    float_edge: str | os.PathLike[str] | None = None,
    kernels: dict[str, Any] | None = None,
    baseline: str | os.PathLike[str] | None = None,
    progress: Callable[[Stream], Stream] = iter,
) -> Report:
    """Tells whether an edge model does what a cloud model does, and if not, why.

    Args:
        cloud: Directory of the SavedModel.
        edge: Path of the .tflite.
        examples: Examples as a path, see `edge_exray.frames.examples.read_examples`, or as mappings of feature name
            to array, one a frame.
        logs: Instead of examples, logs that `EdgeMonitor` wrote on devices: a path (the name of a log, or a folder), or
            several. The functions of the module are given the raw inputs, and what the app said of a frame, by name;
            what the device logged takes the place of the edge side. The first device is judged, what others answered
            to the frames of the same ids gives the instability across devices.
        out: Directory for `report.html`, `report.json`, `summary.md`, `junit.xml`, `model_explorer/` and `replay/`;
            None writes nothing.
        spec: The limits, as a spec, a mapping, JSON text or the path of a JSON file; None for the defaults.
        module: The user's functions and checks, as a `.py` file, an importable module, or functions.
        signature: Signature of the SavedModel; None takes the only one with dense inputs, or `serving_default` of
            several with the same inputs and outputs.
        slice_keys: Features whose values name slices.
        max_failed_frames: How many frames may fail (undecodable, a function raises, a shape does not fit) before the
            validation ends with an error; with 0 the first one ends it.
        worst_frames: How many of the frames with the most different answers are kept with their tensors.
        input_samples: Of how many frames the inputs of both sides are kept, where the app prepares its own; what it
            does differently is searched on these.
        layer_frames: How many frames the layers are compared on, chosen by their ids; 0 takes all. The outputs are
            compared for every frame.
        kernel_frames: How many frames each op is also run on by built-in and reference kernels, chosen likewise; 0
            takes none.
        environments: What the edge model also answers on, as `"reference"` or `"xnnpack:4"` (kernels and threads); how
            often that decides whether it is right is its instability. Variants of the app's preprocessing, which
            `edge_variants_fn` of the module makes, count as environments too.
        float_edge: The same conversion as `edge` without quantisation; None makes it.
        kernels: A document of `schemas/kernel_profile.schema.json` to show in the report.
        baseline: `report.json` of the model that was blessed last, which this one may not be worse than.
        progress: Wraps the examples, for example with a progress bar.

    Returns:
        The report; `bool(report)` is true only when every check passed.

    Raises:
        ExrayError: Models, examples or functions are missing or do not fit each other.
    """
    limits = ValidationSpec.from_any(spec)
    check_paths(cloud, edge, examples, logs=logs, out=out, float_edge=float_edge)
    devices = None if logs is None else _open_logs(logs)
    functions = module if isinstance(module, UserFunctions) else load_functions(module)
    # What is wrong with a check or the baseline is told before the work.
    arrange(functions.checks)
    before = None if baseline is None else Baseline.load(baseline)

    def read() -> Stream:
        if devices is not None:
            return devices.examples()
        assert examples is not None
        return try_examples(os.fspath(examples)) if isinstance(examples, str | os.PathLike) else examples

    if (layer_frames or kernel_frames) and isinstance(examples, Iterator):
        raise errors.DataError(
            "layer_frames and kernel_frames need to know all frames before the first is replayed: give the examples as "
            "a path or a list, which can be read twice"
        )
    # Before all frames are read for their ids: what is wrong with these is known at once.
    options = TallyOptions(tuple(slice_keys), max_failed_frames, worst_frames, input_samples, environments)
    if devices is not None:
        functions = over_logs(functions)
    options = dataclasses.replace(options, sampling=sample(read, functions, layer_frames, kernel_frames))
    with files.scratch("exray-validate-") as scratch:
        if float_edge is None:
            float_edge = os.path.join(scratch, "float_edge.tflite")
            convert(cloud, float_edge, quantization="none", signature=signature)
        paths = ModelPaths(os.fspath(cloud), os.fspath(float_edge), os.fspath(edge), signature)
        directory = pathlib.Path(out or scratch)
        stored = replay(
            paths, read(), directory / "replay", functions=functions, options=options, logs=devices, progress=progress
        )
        evidence = gather(stored, limits, kernels=kernels, baseline=before)
        report = diagnose(evidence, users_checks=functions.checks)
        if out is not None:
            from edge_exray.reporting.writer import write_report

            write_report(report, directory)
    return report


def profile(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    spec: ProfileSpec | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    feeds: Sequence[Feed] | None = None,
    signature: str | None = None,
    baseline: profiling.Profile | str | os.PathLike[str] | None = None,
    device_profiles: Mapping[str, str | os.PathLike[str]] | None = None,
) -> profiling.Profile:
    """Tells what edge models cost on this machine, and whether the first one keeps its budgets.

    Args:
        models: Path of the edge model (.tflite); several paths, the edge model first; or role to path, with the roles
            of `edge_exray.profiling.profile.profile`: `edge`, `float_edge`, `baseline`, others are only compared with.
        out: Directory for `profile.html`, `profile.json`, `chrome_trace.json` and `model_explorer/`; None writes
            nothing.
        spec: Budgets and conditions, as a spec, a mapping, JSON text or the path of a JSON file; None sets no budget.
        feeds: Inputs with batch axis, real values for quantised inputs; None makes random ones.
        signature: The signature to run; may be left out when the models have at most one.
        baseline: Profile of the model that was blessed last, its `profile.json` or the folder of that; only with
            `max_latency_growth`.
        device_profiles: Name of another machine to the file of its profile, see
            `edge_exray.profiling.device_profile.read_profiles`.

    Returns:
        The profile; `bool(profile)` is true only when every budget is kept.

    Raises:
        ExrayError: A model, the spec or the baseline is missing or wrong, or the models cannot be timed.
    """
    budgets = ProfileSpec.from_any(spec)
    roles = models if isinstance(models, Mapping) else name_roles(models)
    if out is not None:
        files.check_folder(out)
    if isinstance(baseline, str | os.PathLike):
        baseline = profiling.Profile.load(baseline)
    found = profiling.profile(
        roles, budgets, feeds, signature=signature, baseline=baseline, device_profiles=device_profiles
    )
    if out is not None:
        from edge_exray.reporting.profile_writer import write_profile

        write_profile(found, out)
    return found


def name_roles(models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> dict[str, str]:
    """Returns role to path: the first model is the edge model, the others bear their paths.

    Raises:
        ProfilingError: There is none, one is no path, or one is given twice.
    """
    given = [models] if isinstance(models, str | os.PathLike) else models
    if not isinstance(given, Sequence) or not given or not all(isinstance(model, str | os.PathLike) for model in given):
        raise errors.ProfilingError(f"{models!r} names no models: give a path, several, or a mapping of role to path")
    first, *others = [os.fspath(model) for model in given]
    roles = {EDGE: first} | {path: path for path in others}
    if len(roles) < len(given):
        raise errors.ProfilingError(f"a model is given twice among {others}: give each one once")
    return roles


def _open_logs(logs: Logs) -> DeviceLogs:
    return DeviceLogs(*([logs] if isinstance(logs, str | os.PathLike) else logs))
