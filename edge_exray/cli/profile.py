"""`exray profile`: what edge models cost on this machine, and whether the first one keeps its budgets."""

import dataclasses
import pathlib
from typing import Annotated

import typer

from edge_exray import errors, files
from edge_exray.cli import console, profile_tables


def profile(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="The edge model (.tflite), then others to compare it with.", show_default=False
        ),
    ],
    float_edge: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The float edge model, for max_latency_ratio_to_float.", show_default=False),
    ] = None,
    spec: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="JSON file with budgets.", show_default=False)
    ] = None,
    kernels: Annotated[
        str | None, typer.Option(metavar="NAME", help="xnnpack, builtin or reference.", show_default="xnnpack")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the interpreter.", show_default="1")] = None,
    runs: Annotated[int | None, typer.Option(help="Fewest inferences to time.", show_default="50")] = None,
    profiler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, hook, litert_profiler or isolated.", show_default="auto"),
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Signature to run, when a model has several.", show_default=False),
    ] = None,
    baseline: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="Profile of the last model, for max_latency_growth.", show_default=False),
    ] = None,
    device_profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="What benchmark_model, exray profile or an app's monitor wrote on another machine; NAME.float_edge "
            "for that model. The budgets hold there too.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the slowest ops to show.")] = 10,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder for profile.html, profile.json, chrome_trace.json (Perfetto) and model_explorer/; a FILE.json "
            "for the JSON alone.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Times every op of edge models, compares the models, and checks the budgets of the first one."""
    import rich.console
    import rich.markup

    from edge_exray import api
    from edge_exray.profiling.spec import ProfileSpec

    given = {"kernels": kernels, "num_threads": threads, "runs": runs, "profiler": profiler}
    overrides = {key: value for key, value in given.items() if value is not None}
    conditions = ProfileSpec.from_dict(dataclasses.asdict(ProfileSpec.from_any(spec)) | overrides)
    only_json = out is not None and out.suffix == ".json"
    if out:
        (files.check_file if only_json else files.check_folder)(out)
    (first, edge), *others = api.name_roles(models).items()
    roles = {first: edge} | ({"float_edge": float_edge} if float_edge else {}) | dict(others)
    with console.native_log_hidden():
        result = api.profile(
            roles,
            spec=conditions,
            signature=signature,
            baseline=baseline,
            device_profiles=_named_files(device_profile or []),
        )

    terminal = rich.console.Console()
    for model in result.models:
        where = f"{model.path} on {model.device['name']}" if model.device else model.path
        if shown := min(top, len(model.ops)):
            terminal.print(f"{shown} slowest of {len(model.ops)} ops of {where}", markup=False, soft_wrap=True)
            terminal.print(profile_tables.slowest_ops(model, shown))
        if model.profiler_note:
            terminal.print(model.profiler_note, markup=False, soft_wrap=True)
        if stages := (model.device or {}).get("stages"):
            told = ", ".join(f"{name} {stage['p50_ms']:.4g} ms" for name, stage in stages.items())
            terminal.print(f"Stages of the app, median: {told}", markup=False, highlight=False, soft_wrap=True)
    if stragglers := profile_tables.stragglers(result, top):
        terminal.print("Ops that take longer than they need to", stragglers, sep="\n")
    if comparison := profile_tables.comparison(result):
        terminal.print("Time by type of op", comparison, sep="\n")
    terminal.print(result.models[0].conditions, soft_wrap=True)
    terminal.print(profile_tables.summary(result))
    for left_out in result.unmeasured:
        told = f"The {left_out.role} model was not measured here: {left_out.reason}"
        terminal.print(told, markup=False, highlight=False, soft_wrap=True)
    for check in result.checks:
        message = (
            f"[{console.COLOURS[check.verdict]}]{check.verdict}[/] {check.name}: {rich.markup.escape(check.message)}"
        )
        terminal.print(message, highlight=False, soft_wrap=True)
    if not result.checks:
        terminal.print(result.summary, markup=False, highlight=False, soft_wrap=True)
    if out and only_json:
        result.save(out)
    elif out:
        from edge_exray.reporting.profile_writer import write_profile

        terminal.print(f"See {write_profile(result, out)}", markup=False, soft_wrap=True)
    raise typer.Exit(console.exit_status(result.verdict, conditions.on_inconclusive))


def _named_files(options: list[str]) -> dict[str, str]:
    """Reads options of the form NAME=FILE."""
    files_by_name: dict[str, str] = {}
    for option in options:
        name, _, path = option.partition("=")
        if not name or not path or name in files_by_name:
            raise errors.SpecError(f"--device-profile {option}: give NAME=FILE, and each name once")
        files_by_name[name] = path
    return files_by_name
