"""What TFX's cache key does not know by itself: code, versions and files that decide what a component does.

TFX runs a component again when its inputs or execution properties differ; of code it sees the text of a `module_file`
alone. What is found here, when the pipeline is built, becomes execution properties.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping

from tfx.dsl.io import fileio

from edge_exray import errors
from edge_exray.components import device_logs

_INSTALLED = {"site-packages", "dist-packages"}


def fingerprint(uri: str) -> str:
    """Returns what changes when files do: a hash of the names, sizes and times of all files under a URI.

    TFX's Importer takes what it imports for unchanged as long as the URI is the same; with the fingerprint it does not:

    ```python
    logs = Importer(
        source_uri=uri, artifact_type=edge_exray.EdgeLogs, custom_properties={"content": fingerprint(uri)}
    )
    ```

    Args:
        uri: A file or folder, on any file system that TFX reads; of a log its continuations count too, and suffice.

    Raises:
        DataError: There is nothing.
    """
    if fileio.isdir(uri):
        files = [os.path.join(folder, name) for folder, _, names in fileio.walk(uri) for name in names] or [uri]
    else:
        files = device_logs.files_of(uri)
    if not files:
        raise errors.DataError(f"there is nothing at {uri} to import: name a file or folder that this machine can read")
    digest = hashlib.sha256()
    for file in sorted(files):
        status = fileio.stat(file)
        digest.update(f"{file} {status.length} {status.mtime_nsec}\n".encode())
    return digest.hexdigest()


def of_packages(*names: str) -> str:
    """Returns JSON of the installed versions of packages, those that are installed."""
    return json.dumps({name: version for name in sorted(names) if (version := _version(name))})


def of_module(module_file: str | None = None, module_path: str | None = None) -> str | None:
    """Returns a hash of a user's module and of everything of the user's that it imports, directly or not.

    Of packages that pip installed the versions count instead, but for the one that the module is in. Nothing is
    imported for it, so that what only a running program imports is not seen.

    Args:
        module_file: A Python file; it imports what lies beside it, too.
        module_path: Or the name of an importable module.

    Returns:
        The hash; None when there is no such module here, as in a pipeline that is compiled for a container.
    """
    if module_file:
        code = _Code(os.path.dirname(os.path.abspath(module_file)))
        name = pathlib.Path(module_file).stem
    elif module_path:
        code = _Code(None)
        name = module_path
    else:
        return None
    code.add(name)
    if name not in code.files:
        return None
    digest = hashlib.sha256()
    for module, path in sorted(code.files.items()):
        digest.update(f"{module}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    for package in sorted(code.installed):
        digest.update(f"{package} {_installed_versions(package)}\n".encode())
    return digest.hexdigest()


class _Code:
    """Modules that belong to the user's code, found without running any of it.

    Attributes:
        files: Name of a module to its file.
        installed: Names of the packages of others that they import.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._top: str | None = None
        self._seen: set[str] = set()
        self.files: dict[str, pathlib.Path] = {}
        self.installed: set[str] = set()

    def add(self, name: str) -> None:
        """Adds a module, the packages that it is in, and what they import."""
        parts = name.split(".")
        self._top = self._top or parts[0]
        # The user's own module may be called like one of Python's.
        if name in self._seen or (parts[0] in sys.stdlib_module_names and parts[0] != self._top):
            return
        self._seen.add(name)
        path = None
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            spec = self._find(part, path)
            if spec is None:
                return  # an attribute, or not there
            places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
            if parts[0] != self._top and any(_is_installed(part, pathlib.Path(place)) for place in places):
                self.installed.add(parts[0])
                return
            path = spec.submodule_search_locations
            if part not in self.files:
                self._read(part, spec)

    def _find(self, name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
        # Not importlib.util.find_spec, which imports the packages around a module.
        if path is None and self._folder and (beside := importlib.machinery.PathFinder.find_spec(name, [self._folder])):
            return beside
        found = (finder.find_spec(name, path) for finder in sys.meta_path)
        return next((spec for spec in found if spec is not None), None)

    def _read(self, name: str, spec: importlib.machinery.ModuleSpec) -> None:
        if not spec.origin or not os.path.isfile(spec.origin):
            return
        self.files[name] = pathlib.Path(spec.origin)
        if spec.origin.endswith(".py"):
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            for imported in _imports(self.files[name].read_bytes(), package):
                self.add(imported)


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yields the names of what a module imports, wherever in it, and of what may be modules among it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return  # whoever imports it is told
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(relative, package)
            except ImportError:
                continue  # beyond the top: the same
            yield from (f"{base}.{alias.name}" for alias in node.names)


@dataclasses.dataclass(frozen=True)
class _Distribution:
    """An installed package: its name, and the folder that it was put into, None for one in its source tree."""

    name: str
    folder: pathlib.Path | None


def _distributions(module: str) -> list[_Distribution]:
    return _distributions_on(tuple(sys.path)).get(module, [])


@functools.cache
def _distributions_on(path: tuple[str, ...]) -> Mapping[str, list[_Distribution]]:
    # Python 3.10's packages_distributions knows what has a top_level.txt only, which NumPy has not.
    found: dict[str, list[_Distribution]] = {}
    for distribution in importlib.metadata.distributions(path=list(path)):
        # Only what was installed has a RECORD: elsewhere the user may be at work.
        folder = pathlib.Path(str(distribution.locate_file(""))) if distribution.read_text("RECORD") else None
        told = (distribution.read_text("top_level.txt") or "").split()
        for top in told or {_top_level(file) for file in distribution.files or ()}:
            found.setdefault(top, []).append(_Distribution(distribution.metadata["Name"], folder))
    return found


def _is_installed(module: str, place: pathlib.Path) -> bool:
    """Returns whether the file or folder of a module is what pip or the system installed, wherever it did."""
    return bool(_INSTALLED.intersection(place.parts)) or any(
        distribution.folder in place.parents for distribution in _distributions(module)
    )


def _top_level(file: pathlib.PurePath) -> str:
    return file.parts[0] if len(file.parts) > 1 else inspect.getmodulename(file.name) or file.name


def _installed_versions(package: str) -> dict[str, str | None]:
    return {name: _version(name) for name in sorted({d.name for d in _distributions(package)})}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
