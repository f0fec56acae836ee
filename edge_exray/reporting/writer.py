"""Writes the files of a report."""

import os
import pathlib

from edge_exray.diagnosis.report import Report
from edge_exray.files import write_atomically
from edge_exray.reporting import html, junit, markdown, overlay

OVERLAYS = "model_explorer"
"""The folder beside the report that Model Explorer's files are in."""


def write_report(report: Report, directory: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `report.json`, `report.html`, `summary.md`, `junit.xml` and `model_explorer/*.json`.

    The directory is created if need be. All texts are made before the first file is written, and each file appears
    whole or not at all.

    Returns:
        The path of `report.html`.

    Raises:
        ExrayError: The packages of the `[report]` extra are missing.
        ArtifactError: The report does not fit its schema.
    """
    overlays = overlay.render_overlays(report)
    texts = {
        **{f"{OVERLAYS}/{name}": text for name, text in overlays.items()},
        "report.json": report.to_json(),
        "junit.xml": junit.render_junit(report),
        "summary.md": markdown.render_markdown(report),
        "report.html": html.render_html(report),
    }
    folder = pathlib.Path(directory)
    # Of an older report in the same place.
    for name in overlay.FIGURES.keys() - {name.removesuffix(".json") for name in overlays}:
        folder.joinpath(OVERLAYS, f"{name}.json").unlink(missing_ok=True)
    for name, text in texts.items():
        # A name read from a model file may hold a lone surrogate, which UTF-8 cannot.
        write_atomically(folder / name, text.encode("utf-8", errors="backslashreplace"))
    return folder / "report.html"
