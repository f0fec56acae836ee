"""Writes the files of a kernel profile."""

import json
import os
import pathlib

from edge_exray.files import write_atomically
from edge_exray.profiling.profile import FILENAME, Profile
from edge_exray.reporting import chrome_trace, overlay, profile_html
from edge_exray.reporting.writer import OVERLAYS

PAGE = "profile.html"


def render_files(profile: Profile) -> dict[str, bytes]:
    """Returns the content of `profile.json`, `profile.html`, `chrome_trace.json` and `model_explorer/latency.json`.

    Raises:
        ExrayError: The packages of the `[report]` extra are missing.
        ArtifactError: The profile does not fit its schema.
    """
    text = profile.to_json()
    document = json.loads(text)
    texts = {
        f"{OVERLAYS}/latency.json": overlay.render_latency(document["models"][0]["ops"]),
        "chrome_trace.json": chrome_trace.render_trace(document),
        FILENAME: text,
        PAGE: profile_html.render_profile(document),
    }
    # A name read from a model file may hold a lone surrogate, which UTF-8 cannot.
    return {name: text.encode("utf-8", errors="backslashreplace") for name, text in texts.items()}


def write_profile(profile: Profile, directory: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the files of `render_files`; all are made before the first is written, and each appears whole.

    Returns:
        The path of `profile.html`.

    Raises:
        ExrayError: See `render_files`.
        ArtifactError: A file cannot be written.
    """
    folder = pathlib.Path(directory)
    for name, content in render_files(profile).items():
        write_atomically(folder / name, content)
    return folder / PAGE
