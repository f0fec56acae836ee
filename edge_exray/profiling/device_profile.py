"""Profiles that were measured on other machines, in the form of this machine's.

A file is a `profile.json` of this product, the log that an app wrote with `edge_exray.monitor` or one of its siblings,
or what TensorFlow Lite's `benchmark_model` prints. That tool profiles the ops in the same runs that it times and tells
mean, standard deviation, smallest and largest of them, of late the 5th, 50th and 95th percentile too. What these
figures say about any other percentile q is a bound, by Cantelli's inequality: it lies between
`mean - std * sqrt((1 - q) / q)` and `mean + std * sqrt(q / (1 - q))`, between the smallest and the largest, and on its
side of the percentiles that are told.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

from edge_exray import errors, files, schemas, specs
from edge_exray.models import locations
from edge_exray.models.graph import Graph, read_graph
from edge_exray.profiling import benchmark_model, device_log, device_ops
from edge_exray.profiling.budget import EDGE, FLOAT_EDGE
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime

_FLOAT_SUFFIX = f".{FLOAT_EDGE}"
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_NAMED = 3
_SHORT = 12


def read_profile(
    path: str | os.PathLike[str], model: str | os.PathLike[str] | None = None, device: str | None = None
) -> list[ModelProfile]:
    """Reads a profile that was measured elsewhere.

    Args:
        path: A `profile.json`; a log or a folder of logs, see `edge_exray.profiling.device_log`; what `benchmark_model
            --enable_op_profiling=true` printed, or its `--profiling_output_csv_file`. Only what it printed has the time
            of whole inferences and the memory; both may stand in one file, one after the other.
        model: The .tflite that was measured, which must be one of those of a `profile.json`; the ops of other files
            are then found by number, name and order. None keeps the names of the file.
        device: Name of the machine; None takes the name of the file.

    Returns:
        The models that were measured, each with its `device`: `name`, `source`, and for the output of
        `benchmark_model` how many `rows` have an op, how many were `matched` with the model (None without one), the
        `unmatched` ones, what was `skipped`, and the bounds' `origin`.

    Raises:
        ArtifactError: The file is none of these, damaged, or of another model.
        ModelError: The model cannot be read.
    """
    source = os.fspath(path)
    if device_log.is_log(path):
        return [device_log.read_log(path, device or pathlib.Path(source).stem, model)]
    try:
        text = pathlib.Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is no text"
        raise errors.ArtifactError(f"cannot read the profile {source}: {reason}") from e
    name = device or pathlib.Path(source).stem
    if text.lstrip().startswith("{"):
        found = _measured_here_like(text, source, name)
        if model is not None:
            _check_fingerprint(found, model, source)
        return found
    output = benchmark_model.parse(text, source)
    content = None
    if model is not None:
        content = _content(model)
        _check_size(output, len(content), source, os.fspath(model))
    return [_normalised(output, source, name, model, content)]


def read_profiles(
    sources: Mapping[str, str | os.PathLike[str]], models: Mapping[str, str | os.PathLike[str]]
) -> list[ModelProfile]:
    """Reads the profiles of several machines.

    Args:
        sources: Name of a machine to its profile of the edge model; the name with `.float_edge` behind it to that of
            the float edge model.
        models: Role to path of the .tflite.

    Returns:
        Profiles with the roles `edge@NAME` and, behind all of these, `float_edge@NAME`.

    Raises:
        SpecError: See `check_names`.
        ArtifactError: See `read_profile`; or there is no profile of the model in question in a file.
        ModelError: See `read_profile`.
    """
    check_names(sources)
    profiles = []
    for name, path in sources.items():
        device = name.removesuffix(_FLOAT_SUFFIX)
        role = FLOAT_EDGE if name != device else EDGE
        found = read_profile(path, models.get(role), device)
        # The output of a tool does not know which model it is of.
        by_role = {role: found[0]} if len(found) == 1 else {profile.role: profile for profile in found}
        if role not in by_role:
            raise errors.ArtifactError(f"{os.fspath(path)} has no model with the role {role}: it has {sorted(by_role)}")
        # A file of its own for the float edge model goes before what stands beside the edge model.
        kept = {role} if name + _FLOAT_SUFFIX in sources else {role, FLOAT_EDGE} & by_role.keys()
        for each in sorted(kept):
            if each in models:
                _check_fingerprint([by_role[each]], models[each], os.fspath(path))
            profiles.append(dataclasses.replace(by_role[each], role=f"{each}@{device}"))
    return sorted(profiles, key=lambda profile: profile.role.partition("@")[0] != EDGE)


def check_names(names: Collection[str]) -> None:
    """Makes sure that names of machines are such as `read_profiles` takes.

    Raises:
        SpecError: A name has a dot and another word than `float_edge` behind it, or there is a float edge model's
            profile without the edge model's.
    """
    for name in names:
        device = name.removesuffix(_FLOAT_SUFFIX)
        _, dot, suffix = device.partition(".")
        if dot:
            near = specs.did_you_mean(suffix, [FLOAT_EDGE])
            raise errors.SpecError(
                f"device profile {name}: a dot in the name of a machine comes before {FLOAT_EDGE} alone, not before "
                f"{suffix!r}{near}"
            )
        if device not in names:
            raise errors.SpecError(
                f"device profile {name}: there is none of the edge model, which it is compared with; add {device}=FILE"
            )


def _measured_here_like(text: str, source: str, name: str) -> list[ModelProfile]:

    def refuse(constant: str) -> None:
        raise errors.ArtifactError(f"{source}: {constant} is no figure: the file is damaged, make it anew")

    try:
        document = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as e:
        raise errors.ArtifactError(f"{source}, line {e.lineno}: it is no valid JSON: {e.msg}") from e
    schemas.check(document, "kernel_profile", errors.ArtifactError, f"kernel profile {source}")
    models = [ModelProfile.from_dict(model) for model in document["models"]]
    device = {"name": name, "source": source}
    return [dataclasses.replace(model, device=device) for model in models if model.device is None]


def _check_fingerprint(profiles: Sequence[ModelProfile], model: str | os.PathLike[str], source: str) -> None:
    """Refuses profiles of which none is of the model, as far as they tell."""
    locations.check_tflite(model)
    own = files.sha256(model)
    told = [profile.fingerprint for profile in profiles]
    if told and None not in told and own not in told:
        others = ", ".join(str(fingerprint)[:_SHORT] for fingerprint in told)
        raise errors.ArtifactError(
            f"{source}: the profile is of another model, with the fingerprint {others}; {os.fspath(model)} has "
            f"{own[:_SHORT]}: profile that one there"
        )


def _check_size(output: benchmark_model.BenchmarkOutput, size: int, source: str, model: str) -> None:
    # The tool prints six digits.
    if output.size_mb is not None and f"{size / 1e6:.6g}" != f"{output.size_mb:.6g}":
        raise errors.ArtifactError(
            f"{source}: the profile is of another model: {output.graph or 'its file'} has {output.size_mb:.6g} MB, "
            f"{model} has {size / 1e6:.6g} MB; run benchmark_model with that one"
        )


def _content(model: str | os.PathLike[str]) -> bytes:
    locations.check_tflite(model)
    return pathlib.Path(model).read_bytes()


def _normalised(
    output: benchmark_model.BenchmarkOutput,
    source: str,
    name: str,
    model: str | os.PathLike[str] | None,
    content: bytes | None,
) -> ModelProfile:
    graph = None if content is None else read_graph(content)
    matches = device_ops.match_rows(output.rows, graph, output.delegate, source)
    latency = _latency(output)
    told_bytes = None if output.size_mb is None else round(output.size_mb * 1e6)
    unmatched = [match.row.type for match in matches if match.op is None and not match.covered]
    kernels = sorted({match.kernel for match in matches} - {"builtin"}) or ["builtin"]
    return ModelProfile(
        role=EDGE,
        path=os.fspath(model) if model is not None else output.graph or "",
        bytes=told_bytes if content is None else len(content),
        kernels="+".join(kernels),
        num_threads=output.num_threads,
        profiler="benchmark_model",
        latency_ms=latency,
        init_ms=output.init_ms,
        memory_bytes=output.memory_bytes,
        ops=_op_times(matches, graph, latency.p50),
        profiler_note=_note(output, unmatched, model),
        scale=latency.p50 / total if (total := sum(match.row.ms for match in matches)) else None,
        peak_memory_bytes=output.peak_memory_bytes,
        device={
            "name": name,
            "source": source,
            "rows": len(matches),
            "matched": None if graph is None else len(matches) - len(unmatched),
            "unmatched": [] if graph is None else unmatched,
            "skipped": dict(output.skipped),
        },
    )


def _latency(output: benchmark_model.BenchmarkOutput) -> Latency:
    told = output.latency_ms
    mean = told["avg"]
    return Latency(
        p50=told.get("median", mean),
        p90=None,
        p99=None,
        mean=mean,
        runs=output.runs,
        intervals={name: _bounds(told, share) for name, share in _PERCENTILES.items()},
    )


def _bounds(told: Mapping[str, float], share: float) -> list[float] | None:
    """Returns what a percentile of the runs lies between; None where too little is told."""
    known = {0.0: "min", 0.05: "p5", 0.5: "median", 0.95: "p95", 1.0: "max"}
    lower = [told[name] for at, name in known.items() if at <= share and name in told]
    upper = [told[name] for at, name in known.items() if at >= share and name in told]
    if "std" in told:
        lower.append(told["avg"] - told["std"] * math.sqrt((1 - share) / share))
        upper.append(told["avg"] + told["std"] * math.sqrt(share / (1 - share)))
    return [max(0.0, *lower), min(upper)] if lower and upper else None


def _op_times(matches: Sequence[device_ops.Match], graph: Graph | None, wall_ms: float) -> list[OpTime]:
    total = sum(match.row.ms for match in matches) or 1.0
    times = []
    for position, match in enumerate(matches):
        row, op = match.row, match.op
        # A delegate's node comes behind all ops of the graph, as in the runtime.
        index = position if graph is None else len(graph.ops) + position
        name = row.outputs[0] if row.outputs else row.type
        kind = device_ops.DELEGATE if device_ops.delegate_name(row.type) else row.type
        if op is not None and graph is not None:
            index, kind = op.index, op.name
            name = graph.tensors[op.outputs[0]].spec.name if op.outputs else ""
        elif match.covered:
            index = match.covered[0].index
        times.append(
            OpTime(
                index=index,
                op=kind,
                name=name,
                kernel=match.kernel,
                ms=row.ms / total * wall_ms,
                raw_ms=row.ms,
                share=min(row.ms / total, 1.0),
                covers=[covered.index for covered in match.covered] or None,
            )
        )
    return sorted(times, key=lambda time: time.index)


def _note(
    output: benchmark_model.BenchmarkOutput, unmatched: Sequence[str], model: str | os.PathLike[str] | None
) -> str | None:
    notes = []
    if not output.rows:
        notes.append("it has no ops: run benchmark_model with --enable_op_profiling=true")
    elif output.whole:
        notes.append("the ops were timed in the same inferences as the whole")
    else:
        notes.append("it has no time of whole inferences: the sum of the ops stands for it; add what the tool prints")
    if "median" not in output.latency_ms:
        notes.append("the mean stands for the median, which it does not tell")
    if model is not None and unmatched:
        named = ", ".join(dict.fromkeys(unmatched[:_NAMED]))
        notes.append(
            f"{len(unmatched)} of {len(output.rows)} rows could not be matched with an op of the model ({named})"
        )
    # TFX calls every model `tflite`, which tells nothing.
    own = pathlib.Path(model or "").name
    if own not in ("", "tflite") and output.graph and pathlib.Path(output.graph).name != own:
        notes.append(f"it was measured on a file called {output.graph}")
    notes += [f"{number} {what} were left out" for what, number in output.skipped.items()]
    return "; ".join(notes)
