"""Device logs of artifacts, as files that can be opened."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence

from absl import logging
from tfx import types
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from edge_exray import errors
from edge_exray.monitor import storage

_REMOTE = re.compile(r"[a-z0-9]+://")


@contextlib.contextmanager
def local(logs: Sequence[types.Artifact], folder: str | os.PathLike[str]) -> Iterator[list[str]]:
    """Yields the paths of logs, of those on object storage that of a copy, which is deleted afterwards.

    A frame is read by its offset, again for each thing that is asked of it: each would be a request.

    Args:
        logs: EdgeLogs artifacts: folders, or names of logs.
        folder: Where to copy to, made when it is needed; all workers must be able to read there.

    Raises:
        DataError: There is nothing at an address.
    """
    root = pathlib.Path(folder)
    try:
        yield [_local(log.uri, root / str(i)) for i, log in enumerate(logs)]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def files_of(uri: str) -> list[str]:
    """Returns a file and, if it is a log, its continuations, which alone are left where rotation deleted the first."""
    return [*([uri] if fileio.exists(uri) else []), *sorted(fileio.glob(storage.pattern_of(uri)))]


def _local(uri: str, folder: pathlib.Path) -> str:
    if not _REMOTE.match(uri):
        return uri
    is_folder = fileio.isdir(uri)
    if is_folder:
        io_utils.copy_dir(uri, str(folder))
    else:
        for file in files_of(uri):
            io_utils.copy_file(file, str(folder / os.path.basename(file)))
    copied = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if not copied:
        raise errors.DataError(f"no log at {uri}: there is no such file, or the folder has none")
    logging.info("Copied the device logs %s: %d files, %d bytes", uri, len(copied), sum(copied))
    return str(folder if is_folder else folder / os.path.basename(uri))
