"""`exray profile`: what edge models cost on this machine, and whether the first one keeps its budgets."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from edge_exray import files
from edge_exray.cli import console

if TYPE_CHECKING:
    import rich.table

    from edge_exray.profiling.model_profile import ModelProfile
    from edge_exray.profiling.profile import KernelProfile


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
    top: Annotated[int, typer.Option(min=0, help="How many of the slowest ops to show.")] = 10,
    out: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="Write the profile here as JSON.", show_default=False)
    ] = None,
) -> None:
    """Times every op of edge models, compares the models, and checks the budgets of the first one."""
    import rich.console
    import rich.markup

    from edge_exray.profiling import profile as profiling
    from edge_exray.profiling.spec import ProfileSpec

    given = {"kernels": kernels, "num_threads": threads, "runs": runs, "profiler": profiler}
    overrides = {key: value for key, value in given.items() if value is not None}
    conditions = ProfileSpec.from_dict(
        dataclasses.asdict(ProfileSpec.from_json(console.read_text(spec, "profile spec"), str(spec or ""))) | overrides
    )
    if out:
        files.check_file(out)
    roles = (
        {"edge": models[0]} | ({"float_edge": float_edge} if float_edge else {}) | {path: path for path in models[1:]}
    )
    last = profiling.KernelProfile.load(baseline) if baseline else None
    with console.native_log_hidden():
        result = profiling.profile(roles, conditions, signature=signature, baseline=last)

    terminal = rich.console.Console()
    for model in result.models:
        terminal.print(
            f"{min(top, len(model.ops))} slowest of {len(model.ops)} ops of {model.path}", markup=False, soft_wrap=True
        )
        terminal.print(_ops_table(model, top))
    terminal.print(result.models[0].conditions, soft_wrap=True)
    terminal.print(_summary_table(result))
    for check in result.checks:
        message = (
            f"[{console.COLOURS[check.verdict]}]{check.verdict}[/] {check.name}: {rich.markup.escape(check.message)}"
        )
        terminal.print(message, highlight=False, soft_wrap=True)
    if out:
        result.save(out)
    raise typer.Exit(console.EXIT_STATUS[result.verdict])


def _ops_table(model: "ModelProfile", top: int) -> "rich.table.Table":
    import rich.box
    import rich.markup
    import rich.table

    from edge_exray.reporting import formats

    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in ("#", "ms", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("op", "kernel"):
        table.add_column(column, no_wrap=True)
    table.add_column("output", overflow="fold")
    for op in model.slowest(top):
        figures = (str(op.index), formats.number(op.ms), formats.percent(op.share))
        table.add_row(*figures, rich.markup.escape(op.op), op.kernel, rich.markup.escape(op.short_name))
    return table


def _summary_table(result: "KernelProfile") -> "rich.table.Table":
    import rich.box
    import rich.markup
    import rich.table

    from edge_exray.reporting import formats

    edge = result.models[0]
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for column in ("p50 ms", "p90 ms", "to first", "init ms", "memory", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for model in result.models:
        latency = model.latency_ms
        table.add_row(
            rich.markup.escape(pathlib.Path(model.path).name),
            formats.number(latency.p50),
            formats.number(latency.p90),
            f"{formats.number(latency.p50 / edge.latency_ms.p50)} x",
            formats.number(model.init_ms),
            formats.size(model.memory_bytes),
            formats.size(model.bytes),
        )
    return table
