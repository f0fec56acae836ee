"""Does the own error name the op that was made wrong, and nobody when none was?

    PYTHONPATH=tests python -m benchmarks.suspects [--root DIR] [--places 40]

For each network of the zoo a healthy quantised model is replayed first. Then ops at random places are made wrong, one
at a time: weights scaled, bias shifted, the scale of the filter, the scale of the output or the zero point of the
output changed. Seeds are fixed. A place is drawn anew when the runtime refuses the damaged file.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tampering

from benchmarks import zoo
from edge_exray import errors
from edge_exray.diagnosis import own_errors
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.models.graph import Graph, Op, read_graph
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths

# Network and conversion; recurrent networks have no int8 form.
MODELS = {
    "mobilenet_v2_96": "int8",
    "mobilenet_v2_224": "int8",
    "mobilenet_v3_small": "int8",
    "efficientnet_b0": "int8",
    "resnet50": "int8",
    "bigru": "dynamic_range",
    "transformer": "int8",
}
_FRAMES = 4
_WITH_WEIGHTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_WITH_OWN_SCALE = _WITH_WEIGHTS | {"ADD", "SUB", "MUL", "MEAN", "HARD_SWISH", "BATCH_MATMUL"}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A way to make one op wrong.

    Attributes:
        ops: Names of the ops it is for.
        inject: Takes the content of the model, the op's index and its graph; returns the content of the damaged one.
        integer_only: It changes what only a quantised output has.
    """

    ops: set[str]
    inject: Callable[[bytes, int, Graph], bytes]
    integer_only: bool = True


FAULTS = {
    "weights x 3": Fault(_WITH_WEIGHTS, lambda c, op, g: tampering.scale_weights(c, op, 3.0), integer_only=False),
    "weights / 3": Fault(_WITH_WEIGHTS, lambda c, op, g: tampering.scale_weights(c, op, 1 / 3), integer_only=False),
    "bias + range / 4": Fault(_WITH_WEIGHTS, lambda c, op, g: tampering.shift_bias(c, op, 0.25)),
    "filter scale x 2": Fault(_WITH_WEIGHTS, lambda c, op, g: tampering.scale_filter_step(c, op, 2.0)),
    "filter scale / 2": Fault(_WITH_WEIGHTS, lambda c, op, g: tampering.scale_filter_step(c, op, 0.5)),
    "output scale / 4": Fault(_WITH_OWN_SCALE, lambda c, op, g: tampering.scale_output_step(c, op, 0.25)),
    "zero point 100 off": Fault(_WITH_OWN_SCALE, lambda c, op, g: tampering.shift_zero_point(c, op, _inwards(g, op))),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=zoo.ROOT, help="folder that keeps the models")
    parser.add_argument("--places", type=int, default=40, help="number of ops to make wrong")
    arguments = parser.parse_args()
    rng = np.random.default_rng(20)
    found: collections.Counter[str] = collections.Counter()
    tried: collections.Counter[str] = collections.Counter()
    print(f"{'model':20} {'fault':20} {'made wrong':28} {'first suspect':28} own error / rounding")
    for network, mode in MODELS.items():
        content = zoo.tflite(network, arguments.root, mode).read_bytes()
        accused, largest = _accuse(network, arguments.root, content)
        found["healthy"] += accused is None
        tried["healthy"] += 1
        print(f"{network:20} {'none':20} {'-':28} {_name(content, accused):28} {largest:.2f}", flush=True)
    for place in range(arguments.places):
        network = list(MODELS)[place % len(MODELS)]
        content = zoo.tflite(network, arguments.root, MODELS[network]).read_bytes()
        fault, op, damaged = _damage(rng, content, list(FAULTS)[(place // len(MODELS) + place) % len(FAULTS)])
        accused, largest = _accuse(network, arguments.root, damaged)
        found["damaged"] += accused == op
        tried["damaged"] += 1
        print(f"{network:20} {fault:20} {_name(content, op):28} {_name(content, accused):28} {largest:.3g}", flush=True)
    for what in tried:
        print(f"{what}: right on {found[what]} of {tried[what]}")


def _inwards(graph: Graph, op: int) -> int:
    """Returns the shift of the zero point that clips on the side where the values are."""
    quantization = graph.tensors[graph.ops[op].outputs[0]].spec.quantization
    assert quantization is not None
    return 100 if quantization.zero_point[0] < 0 else -100


def _damage(rng: np.random.Generator, content: bytes, name: str) -> tuple[str, int, bytes]:
    graph = read_graph(content)
    fault = FAULTS[name]
    candidates = [
        op.index
        for op in graph.ops
        if op.name in fault.ops and not graph.is_folded(op) and (_has_scale(graph, op) or not fault.integer_only)
    ]
    if not candidates:
        return _damage(rng, content, "weights x 3")
    while True:
        op = int(rng.choice(candidates))
        try:
            damaged = fault.inject(content, op, graph)
            _open(damaged)
            return name, op, damaged
        except (errors.ModelError, IndexError, AssertionError):
            continue  # an op without a bias, or parameters that the kernels refuse


def _has_scale(graph: Graph, op: Op) -> bool:
    return graph.tensors[op.outputs[0]].spec.quantization is not None


def _open(content: bytes) -> None:
    from edge_exray.models.tflite import EdgeModel

    EdgeModel(content, preserve_tensors=True)
    EdgeModel(content)


def _accuse(network: str, root: str | os.PathLike[str], content: bytes) -> tuple[int | None, float]:
    """Returns the first suspect, and the largest own error in multiples of what rounding causes."""
    folder = pathlib.Path(root) / "suspects"
    folder.mkdir(exist_ok=True)
    edge = folder / "edge.tflite"
    edge.write_bytes(content)
    paths = ModelPaths(str(zoo.saved_model(network, root)), str(zoo.tflite(network, root, "none")), str(edge))
    [(name, values)] = zoo.frames(network, _FRAMES).items()
    stored = replay(paths, [{name: value} for value in values], folder / "replay")
    spec = ValidationSpec()
    figures = own_errors.figures(gather(stored, spec))
    accused = own_errors.outlier(figures, spec.max_own_error)
    return (accused.layer.index if accused else None), max((own.ratio for own in figures), default=0.0)


def _name(content: bytes, op: int | None) -> str:
    return "-" if op is None else f"{op} {read_graph(content).ops[op].name}"


if __name__ == "__main__":
    main()
