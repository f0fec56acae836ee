"""Every error that edge-exray raises on purpose.

Each message says what happened, to which model, layer, file or key, and what to do about it. The command
line prints the message as one line; anything that is not an `ExrayError` is a bug of edge-exray.
"""


class ExrayError(Exception):
    """Base of all errors that edge-exray raises on purpose.

    Args:
        reason: What happened and what to do about it.
        frame: The frame that it happened on, by its id or its place in the data; the message begins with it. None
            for what is wrong with all of them.

    Attributes:
        reason: The message without the frame, which frames that fail for the same reason share.
        frame: See above.
    """

    def __init__(self, reason: str, frame: str | None = None) -> None:
        super().__init__(reason if frame is None else f"frame {frame}: {reason}")
        self.reason = reason
        self.frame = frame


class ModelError(ExrayError):
    """A model file or signature cannot be used."""


class UnrunnableError(ModelError):
    """The runtime of this machine does not run a model.

    Args:
        reason: See `ExrayError`.
        path: The model's file.

    Attributes:
        path: See above.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.path = path


class ConversionError(ExrayError):
    """A SavedModel could not be converted to a .tflite model."""


class DataError(ExrayError):
    """Examples are missing, unreadable, or do not fit the model's inputs."""


class ModuleError(ExrayError):
    """A function of the user's module is missing, failed, or returned something unusable."""


class SpecError(ExrayError):
    """A specification (validation, profile, ...) has an unknown key or a value out of range."""


class ArtifactError(ExrayError):
    """A stored replay, profile or report is missing, damaged, of another format version, or cannot be written."""


class ProfilingError(ExrayError):
    """A kernel could not be timed."""


class MonitorError(ExrayError):
    """The monitor could not log what it was given; only raised in strict mode."""


class NotBlessedError(ExrayError):
    """A component was told to fail the run when it does not bless the model."""


class TaskError(ExrayError):
    """A step of a pipeline failed in a process of its own."""
