"""Where the frames of a replay come from: examples, or the logs of devices. Each process reads what it is handed."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from tfx import types

from edge_exray import errors
from edge_exray.components import artifacts, transforms
from edge_exray.frames.examples import Example, read_records
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay.device_logs import DeviceLogs, FramePlace, over_logs, read


class Source(Protocol):
    """The frames of a replay; it is sent to the workers."""

    @property
    def parts(self) -> Sequence[Any]:
        """What the frames are read from, spread over the workers."""
        ...

    def records(self, part: Any) -> Iterator[tuple[str, Any]]:
        """Reads the frames of a part: the place of each, and what `decode` takes."""
        ...

    def decode(self, place: str, record: Any) -> Example | errors.DataError:
        """Makes the example of a record; returns why there is none."""
        ...

    def functions(self, users: UserFunctions) -> UserFunctions:
        """Returns the user's functions as they apply to these examples."""
        ...


@dataclasses.dataclass(frozen=True)
class ExampleSource:
    """TFRecords of tf.Examples.

    Attributes:
        parts: The files.
        decode: Makes examples of their records.
    """

    parts: Sequence[str]
    decode: transforms.Decoder

    @classmethod
    def of(cls, input_dict: Mapping[str, list[types.Artifact]], splits: Sequence[str]) -> "ExampleSource":
        """Takes the splits of `examples`, with `transform_graph` where there is one.

        Raises:
            DataError: A split is missing or empty.
        """
        files = artifacts.example_files(input_dict["examples"], splits)
        for split, split_files in files.items():
            if next(read_records(split_files), None) is None:
                raise errors.DataError(f"split {split!r} of the examples is empty: there is nothing to replay")
        return cls([file for split_files in files.values() for file in split_files], transforms.decoder(input_dict))

    def records(self, part: str) -> Iterator[tuple[str, bytes]]:
        """Reads a file."""
        return read_records([part])

    def functions(self, users: UserFunctions) -> UserFunctions:
        """Returns them as they are."""
        return users


@dataclasses.dataclass(frozen=True)
class LogSource:
    """Frames that devices logged, in files that every worker must be able to read.

    Attributes:
        parts: The fields of the `FramePlace` of each: Beam makes rows of named tuples.
    """

    parts: Sequence[tuple[Any, ...]]

    @classmethod
    def of(cls, logs: DeviceLogs) -> "LogSource":
        """Takes all frames of the judged device."""
        return cls([tuple(place) for place in logs.frames])

    def records(self, part: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Tells the place of the frame that the part is."""
        yield str(FramePlace(*part)), part

    def decode(self, place: str, record: tuple[Any, ...]) -> Example | errors.DataError:
        """Reads the frame."""
        return read(FramePlace(*record))

    def functions(self, users: UserFunctions) -> UserFunctions:
        """Lets what was logged take the place of what they do for the app."""
        return over_logs(users)


def try_read(source: Source) -> Iterator[Example | errors.DataError]:
    """Reads all examples in this process; the error of a record stands in its place."""
    return (source.decode(place, record) for part in source.parts for place, record in source.records(part))
