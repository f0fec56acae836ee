"""Writing files so that no half-written one is ever seen under its name."""

import os
import pathlib


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file under a temporary name beside it, then renames it; missing folders are made."""
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
