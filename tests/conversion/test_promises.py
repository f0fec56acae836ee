import dataclasses

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.conversion import modes, promises
from edge_exray.models.graph import Graph, Op, Tensor
from edge_exray.models.tensors import Quantization, TensorSpec

IMAGE = TensorSpec("image", (-1, 8), np.dtype(np.float32))
IDS = TensorSpec("ids", (-1, 1), np.dtype(np.int32))
SCORE = TensorSpec("score", (-1, 2), np.dtype(np.float32))


@dataclasses.dataclass
class _Edge:
    """As much of an EdgeModel as a check reads."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    ops: tuple[str, ...] = ("ADD",)

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


@dataclasses.dataclass
class _Fed:
    """A model with the interface of its mode around one op: what it reads, its weights, and what it writes."""

    op: str
    types: tuple[str, str, str]
    mode: str

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        return {name: self._io(spec) for name, spec in (("image", IMAGE), ("ids", IDS))}

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        return {"score": self._io(SCORE)}

    @property
    def graph(self) -> Graph:
        tensors = tuple(
            Tensor(i, self._spec(name, kind), is_constant=name == "weights", type=kind)
            for i, (name, kind) in enumerate(zip(("x", "weights", "dense/MatMul"), self.types, strict=True))
        )
        return Graph((Op(0, self.op, (0, 1), (2,)),), tensors, (0,), (2,))

    def _io(self, spec: TensorSpec) -> TensorSpec:
        return dataclasses.replace(spec, dtype=modes.find(self.mode).io_dtype(spec))

    @staticmethod
    def _spec(name: str, kind: str) -> TensorSpec:
        quantization = Quantization((0.1,), (0,)) if kind.startswith("INT") else None
        return TensorSpec(name, (64, 64), np.dtype(kind.lower()), quantization)


@pytest.mark.parametrize(
    ("mode", "types"),
    [
        ("none", ("FLOAT32", "FLOAT32", "FLOAT32")),
        ("float16", ("FLOAT32", "FLOAT16", "FLOAT32")),
        ("dynamic_range", ("FLOAT32", "INT8", "FLOAT32")),
        ("int8", ("INT8", "INT8", "INT8")),
        ("int8_float_io", ("INT8", "INT8", "INT8")),
        ("int16x8", ("INT16", "INT8", "INT16")),
    ],
)
def test_each_mode_has_its_types_of_weights_and_activations_and_no_other(mode, types):
    _check(_Fed("FULLY_CONNECTED", types, mode), mode)
    assert promises.left_float(_Fed("FULLY_CONNECTED", types, mode), modes.find(mode)) == []
    for other in ("none", "float16", "dynamic_range", "int8", "int16x8"):
        if other != mode and not {mode, other} <= {"int8", "int8_float_io"}:
            with pytest.raises(errors.ConversionError, match=f"FULLY_CONNECTED at dense/MatMul of the {other} model"):
                _check(_Fed("FULLY_CONNECTED", types, other), other)


def test_what_is_left_in_float_is_listed():
    floats = ("FLOAT32", "FLOAT32", "FLOAT32")
    for mode in ("float16", "dynamic_range", "int8", "int16x8"):
        edge = _Fed("NEG", floats, mode)
        _check(edge, mode)
        assert promises.left_float(edge, modes.find(mode)) == ["NEG at dense/MatMul"]
    assert promises.left_float(_Fed("DEQUANTIZE", floats, "int8"), modes.find("int8")) == []
    assert promises.left_float(_Fed("NEG", floats, "none"), modes.find("none")) == []
