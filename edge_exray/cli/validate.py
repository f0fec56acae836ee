"""`exray validate`: does this edge model do what that cloud model does?"""

import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from edge_exray.cli import console

if TYPE_CHECKING:
    from edge_exray.diagnosis.report import Report


def validate(
    cloud: Annotated[
        str, typer.Argument(metavar="CLOUD_SAVED_MODEL", help="Directory of the SavedModel.", show_default=False)
    ],
    edge: Annotated[str, typer.Argument(metavar="EDGE_TFLITE", help="The edge model.", show_default=False)],
    out: Annotated[
        pathlib.Path,
        typer.Option(metavar="DIR", help="Where the report goes, for people and for machines.", show_default=False),
    ],
    examples: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="An .npz or .npy (first axis: frames), TFRecords of tf.Examples, or a folder of images CLASS/*.png.",
            show_default=False,
        ),
    ] = None,
    logs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOG",
            help="Instead of examples: a log of the monitor or a folder of logs; repeatable, the first is judged.",
            show_default=False,
        ),
    ] = None,
    spec: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="JSON file with limits.", show_default=False)
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Python file or module: reference_inputs_fn, edge_inputs_fn, label_fn, checks.",
            show_default="features by name",
        ),
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Signature that the device runs.",
            show_default="the one with dense inputs, serving_default of several alike",
        ),
    ] = None,
    float_edge: Annotated[
        str | None, typer.Option(metavar="FILE", help="The float edge model.", show_default="converted anew")
    ] = None,
    slice_key: Annotated[
        list[str] | None,
        typer.Option(metavar="FEATURE", help="Feature whose values name slices; repeatable.", show_default=False),
    ] = None,
    max_failed_frames: Annotated[
        int, typer.Option(min=0, help="Frames that may fail; more are an error. They are counted in the report.")
    ] = 0,
    worst_frames: Annotated[
        int, typer.Option(min=0, help="Frames with the most different answers that are kept and shown.")
    ] = 5,
    layer_frames: Annotated[
        int, typer.Option(min=0, help="Frames whose layers are compared, chosen by their ids; 0: all.")
    ] = 0,
    kernel_frames: Annotated[
        int, typer.Option(min=0, help="Frames whose ops also run on built-in and reference kernels; 0: none.")
    ] = 0,
    environment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Kernels that the edge model also answers on, as reference or xnnpack:4 (threads); repeatable.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE", help="report.json of the last blessed model; a worse one fails.", show_default=False
        ),
    ] = None,
    time_kernels: Annotated[
        bool, typer.Option("--profile", help="Also time every op on this machine, for the report.")
    ] = False,
) -> None:
    """Replays examples through a cloud and an edge model, compares every layer, and names the cause of a difference."""
    from edge_exray import api
    from edge_exray.diagnosis.spec import ValidationSpec

    validation_spec = ValidationSpec.from_any(spec)
    api.check_paths(cloud, edge, examples, logs=logs or None, out=out, float_edge=float_edge)
    kernels = None
    if time_kernels:
        roles = {"edge": edge} | ({"float_edge": float_edge} if float_edge else {})
        with console.native_log_hidden():
            kernels = api.profile(roles).to_dict()
    console.start_litert(edge)
    with console.progress("replaying frames") as track:
        console.import_tensorflow()
        report = api.validate(
            cloud,
            edge,
            examples,
            logs=logs or None,
            out=out,
            spec=validation_spec,
            module=module,
            signature=signature,
            slice_keys=slice_key or (),
            max_failed_frames=max_failed_frames,
            worst_frames=worst_frames,
            layer_frames=layer_frames,
            kernel_frames=kernel_frames,
            environments=environment or (),
            float_edge=float_edge,
            kernels=kernels,
            baseline=baseline,
            progress=track,
        )
    _print(report)
    typer.echo(f"report: {out / 'report.html'}")
    raise typer.Exit(console.exit_status(report.verdict, validation_spec.on_inconclusive))


def _print(report: "Report") -> None:
    import rich.box
    import rich.console
    import rich.markup
    import rich.table

    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in ("check", "verdict", "finding"):
        table.add_column(column, overflow="fold")
    for check in report.checks:
        verdict = f"[{console.COLOURS[check.verdict]}]{check.verdict}[/]"
        table.add_row(check.name, verdict, rich.markup.escape(check.message))
    out = rich.console.Console()
    out.print(table)
    out.print(f"[bold {console.COLOURS[report.verdict]}]{report.verdict}[/] {rich.markup.escape(report.summary)}")
