"""The user's functions inside an executor, from the parameters `module_file` and `module_path` of a component.

At construction a component calls TFX's `udf_utils.add_user_module_dependency(self, "module_file", "module_path")`;
TFX then makes a wheel of the folder of `module_file`, and the executor is given `module_path="NAME@WHEEL"`.
"""

import contextlib
import dataclasses
import importlib
import importlib.machinery
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tfx.components.util import udf_utils
from tfx.utils import io_utils

from edge_exray import errors
from edge_exray.frames import functions


@dataclasses.dataclass(frozen=True)
class UserModule:
    """The user's module, importable while its context is open.

    Attributes:
        source: What `edge_exray.frames.functions.load_functions` takes, in this and every worker process; None
            when the component was given no module.
        packages: Wheels that a remote Beam worker needs (`--extra_package`); those on this machine find the module
            through PYTHONPATH.
    """

    source: str | None
    packages: tuple[str, ...] = ()


def require_one(component: str, module_file: str | None, module_path: str | None) -> None:
    """Checks the two parameters at the construction of a component.

    Raises:
        SpecError: Both are given.
    """
    if module_file and module_path:
        raise errors.SpecError(f"{component}: module_file and module_path exclude each other, give one of them")


@contextlib.contextmanager
def installed(exec_properties: Mapping[str, Any]) -> Iterator[UserModule]:
    """Makes the user's module, and those beside a `module_file`, importable.

    Args:
        exec_properties: What the executor was given.
    """
    # A module file is still one when TFX was told not to package user modules.
    key = exec_properties.get("module_path") or exec_properties.get("module_file")
    name, wheels = udf_utils.decode_user_module_key(key)
    packages = [io_utils.ensure_local(wheel) for wheel in wheels]
    functions.forget_neighbours()
    with udf_utils.TempPipInstallContext(packages) as context:
        names = _provided_by(context.temp_directory)
        # A runner may run all components in this process: one of them may have brought another module of this name.
        _forget(names)
        try:
            yield UserModule(name or None, tuple(packages))
        finally:
            _forget(names)
            if context.temp_directory:
                shutil.rmtree(context.temp_directory)


@contextlib.contextmanager
def user_functions(exec_properties: Mapping[str, Any]) -> Iterator[functions.UserFunctions]:
    """Loads the user's functions; modules beside a `module_file` can be imported while the context is open.

    Args:
        exec_properties: What the executor was given.

    Yields:
        The functions; the defaults when there is no module.

    Raises:
        ModuleError: The module does not import or has none of the functions.
    """
    with installed(exec_properties) as module:
        yield functions.load_functions(module.source)


def _provided_by(directory: str | None) -> set[str]:
    """Returns the modules whose import would load a file of the directory."""
    if directory is None:
        return set()
    names = {path.stem for path in pathlib.Path(directory).glob("*.py")}
    found = {name: importlib.machinery.PathFinder.find_spec(name) for name in names}
    return {name for name, spec in found.items() if spec and str(spec.origin).startswith(directory)}


def _forget(names: set[str]) -> None:
    importlib.invalidate_caches()
    for name in names:
        sys.modules.pop(name, None)
