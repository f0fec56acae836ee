"""`exray init`: a pipeline project to begin with."""

import importlib.resources
import pathlib
import re
import shlex
import string
import tempfile
from typing import Annotated

import typer

from edge_exray import errors, files

FILES = (
    "README.md",
    "pipeline.py",
    "run_local.py",
    "run_kubeflow.py",
    "training/trainer.py",
    "edge/preprocessing.py",
)
"""What a project consists of; `$name` in it stands for the name of the pipeline."""

# What Kubeflow takes for the name of a pipeline.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,127}")
_TEMPLATE = importlib.resources.files("edge_exray.pipelines") / "project"


def init(
    directory: Annotated[
        pathlib.Path, typer.Argument(metavar="DIR", help="Folder to make; it may be there if it is empty.")
    ],
    name: Annotated[
        str | None,
        # Spelled out: Typer 0.27 calls an option whose metavar is its name as the metavar is written.
        typer.Option("--name", metavar="NAME", help="Name of the pipeline.", show_default="that of the folder"),
    ] = None,
) -> None:
    """Writes a pipeline project that runs as it is: `exray init demo && cd demo && python run_local.py`."""
    write_project(directory, name)
    typer.echo(f"made {directory}; next: cd {shlex.quote(str(directory))} && python run_local.py")


def write_project(directory: pathlib.Path, name: str | None = None) -> None:
    """Writes the project, all of it or nothing.

    Args:
        directory: Folder to make; an empty one is taken.
        name: Name of the pipeline; default: the name of the folder, as far as a pipeline can have it.

    Raises:
        ArtifactError: There is something at the place, or it cannot be written.
        SpecError: The name is not one that a pipeline can have.
    """
    target = directory.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        what = "has files in it" if target.is_dir() else "is a file"
        raise errors.ArtifactError(f"{directory} {what}: nothing was written; name a new or an empty folder")
    called = name if name is not None else re.sub(r"[^a-z0-9]+", "-", target.resolve().name.lower()).strip("-")
    if not _NAME.fullmatch(called):
        raise errors.SpecError(
            f"a pipeline cannot be called {called!r}: --name takes lower-case letters, digits and -, a letter first"
        )
    files.check_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            unfinished = pathlib.Path(scratch, target.name)
            for file in FILES:
                path = unfinished / file
                path.parent.mkdir(parents=True, exist_ok=True)
                text = _TEMPLATE.joinpath(file).read_text("utf-8")
                path.write_text(string.Template(text).substitute(name=called), "utf-8")
            if target.exists():
                # The folder stays the one that it is: a shell may stand in it.
                for path in unfinished.iterdir():
                    path.rename(target / path.name)
            else:
                unfinished.rename(target)
    except OSError as e:
        raise errors.ArtifactError(f"cannot write the project {directory}: {e.strerror}") from e
