"""How many ops of an edge model pair with the cloud model, and how many of the pairs are right.

    PYTHONPATH=tests python -m benchmarks.alignment --root DIR [NAME ...]

Two tables: models as the converter made them, and the same models as a foreign converter might have, all tensors
renamed to t0..tn and the signatures dropped. Every claimed pair is judged on frames that the alignment has not seen, by
plain interpreters: a float edge tensor is right when it equals its cloud tensor; an edge tensor when no other tensor of
the same size in the float edge model comes nearer to it than its twin.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import numpy as np
import rich.box
import rich.console
import rich.table
import tampering
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from benchmarks import zoo
from edge_exray.frames.functions import Frame
from edge_exray.models.alignment import Alignment
from edge_exray.models.graph import Graph
from edge_exray.models.matching import REPRESENTATION_OPS, Evidence
from edge_exray.models.saved_model import CloudModel
from edge_exray.replay.replayer import ALIGNMENT_FRAMES, ModelPaths, Replayer

# Full integer loops crash TensorFlow 2.16's calibrator: recurrent networks have the modes that need none.
MODES = {name: ("none", "dynamic_range" if name == "bigru" else "int8") for name in zoo.NETWORKS}
JUDGED_FRAMES = 3
_CLOUD_TOLERANCE = 1e-3

Values = Sequence[Mapping[int, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What became of the pairs of one model.

    Attributes:
        ops: Ops that compute something.
        twins, cloud: Ops with a float twin; float twins with a cloud tensor.
        right_twins, right_cloud: Those of them that are right.
        coverage: Share of all ops that are verified or internal.
        evidence: Number of ops by what the pair with the twin rests on.
        seconds: Time of the alignment.
    """

    ops: int
    twins: int
    right_twins: int
    cloud: int
    right_cloud: int
    coverage: float
    evidence: Mapping[str, int]
    seconds: float


def judge(name: str, mode: str, root: pathlib.Path, renamed: bool) -> Judgement:
    """Aligns one network in one mode, and checks each pair."""
    cloud = zoo.saved_model(name, root)
    float_edge, edge = (zoo.tflite(name, root, m) for m in ("none", mode))
    with tempfile.TemporaryDirectory() as folder:
        if renamed:
            edge_path = pathlib.Path(folder) / "foreign.tflite"
            edge_path.write_bytes(tampering.rename_tensors(edge.read_bytes()))
            edge = edge_path
        replayer = Replayer(ModelPaths(str(cloud), str(float_edge), str(edge), zoo.SIGNATURE))
        frames = [Frame(str(i), feed, feed, None) for i, feed in enumerate(_feeds(name, ALIGNMENT_FRAMES, seed=9))]
        start = time.perf_counter()
        alignment = replayer.align(frames)
        seconds = time.perf_counter() - start
        feeds = _feeds(name, JUDGED_FRAMES, seed=77)
        float_values, edge_values = (_run(path.read_bytes(), feeds) for path in (float_edge, edge))
        return _count(alignment, replayer, feeds, float_values, edge_values, seconds)


def _count(
    alignment: Alignment,
    replayer: Replayer,
    feeds: Sequence[Mapping[str, np.ndarray]],
    float_values: Values,
    edge_values: Values,
    seconds: float,
) -> Judgement:
    edge, float_edge = replayer.edge.graph, replayer.float_edge.graph
    computing = [
        layer
        for layer in alignment.layers
        if layer.op not in REPRESENTATION_OPS and not edge.is_folded(edge.ops[layer.index])
    ]
    twins = [layer for layer in computing if layer.float_tensor is not None]
    claimed = [layer for layer in alignment.layers if layer.cloud_tensor is not None]
    cloud_values = _cloud_values(replayer.cloud, feeds, sorted({layer.cloud_tensor for layer in claimed}))
    candidates = _candidates(float_edge, float_values)
    return Judgement(
        ops=len(computing),
        twins=len(twins),
        right_twins=sum(_is_nearest(la.tensor, la.float_tensor, edge_values, float_values, candidates) for la in twins),
        cloud=len(claimed),
        right_cloud=sum(
            all(
                _equal(ours[layer.float_tensor], theirs[layer.cloud_tensor])
                for ours, theirs in zip(float_values, cloud_values, strict=True)
            )
            for layer in claimed
        ),
        coverage=alignment.counts()["coverage"],
        evidence=alignment.summary()["evidence"],
        seconds=seconds,
    )


def _feeds(name: str, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    [(key, values)] = zoo.frames(name, count, seed).items()
    return [{key: value[None]} for value in values]


def _run(content: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[dict[int, np.ndarray]]:
    """Returns tensor index to real values (float64, flat) of each frame; tensors without values are left out."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    [entry] = interpreter.get_input_details()
    found = []
    for feed in feeds:
        [value] = feed.values()
        scale, zero_point = entry["quantization"]
        if scale:
            limits = np.iinfo(entry["dtype"])
            value = np.clip(np.round(value / scale + zero_point), limits.min, limits.max)
        interpreter.set_tensor(entry["index"], value.astype(entry["dtype"]))
        interpreter.invoke()
        values = {}
        for details in interpreter.get_tensor_details():
            try:
                stored = interpreter.get_tensor(details["index"])
            except ValueError:
                continue
            scale, zero_point = details["quantization"]
            with np.errstate(invalid="ignore"):  # what no op reads is left as it was in memory
                real = stored.ravel().astype(np.float64)
            values[details["index"]] = (real - zero_point) * scale if scale else real
        found.append(values)
    return found


def _cloud_values(
    cloud: CloudModel, feeds: Sequence[Mapping[str, np.ndarray]], tensors: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    fetched = [cloud.infer(feed, tensors)[1] for feed in feeds]
    return [{name: np.ravel(value).astype(np.float64) for name, value in values.items()} for values in fetched]


def _candidates(graph: Graph, values: Values) -> dict[int, list[int]]:
    """Returns size to the tensors that are computed or fed."""
    found: dict[int, list[int]] = {}
    for tensor in {*graph.inputs, *graph.producers}:
        if all(tensor in frame for frame in values):
            found.setdefault(values[0][tensor].size, []).append(tensor)
    return found


def _is_nearest(
    tensor: int, twin: int | None, edge: Values, float_edge: Values, candidates: Mapping[int, Sequence[int]]
) -> bool:
    def distance(other: int | None) -> float:
        return float(sum(np.sum(np.square(e[tensor] - f[other])) for e, f in zip(edge, float_edge, strict=True)))

    if twin is None or edge[0][tensor].size != float_edge[0][twin].size:
        return False
    # What equals the twin but for a thousandth is no rival: `variance` and `variance + epsilon` are one to 8 bits.
    rivals = (o for o in candidates[edge[0][tensor].size] if not all(_equal(f[o], f[twin]) for f in float_edge))
    return distance(twin) <= min((distance(other) for other in rivals), default=np.inf)


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
    return left.size == right.size and bool(
        np.abs(left - right).max(initial=0.0) <= _CLOUD_TOLERANCE * np.abs(right).max(initial=0.0) + 1e-9
    )


def main() -> int:
    """Measures, prints the tables, and returns 0 when every claimed pair is right."""
    parser = argparse.ArgumentParser(description="Count the pairs of layers, and judge each.")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="folder that keeps the models")
    parser.add_argument("names", nargs="*", default=list(MODES), metavar="NAME", help=", ".join(MODES))
    arguments = parser.parse_args()
    console = rich.console.Console(highlight=False, width=160)
    wrong = 0
    for title, renamed in (("as converted", False), ("foreign: tensors renamed, no signatures", True)):
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title)
        columns = ("network", "mode", "ops", "with twin", "right", "with cloud", "right", "coverage")
        for column in (*columns, *(evidence.value for evidence in Evidence), "seconds"):
            table.add_column(column)
        for name in arguments.names:
            for mode in MODES[name]:
                found = judge(name, mode, arguments.root, renamed)
                wrong += found.twins - found.right_twins + found.cloud - found.right_cloud
                table.add_row(
                    name,
                    mode,
                    str(found.ops),
                    f"{found.twins} ({found.twins / found.ops:.1%})",
                    str(found.right_twins),
                    str(found.cloud),
                    str(found.right_cloud),
                    f"{found.coverage:.1%}",
                    *(str(found.evidence[evidence.value]) for evidence in Evidence),
                    f"{found.seconds:.1f}",
                )
        console.print(table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
