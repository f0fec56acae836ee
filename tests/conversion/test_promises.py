import dataclasses

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.conversion import modes, promises
from edge_exray.models.graph import Graph, Op
from edge_exray.models.tensors import TensorSpec

IMAGE = TensorSpec("image", (-1, 8), np.dtype(np.float32))
IDS = TensorSpec("ids", (-1, 1), np.dtype(np.int32))
SCORE = TensorSpec("score", (-1, 2), np.dtype(np.float32))


@dataclasses.dataclass
class _Edge:
    """As much of an EdgeModel as a check reads."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    ops: tuple[str, ...] = ("CONV_2D",)

    @property
    def graph(self) -> Graph:
        return Graph(tuple(Op(i, name, (), ()) for i, name in enumerate(self.ops)), (), (), (), ())


def _int8(spec: TensorSpec) -> TensorSpec:
    return dataclasses.replace(spec, dtype=np.dtype(np.int8))


def _check(edge: _Edge, mode: str) -> None:
    promises.check(edge, modes.find(mode), {"image": IMAGE, "ids": IDS}, {"score": SCORE})


def test_healthy_models_pass():
    _check(_Edge({"image": IMAGE, "ids": IDS}, {"score": SCORE}), "none")
    _check(_Edge({"image": _int8(IMAGE), "ids": IDS}, {"score": _int8(SCORE)}), "int8")


@pytest.mark.parametrize(
    ("edge", "mode", "words"),
    [
        (_Edge({"image": IMAGE, "ids": IDS}, {"score": _int8(SCORE)}), "int8", "image of the int8 model is float32"),
        (_Edge({"image": _int8(IMAGE), "ids": IDS}, {"score": SCORE}), "int8", "score of the int8 model is float32"),
        (_Edge({"image": IMAGE, "ids": IDS}, {"score": _int8(SCORE)}), "int8_float_io", "promises float32"),
        (_Edge({"image": IMAGE}, {"score": SCORE}), "none", r"inputs \['image'\] where the signature has"),
        (_Edge({"image": IMAGE, "ids": IDS}, {"output_0": SCORE}), "none", r"outputs \['output_0'\] where"),
        (_Edge({"image": IMAGE, "ids": IDS}, {"score": SCORE}, ("READ_VARIABLE",)), "none", "READ_VARIABLE"),
    ],
)
def test_broken_promise_is_named(edge, mode, words):
    with pytest.raises(errors.ConversionError, match=words):
        _check(edge, mode)
