"""What the commands share: exit status and colours of verdicts, files of limits, progress."""

import contextlib
import pathlib
from collections.abc import Callable, Iterable, Iterator

from edge_exray import errors
from edge_exray.diagnosis.report import Verdict

EXIT_STATUS = {Verdict.PASSED: 0, Verdict.FAILED: 2, Verdict.INCONCLUSIVE: 3}
COLOURS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.INCONCLUSIVE: "yellow"}


def read_text(path: pathlib.Path | None, what: str) -> str | None:
    """Reads a file that an option names; None stays None.

    Raises:
        SpecError: The file cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise errors.SpecError(f"cannot read the {what} {path}: {e}") from e


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[Iterable], Iterable]]:
    """Shows how many items have been taken from an iterable that is passed through the yielded function."""
    import rich.console
    import rich.progress

    columns = (
        rich.progress.SpinnerColumn(),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    # On stderr, so that what a command prints can be piped on.
    with rich.progress.Progress(*columns, console=rich.console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"loading models, {what}", total=None)

        def track(items: Iterable) -> Iterator:
            for item in items:
                yield item
                bar.advance(task)

        yield track
