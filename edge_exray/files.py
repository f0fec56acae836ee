"""Writing files: it fails before the work, not after it, and no half-written file is ever seen under its name."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

from edge_exray import errors

_NEW_SECONDS = 10


def check_folder(path: str | os.PathLike[str]) -> None:
    """Makes sure that files can be written to a folder, which need not exist yet.

    Raises:
        ArtifactError: They cannot; the message names what is in the way.
    """
    place = pathlib.Path(path).absolute()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not existing.is_dir():
        raise errors.ArtifactError(f"cannot write to the folder {path}: {existing} is a file; name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise errors.ArtifactError(f"cannot write to the folder {path}: {existing} is not writable for this user")


def check_file(path: str | os.PathLike[str]) -> None:
    """Makes sure that a file can be written.

    Raises:
        ArtifactError: It cannot; the message names what is in the way.
    """
    target = pathlib.Path(path)
    if target.is_dir():
        raise errors.ArtifactError(f"cannot write the file {path}: it is a folder; name a file in it")
    check_folder(target.parent)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file under a temporary name beside it, then renames it; missing folders are made.

    Raises:
        ArtifactError: The file cannot be written.
    """
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as e:
        raise errors.ArtifactError(f"cannot write {target}: {e.strerror}") from e


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[pathlib.Path]:
    """Makes a temporary folder, and removes those that killed processes left under the same prefix.

    Args:
        prefix: Begins the name of the folder.

    Yields:
        The folder, which is gone when the context ends.
    """
    import fcntl  # not on every system that the library is imported on

    def lock(folder: pathlib.Path) -> int:
        """Locks a folder, until the descriptor is closed or the process ends, however it does."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    for left in pathlib.Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        # What is locked is in use, what is new may be about to be, and some belong to other users.
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _NEW_SECONDS:
                descriptor = lock(left)
                shutil.rmtree(left)
                os.close(descriptor)
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = pathlib.Path(name)
        descriptor = lock(folder)
        try:
            yield folder
        finally:
            os.close(descriptor)
