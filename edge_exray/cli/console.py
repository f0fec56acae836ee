"""What the commands share: exit status and colours of verdicts, files of limits, progress."""

import contextlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator

from edge_exray import errors
from edge_exray.diagnosis.report import Verdict

_EXIT_STATUS = {Verdict.PASSED: 0, Verdict.FAILED: 2, Verdict.INCONCLUSIVE: 3}
COLOURS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.INCONCLUSIVE: "yellow"}


def exit_status(verdict: Verdict, on_inconclusive: str) -> int:
    """Returns the exit status of a verdict; an inconclusive one is let go where the spec says `"pass"`."""
    lets_go = verdict is Verdict.INCONCLUSIVE and on_inconclusive == "pass"
    return 0 if lets_go else _EXIT_STATUS[verdict]


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
        reason = e.strerror if isinstance(e, OSError) else "it is no text"
        raise errors.SpecError(f"cannot read the {what} {path}: {reason}") from e


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


@contextlib.contextmanager
def native_log_hidden() -> Iterator[None]:
    """Drops what native code writes to stderr, which obeys no setting; Python's own stderr is kept.

    With `--debug` nothing is dropped.
    """
    if "--debug" in sys.argv:
        yield
        return
    stderr = 2
    terminal = os.dup(stderr)
    with (
        open(os.devnull, "wb") as nowhere,
        os.fdopen(os.dup(stderr), "w", buffering=1) as python_stderr,
        contextlib.redirect_stderr(python_stderr),
    ):
        os.dup2(nowhere.fileno(), stderr)
        try:
            yield
        finally:
            os.dup2(terminal, stderr)
            os.close(terminal)


def import_tensorflow() -> None:
    """Imports TensorFlow without its native log, most of which is about absent GPUs.

    Raises:
        ExrayError: The packages of the `[convert]` extra are missing.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise errors.ExrayError(
            "What runs or converts the cloud model needs the package tensorflow: run `pip install edge-exray[convert]`,"
            " or take a container image with that extra."
        )
    with native_log_hidden():
        import tensorflow as tf

        tf.config.list_physical_devices()


def start_litert(model: str) -> None:
    """Loads a .tflite once without LiteRT's native log, which announces its delegate with the first model only."""
    from ai_edge_litert import interpreter as litert

    # What is wrong with the model is told when it is opened to be used.
    with native_log_hidden(), contextlib.suppress(ValueError, RuntimeError):
        litert.Interpreter(model_path=model).allocate_tensors()
