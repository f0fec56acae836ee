"""`exray lint`: what a .tflite alone tells about why it will be wrong or slow."""

import json
import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from edge_exray.cli import console

if TYPE_CHECKING:
    from edge_exray.linting.findings import LintResult

STATUS_DEFECTIVE = 2
_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def lint(
    model: Annotated[str, typer.Argument(metavar="MODEL.tflite", help="Any edge model.", show_default=False)],
    cloud: Annotated[
        str | None,
        typer.Option(
            metavar="SAVED_MODEL", help="Also compare every constant with this cloud model's.", show_default=False
        ),
    ] = None,
    signature: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its signature.", show_default="the one with dense inputs")
    ] = None,
    expected_op: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Flex or custom op that the app has, such as 'Flex*'; repeatable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        pathlib.Path | None, typer.Option(metavar="FILE", help="Write the findings here as JSON.", show_default=False)
    ] = None,
) -> None:
    """Checks an edge model without data; the status is 2 if one of its findings is an error, else 0."""
    from edge_exray import files
    from edge_exray.conversion.linter import lint as run

    if cloud:
        console.import_tensorflow()
    with console.native_log_hidden():
        result = run(model, cloud=cloud, signature=signature, expected_ops=expected_op or ())
    _print(result)
    if out:
        files.write_atomically(out, json.dumps(result.to_dict(), indent=1).encode())
    raise typer.Exit(0 if result else STATUS_DEFECTIVE)


def _print(result: "LintResult") -> None:
    import rich.console
    import rich.markup

    terminal = rich.console.Console()
    for finding in result.findings:
        colour = _COLOURS[finding.severity]
        head = f"[{colour}]{finding.severity}[/] [bold]{finding.rule}[/] {rich.markup.escape(finding.place)}"
        terminal.print(head, highlight=False, soft_wrap=True)
        for text in (finding.value, f"why: {finding.why}", f"do: {finding.fix}"):
            terminal.print(f"    {text}", markup=False, highlight=False, soft_wrap=True)
    terminal.print(", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in result.counts.items()))
