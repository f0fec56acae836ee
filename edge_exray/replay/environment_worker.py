"""The child process that runs an edge model in another environment: `python -m edge_exray.replay.environment_worker`.

The answer to the first question, a `Request`, is why the model cannot be opened, or None; that to each feed the outputs
of the model, or why there are none.
"""

import dataclasses
import pickle
from typing import Any, BinaryIO

from edge_exray import errors
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay import child


@dataclasses.dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        edge: Content of the edge model.
        signature: Name of the signature.
        inputs, outputs: The names to use, see `EdgeModel.rename`.
        kernels, num_threads: See `EdgeModel`.
    """

    edge: bytes
    signature: str | None
    inputs: dict[str, str]
    outputs: dict[str, str]
    kernels: str
    num_threads: int


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    request: Request = pickle.load(requests)
    try:
        model = EdgeModel(
            request.edge, kernels=request.kernels, num_threads=request.num_threads, signature=request.signature
        )
    except errors.ModelError as e:
        child.answer(answers, e.reason)
        return
    model.rename(request.inputs, request.outputs)
    child.answer(answers, None)
    while True:
        try:
            feed = pickle.load(requests)
        except EOFError:
            return
        child.answer(answers, _infer(model, feed))


def _infer(model: EdgeModel, feed: Any) -> Any:
    try:
        return model.infer(feed)
    except (errors.ModelError, errors.DataError) as e:
        return e.reason


if __name__ == "__main__":
    child.serve(main)
