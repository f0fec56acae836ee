"""The files of a log: their names, appending to them, rotation."""

import dataclasses
import errno
import glob
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

from edge_exray.monitor import records
from edge_exray.monitor.records import Part

_DIGITS = 5
# How many pieces one call of writev takes: IOV_MAX of Linux.
_MAX_PIECES = 1024
# More than a footer takes.
_FOOTER_BYTES = 4096


def files_of(name: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the files of a log that exist, oldest first.

    Args:
        name: `DIR/run.exray` for the file of that name and its continuations `DIR/run-00001.exray`, ...
    """
    return [path for _, path in sorted(_numbered(pathlib.Path(name)))]


def pattern_of(name: str) -> str:
    """Returns what `glob` finds the continuations of a log by, for places that `files_of` cannot list.

    Args:
        name: As for `files_of`, on any file system.
    """
    stem, suffix = (glob.escape(part) for part in os.path.splitext(name))
    return f"{stem}-{'[0-9]' * _DIGITS}*{suffix}"


def _numbered(name: pathlib.Path) -> Iterator[tuple[int, pathlib.Path]]:
    pattern = re.compile(rf"{re.escape(name.stem)}(?:-(\d{{{_DIGITS},}}))?{re.escape(name.suffix)}")
    try:
        entries = sorted(os.listdir(name.parent))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        match = pattern.fullmatch(entry)
        if match:
            yield int(match[1] or 0), name.parent / entry


@dataclasses.dataclass
class Deleted:
    """What rotation deleted.

    Attributes:
        files, bytes: Of the log's name, earlier runs included.
        frames: Of this run.
    """

    files: int = 0
    bytes: int = 0
    frames: int = 0


class LogFiles:
    """Appends records to the current file of a log and begins the next one when it is full.

    Not thread-safe: one thread writes.

    Args:
        name: Path of the log.
        header: Encodes the features of the header of a file of the run, given its number.
        footer: Encodes those of the footer, given the number and whether the run ends.
        file_bytes: Size at which the next file is begun.
        max_bytes: Size that all files together do not exceed.
        sync: Whether every record is synced to the disk.

    Attributes:
        deleted: What rotation deleted so far.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        header: Callable[[int], bytes],
        footer: Callable[[int, bool], bytes],
        file_bytes: int,
        max_bytes: int,
        sync: bool,
    ) -> None:
        self._name = pathlib.Path(name)
        self._header, self._footer = header, footer
        self._file_bytes, self._max_bytes = file_bytes, max_bytes
        self._sync = sync
        self._file: int | None = None
        self._path = self._name
        self._size = 0
        self._frames = 0
        self._header_bytes = self._other_bytes = 0
        self._part = -1
        self._frames_in: dict[pathlib.Path, int] = {}
        self.deleted = Deleted()

    def open(self) -> None:
        """Begins a file, unless one is open.

        Raises:
            OSError: It cannot be made or written.
        """
        if self._file is None:
            self._begin(self._header_record(self._part + 1))

    def append(self, record: Sequence[Part]) -> None:
        """Appends a frame; either all of it is in the log then, or nothing.

        Raises:
            OSError: It could not be written; the next one may be.
            OverflowError: It does not fit into `max_bytes`.
        """
        size = sum(len(part) for part in record)
        if self._header_bytes + size + _FOOTER_BYTES > self._max_bytes:
            raise OverflowError(f"a frame of {size} bytes does not fit into max_bytes={self._max_bytes}")
        if self._file is not None and self._frames and self._size + size > self._file_bytes:
            self._end(final=False)
        was_open = self._file is not None
        try:
            self._place(record, size)
        except OSError as e:
            if self._file is not None and (e.errno != errno.EFBIG or not self._frames):
                raise
            # Another file may take what this one does not, which was given up or has reached a limit of the system.
            if self._file is not None:
                self._give_up()
            elif not was_open:
                raise
            self._place(record, size)
        self._frames += 1

    def _place(self, record: Sequence[Part], size: int) -> None:
        if self._file is None:
            header = self._header_record(self._part + 1)
            self._make_room(sum(len(part) for part in header) + size)
            self._begin(header)
        else:
            self._make_room(size)
        self._write(record)

    def close(self) -> None:
        """Writes the final footer and closes; afterwards nothing can be appended.

        Raises:
            OSError: The footer or the sync failed; the file is closed all the same.
        """
        self.open()
        self._end(final=True)

    def _header_record(self, part: int) -> list[Part]:
        return records.frame([self._header(part)])

    def _begin(self, header: list[Part]) -> None:
        self._name.parent.mkdir(parents=True, exist_ok=True)
        existing = list(_numbered(self._name))
        self._other_bytes = sum(_size(path) for _, path in existing)
        number = max((number for number, _ in existing), default=-1) + 1
        while self._file is None:
            suffix = f"-{number:0{_DIGITS}}" if number else ""
            path = self._name.with_name(f"{self._name.stem}{suffix}{self._name.suffix}")
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:  # another process was faster
                number += 1
        self._path, self._size, self._frames = path, 0, 0
        try:
            self._write(header)
        except OSError:
            # An empty file would tell less than none.
            if self._file is not None:
                self._give_up()
            path.unlink(missing_ok=True)
            raise
        self._header_bytes = self._size
        self._part += 1

    def _end(self, final: bool) -> None:
        file = self._file
        if file is None:
            return
        try:
            self._write(records.frame([self._footer(self._part, final)]))
            os.fsync(file)
        finally:
            if self._file is not None:
                self._give_up()

    def _write(self, record: Sequence[Part]) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "the file of the log was given up")
        try:
            written = 0
            for start in range(0, len(record), _MAX_PIECES):
                written += _write_all(self._file, record[start : start + _MAX_PIECES])
            if self._sync:
                os.fsync(self._file)
        except OSError:
            self._cut_back()
            raise
        self._size += written

    def _cut_back(self) -> None:
        """Takes back what a failed write has left; a file where that fails is given up."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Closes the current file for good."""
        assert self._file is not None
        file, self._file = self._file, None
        self._frames_in[self._path] = self._frames
        self._other_bytes += self._size
        self._size = self._frames = 0
        os.close(file)

    def _make_room(self, size: int) -> None:
        """Deletes the oldest files until so many bytes more, and a footer, keep within the limit."""
        room = self._max_bytes - size - _FOOTER_BYTES
        if self._file is not None and self._other_bytes + self._size <= room:
            return
        files = [(path, _size(path)) for _, path in sorted(_numbered(self._name))]
        total = sum(length for _, length in files)
        for path, length in files:
            if total <= room or (self._file is not None and path == self._path):
                break
            path.unlink(missing_ok=True)
            total -= length
            self.deleted.files += 1
            self.deleted.bytes += length
            self.deleted.frames += self._frames_in.pop(path, 0)
        self._other_bytes = total - self._size


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process rotates as well
        return 0


def _write_all(file: int, parts: Sequence[Part]) -> int:
    total = sum(len(part) for part in parts)
    written = os.writev(file, list(map(records.view, parts)))
    if written < total:
        # Rare: a signal, a limit of the system. What is left fits one buffer.
        rest = b"".join(bytes(part) for part in parts)
        while written < total:
            step = os.write(file, rest[written:])
            if not step:
                raise OSError(errno.EIO, "the file takes no more bytes")
            written += step
    return total
