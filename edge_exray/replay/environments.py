"""Environments that an edge model also answers in: other kernels, other numbers of threads.

Each runs in a child process, because a kernel may abort. An environment that dies gives no more answers, and why is
kept in their place.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

from edge_exray import errors
from edge_exray.frames.functions import Inputs
from edge_exray.models.interface import Interface
from edge_exray.models.tflite import KERNELS, EdgeModel
from edge_exray.replay.child import ENDED, Child
from edge_exray.replay.environment_worker import Request
from edge_exray.specs import did_you_mean


@dataclasses.dataclass(frozen=True)
class Environment:
    """What an edge model runs on.

    Attributes:
        name: `"kernels"` or `"kernels:threads"`, for example `"reference"` or `"xnnpack:4"`.
        kernels: See `EdgeModel`.
        num_threads: Threads of the interpreter.
    """

    name: str
    kernels: str
    num_threads: int

    @classmethod
    def parse(cls, name: str) -> "Environment":
        """Reads a name.

        Raises:
            SpecError: It names no environment.
        """
        kernels, colon, threads = name.partition(":")
        if kernels not in KERNELS or (colon and not (threads.isdecimal() and int(threads) > 0)):
            raise errors.SpecError(
                f"there is no environment {name!r}: name one of the kernels {', '.join(KERNELS)}, and after a colon "
                f"the number of threads, as in xnnpack:4{did_you_mean(kernels, KERNELS)}"
            )
        return cls(name, kernels, int(threads or 1))


def parse_all(names: Iterable[str]) -> tuple[Environment, ...]:
    """Reads the names of environments.

    Raises:
        SpecError: One names none, two are the same, or they are no list.
    """
    if isinstance(names, str):
        raise errors.SpecError(f"environments is a list of names, not the text {names!r}: write [{names!r}]")
    parsed = tuple(map(Environment.parse, names))
    if len({environment.name for environment in parsed}) < len(parsed):
        raise errors.SpecError(f"environments are named twice: {', '.join(e.name for e in parsed)}")
    return parsed


class Environments:
    """Runs one edge model in several environments.

    Args:
        edge: The model.
        interface: Names of its inputs and outputs.
        signature: Name of the signature to run.

    Attributes:
        chosen: The environments to run; none at first.
    """

    def __init__(self, edge: EdgeModel, interface: Interface, signature: str | None = None) -> None:
        self._request = functools.partial(Request, edge.content, signature, interface.inputs, interface.outputs)
        self.chosen: Sequence[Environment] = ()
        self._children: dict[str, Child] = {}
        self._ended: dict[str, str] = {}

    def answers(self, feed: Inputs) -> dict[str, Inputs | str]:
        """Returns, by environment, output name to array; or a sentence that says why there is no answer."""
        return {environment.name: self._answer(environment, feed) for environment in self.chosen}

    def close(self) -> None:
        """Ends the child processes; they start anew when they are needed."""
        for child in self._children.values():
            child.close()
        self._children.clear()

    def _answer(self, environment: Environment, feed: Inputs) -> Inputs | str:
        name = environment.name
        if name in self._ended:
            return self._ended[name]
        try:
            if name not in self._children:
                request = self._request(environment.kernels, environment.num_threads)
                self._children[name] = Child("edge_exray.replay.environment_worker", request)
            child = self._children[name]
            if child.first is None:
                return child.ask(feed)
            self._ended[name] = child.first
        except ENDED as e:
            said = self._children[name].close() if name in self._children else str(e)
            self._ended[name] = f"its process ended: {said}"
            self._children.pop(name, None)
        return self._ended[name]
