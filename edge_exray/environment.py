"""What a run depended on."""

import importlib.metadata
import os
import platform

from edge_exray.version import __version__

_PACKAGES = ("ai-edge-litert", "tensorflow", "keras", "tfx", "apache-beam", "tensorflow-model-analysis", "numpy")


def describe() -> dict[str, str | int | None]:
    """Returns versions and machine facts; None for a package that is not installed."""
    versions: dict[str, str | int | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "edge-exray": __version__,
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
