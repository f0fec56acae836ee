"""The `exray` command."""

import os
import sys
from typing import Annotated, Any

import typer

from edge_exray import errors
from edge_exray.cli import convert, init, inspect, lineage, lint, profile, validate
from edge_exray.version import __version__

STATUS_ERROR = 1

# Typer either builds on Click or carries a copy of it, and exports of its exceptions this much.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    help="Tells whether an edge model does what the cloud model does, and what it costs on this machine.",
    epilog="Exit status: 0 passed, 2 failed, 3 inconclusive, 1 error.",
    no_args_is_help=True,
    add_completion=False,
    # An error that nobody expected is a plain traceback: Rich's shows all values, which fill screens.
    pretty_exceptions_enable=False,
)
app.command()(validate.validate)
app.command()(convert.convert)
app.command()(profile.profile)
app.command()(lint.lint)
app.command()(inspect.inspect)
app.command()(lineage.lineage)
app.command()(init.init)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"exray {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of all commands; they are read here so that they show in the help."""


def main() -> None:
    """Runs the command line; an error is one line on stderr, unless `--debug` asks for the traceback."""
    # TensorFlow reads this when it is imported, and logs errors about absent GPUs otherwise; what matters is raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        # Not standalone, because Typer would end a misspelt option with status 2, which means `failed` here.
        status = app(standalone_mode=False)
    except errors.ExrayError as e:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"exray: {e}", err=True)
        status = STATUS_ERROR
    except OSError as e:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"exray: {e.filename or 'reading or writing failed'}: {e.strerror or e}", err=True)
        status = STATUS_ERROR
    except _UsageError as e:
        e.show()
        status = STATUS_ERROR
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("exray: interrupted", err=True)
        status = STATUS_ERROR
    sys.exit(status)


if __name__ == "__main__":
    main()
