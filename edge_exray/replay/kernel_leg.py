"""The kernel leg: each op of the edge model on production kernels against other kernels, on the same values.

The ops run in a child process for each set of kernels, because a reference kernel may abort. What dies there is
counted, and the other ops and legs stay whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_exray import errors
from edge_exray.models import isolation
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay.child import ENDED, Child
from edge_exray.replay.kernel_worker import Request
from edge_exray.replay.statistics import Key, ReplayStatistics

KERNELS = ("builtin", "reference")
"""What production kernels are compared with; also the kinds of the statistics."""

DIED = "_died"
"""Ends the kind of a statistic that counts the frames on which an op died."""


class KernelLeg:
    """Compares the kernels of one edge model.

    Args:
        edge: The edge model.
        signature: Name of the signature to run.
        other: Content of the model whose ops are compared with those of the edge model; None takes the same.
    """

    def __init__(self, edge: EdgeModel, signature: str | None = None, other: bytes | None = None) -> None:
        self._edge = edge
        self._other = other or edge.content
        self._signature = signature
        self._children: dict[str, Child] = {}
        self.obstacle = isolation.obstacle(edge.content, edge.graph)

    def compare(self, feed: Mapping[str, np.ndarray], statistics: ReplayStatistics, slices: Sequence[str]) -> None:
        """Runs one frame and adds what is learned.

        Raises:
            ModelError: The child process ended and no op alone makes it.
        """
        if self.obstacle:
            return
        stored_feed = {self._edge.stored_inputs[name]: value for name, value in feed.items()}
        for kernels in KERNELS:
            drifts = self._run(kernels, stored_feed)
            for part in slices:
                for op, drift in drifts.items():
                    statistics.at(Key("kernel", part, kernels, str(op))).merge(drift)
                for op in self._children[kernels].first:
                    statistics.at(Key("kernel", part, kernels + DIED, str(op))).frames += 1

    def endings(self) -> dict[str, dict[int, str]]:
        """Returns, by kernels, op index to how the process ended that ran it."""
        return {kernels: dict(child.first) for kernels, child in self._children.items() if child.first}

    def close(self) -> None:
        """Ends the child processes."""
        for child in self._children.values():
            child.close()
        self._children.clear()

    def _run(self, kernels: str, feed: dict[str, np.ndarray]) -> dict[int, Any]:
        ops = tuple(op.index for op in isolation.live(self._edge.graph))
        # A kernel may die of the values of a later frame: then a new child finds out which.
        for _ in range(2):
            try:
                if kernels not in self._children:
                    request = Request(self._edge.content, self._other, kernels, self._signature, ops, feed)
                    self._children[kernels] = Child("edge_exray.replay.kernel_worker", request)
                return self._children[kernels].ask(feed)
            except ENDED as e:
                child = self._children.pop(kernels, None)
                ending = f": {child.close()}" if child else ""
                error = errors.ModelError(
                    f"the process that ran {self._edge.path} on {kernels} kernels ended and no op alone makes it"
                    f"{ending}; leave the kernel leg out"
                )
                error.__cause__ = e
        raise error
