"""Writing files: it fails before the work, not after it, and no half-written file is ever seen under its name."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from edge_exray import errors

_CHUNK = 1 << 20


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's content in hexadecimal, of a .tflite its fingerprint."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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
def scratch(prefix: str, parent: str | os.PathLike[str] | None = None) -> Iterator[pathlib.Path]:
    """Makes a temporary folder, and removes those that killed processes left under the same prefix.

    Args:
        prefix: Begins the name of the folder.
        parent: Folder to make it in, which exists; None takes the system's for temporary files. Where folders cannot
            be locked, as on NFS, nothing that was left is removed.

    Yields:
        The folder, which is gone when the context ends.
    """
    place = pathlib.Path(tempfile.gettempdir() if parent is None else parent)
    for left in place.glob(f"{prefix}*"):
        # What is locked is in use, and some belong to other users.
        with contextlib.suppress(OSError):
            descriptor = _lock(left)
            try:
                shutil.rmtree(left)
            finally:
                os.close(descriptor)
    folder, held = _locked_folder(prefix, place)
    try:
        yield folder
    finally:
        # What cannot be removed now is for the next one.
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def _locked_folder(prefix: str, place: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    """Makes a folder, and returns it with the descriptor of its lock, if folders can be locked there."""
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        # Until it is locked, another process may take it for one that was left.
        try:
            descriptor = _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:
            return folder, None
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _lock(folder: pathlib.Path) -> int:
    """Locks a folder, until the descriptor is closed or the process ends, however it does."""
    import fcntl  # not on every system that the library is imported on

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
