"""Model faults of the fault suite, with healthy twins: networks of the zoo and a small trained one, an op at a time."""

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable, Collection, Iterator
from unittest import mock

import models_zoo
import numpy as np
import tampering

from benchmarks import zoo
from benchmarks._fault_case import FaultCase
from edge_exray import errors
from edge_exray.conversion.converter import convert
from edge_exray.diagnosis.evidence import gather
from edge_exray.diagnosis.report import Report, Verdict
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.drift.statistics import DriftStatistics
from edge_exray.frames.functions import UserFunctions
from edge_exray.models.graph import Graph, Op, read_graph
from edge_exray.models.tflite import EdgeModel
from edge_exray.replay import replayer
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.replay.sampling import sample
from edge_exray.replay.tally import TallyOptions

GROUP = "model"
SMALL = "conv_net"
_WITH_WEIGHTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_FRAMES = 4

# nRMSE of a few 8-bit steps: a range that cuts off less is one that other calibration frames would have given.
_LEAST_EFFECT = 0.01

# Networks and the modes that have their healthy twins looked at; the first mode of each is damaged.
NETWORKS = {
    SMALL: ("int8", "none", "float16", "dynamic_range", "int8_float_io", "int16x8"),
    "mobilenet_v2_96": ("int8", "dynamic_range", "float16"),
    "transformer": ("int8", "dynamic_range", "float16"),
    "mobilenet_v3_small": ("int8",),
    "efficientnet_b0": ("int8",),
    "bigru": ("dynamic_range", "float16"),
}


@dataclasses.dataclass(frozen=True)
class _Subject:
    """A network in one mode, and what its trials start from.

    Attributes:
        name, mode: Network and mode of the conversion.
        paths: The healthy models.
        frames: The frames that are replayed.
        spec: The limits.
    """

    name: str
    mode: str
    paths: ModelPaths
    frames: tuple[dict[str, np.ndarray], ...]
    spec: ValidationSpec

    @property
    def edge(self) -> bytes:
        return pathlib.Path(self.paths.edge).read_bytes()

    def diagnose(self, edge: bytes | None = None, *, twin: bytes | None = None, kernels: bytes | None = None) -> Report:
        """Judges this network with an edge model, a float twin or kernels of another content."""
        with tempfile.TemporaryDirectory() as folder:
            paths = self.paths
            for role, content in (("edge", edge), ("float_edge", twin)):
                if content is not None:
                    path = pathlib.Path(folder, f"{role}.tflite")
                    path.write_bytes(content)
                    paths = dataclasses.replace(paths, **{role: str(path)})
            options = TallyOptions(input_samples=0, worst_frames=0)
            leg = replayer.KernelLeg
            if kernels is not None:
                options = dataclasses.replace(options, sampling=sample(lambda: self.frames, UserFunctions(), 0, 2))
                leg = functools.partial(leg, other=kernels)
            with mock.patch.object(replayer, "KernelLeg", leg):
                stored = replay(paths, self.frames, pathlib.Path(folder, "replay"), options=options)
            return diagnose(gather(stored, self.spec))


@dataclasses.dataclass(frozen=True)
class _Fault:
    """A way to make one op wrong.

    Attributes:
        name, strength: Row and form, see `FaultCase`.
        expected: Names of the checks that must point at the op.
        inject: Takes the content, the op and its graph; returns the damaged content.
        modes: The modes that it exists in.
        ops: Names of the ops it is for.
        needs_effect: Only ops are damaged whose values it changes.
    """

    name: str
    strength: str
    expected: tuple[str, ...]
    inject: Callable[[bytes, Op, Graph], bytes]
    modes: tuple[str, ...] = ("int8", "dynamic_range", "none")
    ops: frozenset[str] = frozenset(_WITH_WEIGHTS)
    needs_effect: bool = False


def cases(seed: int, root: pathlib.Path = zoo.ROOT) -> Iterator[FaultCase]:
    """Yields the trials: healthy twins, then every fault at every strength on an op drawn at random.

    Args:
        seed: Draws the ops, the frames and the weights of the small network.
        root: Folder that keeps the networks of the zoo.
    """
    rng = np.random.default_rng([8, seed])
    subjects = {
        (name, mode): functools.cache(functools.partial(_subject, name, mode, root, seed))
        for name, modes in NETWORKS.items()
        for mode in (*modes, *(["none"] if name == "mobilenet_v2_96" else []))
    }
    for (name, mode), subject in subjects.items():
        yield FaultCase(GROUP, "healthy", f"{name} {mode}", (), functools.partial(_named_by, subject))
    for mode in ("none", "float16", "dynamic_range", "int8"):
        run = functools.partial(_other_checkpoint, subjects[SMALL, mode], root, seed)
        yield FaultCase(GROUP, "another checkpoint", mode, ("constants_parity",), run)
    for scale, words in ((0.25, "inputs / 4"), (8.0, "inputs x 8")):
        run = functools.partial(_wrong_calibration, subjects[SMALL, "int8"], root, seed, scale)
        yield FaultCase(GROUP, "wrong calibration", words, ("calibration_range",), run)
    for fault in FAULTS:
        for name, mode in _places(fault):
            subject = subjects[name, mode]()
            drawn = _draw(rng, subject, fault)
            if drawn is None:
                continue
            op, damaged = drawn
            expected = tuple(f"{check}@{op}" for check in fault.expected)
            run = functools.partial(_named, subject, damaged, fault.expected)
            yield FaultCase(GROUP, fault.name, f"{fault.strength}, {name} {mode}", expected, run)


def _places(fault: _Fault) -> Iterator[tuple[str, str]]:
    """Yields the networks, each in one mode, that a fault is tried on."""
    for name, modes in NETWORKS.items():
        available = [m for m in fault.modes if m in modes or (name, m) == ("mobilenet_v2_96", "none")]
        # Large networks cost seconds a trial and fail like the small ones.
        if available and name not in ("efficientnet_b0", "mobilenet_v3_small"):
            yield name, available[0]


def _named_by(subject: Callable[[], _Subject]) -> Collection[str]:
    return _names(subject().diagnose())


def _named(subject: _Subject, damaged: bytes, expected: tuple[str, ...]) -> Collection[str]:
    if expected == ("conversion_drift",):
        return _names(subject.diagnose(damaged, twin=damaged))
    if expected == ("kernel_drift",):
        return _names(subject.diagnose(kernels=damaged))
    return _names(subject.diagnose(damaged))


def _names(report: Report) -> set[str]:
    """Returns the checks that failed, and with their layers those that point at one: `check@layer`."""
    failed = {check.name for check in report.checks if check.verdict is Verdict.FAILED}
    return failed | {f"{suspect.check}@{suspect.layer}" for suspect in report.suspects}


def _small_net(root: pathlib.Path, seed: int) -> pathlib.Path:
    """Returns the small network of a seed, which knows its classes; kept below `root` like those of the zoo."""
    path = root / f"{SMALL}_{seed}"
    if not path.exists():
        models_zoo.save_conv_net(path, seed=seed)
    return path


def _small_tflite(root: pathlib.Path, seed: int, mode: str, scale: float = 1.0) -> pathlib.Path:
    """Returns its .tflite in a mode, calibrated on frames that are multiplied by `scale`."""
    path = root / f"{SMALL}_{seed}.{mode}.{scale}.tflite"
    if not path.exists():
        calibration = [{"image": scale * image[np.newaxis]} for image in models_zoo.make_frames(40, seed=seed + 5)[0]]
        convert(_small_net(root, seed), path, quantization=mode, signature="serving_dense", calibration=calibration)
    return path


def _subject(name: str, mode: str, root: pathlib.Path, seed: int) -> _Subject:
    if name == SMALL:
        images, labels = models_zoo.make_frames(40, seed=seed + 2)
        frames = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
        models = (_small_net(root, seed), _small_tflite(root, seed, "none"), _small_tflite(root, seed, mode))
        return _Subject(name, mode, ModelPaths(*map(str, models), "serving_dense"), tuple(frames), ValidationSpec())
    [(key, values)] = zoo.frames(name, _FRAMES, seed=seed + 20).items()
    models = (zoo.saved_model(name, root), zoo.tflite(name, root, "none"), zoo.tflite(name, root, mode))
    # With random weights 1000 classes are as likely as one another: which one leads says nothing about a conversion.
    spec = ValidationSpec(max_label_flip_rate=1.0)
    return _Subject(name, mode, ModelPaths(*map(str, models)), tuple({key: value} for value in values), spec)


def _other_checkpoint(subject: Callable[[], _Subject], root: pathlib.Path, seed: int) -> Collection[str]:
    made = subject()
    return _names(made.diagnose(_small_tflite(root, seed + 100, made.mode).read_bytes()))


def _wrong_calibration(subject: Callable[[], _Subject], root: pathlib.Path, seed: int, scale: float) -> Collection[str]:
    return _names(subject().diagnose(_small_tflite(root, seed, "int8", scale).read_bytes()))


def _draw(rng: np.random.Generator, subject: _Subject, fault: _Fault) -> tuple[int, bytes] | None:
    """Draws an op that the fault changes something at; None when there is none."""
    content = subject.edge
    graph = read_graph(content)
    candidates = [op for op in graph.ops if op.name in fault.ops and not graph.is_folded(op)]
    for i in rng.permutation(len(candidates)):
        op = candidates[i]
        try:
            damaged = fault.inject(content, op, graph)
            EdgeModel(damaged, preserve_tensors=True)
            EdgeModel(damaged)
        except (errors.ModelError, IndexError, AssertionError, KeyError, TypeError, AttributeError):
            continue  # an op without a bias or a scale, or parameters that the kernels refuse
        if not fault.needs_effect or _has_effect(subject, damaged, op):
            return op.index, damaged
    return None


def _has_effect(subject: _Subject, damaged: bytes, op: Op) -> bool:
    """True when the op gives other values: RELU instead of RELU6 changes nothing below 6."""
    models = [EdgeModel(content, preserve_tensors=True) for content in (subject.edge, damaged)]
    [name] = models[0].inputs
    drift = DriftStatistics()
    for frame in subject.frames[:_FRAMES]:
        values = []
        for model in models:
            model.infer({name: np.asarray(next(iter(frame.values())))[np.newaxis]})
            values.append(model.graph.tensors[op.outputs[0]].spec.real(np.array(model.tensor(op.outputs[0]))))
        drift.update(*values)
    return not drift.nrmse <= _LEAST_EFFECT


def _with_constant(position: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes, Op, Graph], bytes]:
    """Returns an injection that changes an op's constant, wherever float16 models keep it."""

    def inject(content: bytes, op: Op, graph: Graph) -> bytes:
        holder = graph.producers.get(op.inputs[position])
        place = (holder.index, 0) if holder is not None else (op.index, position)

        def checked(stored: np.ndarray) -> np.ndarray:
            changed = change(stored.astype(np.float64))
            if stored.dtype.kind == "i":
                limits = np.iinfo(stored.dtype)
                changed = np.clip(np.round(changed), limits.min, limits.max)
            return changed.astype(stored.dtype)

        return tampering.change_constant(content, *place, checked)

    return inject


def _times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values * factor


def _swap(nearest: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Swaps two channels: those whose sums lie furthest apart, or two that are alike."""

    def swap(values: np.ndarray) -> np.ndarray:
        axis = -1 if values.ndim == 4 and values.shape[0] == 1 else 0  # of a depthwise filter, the last one
        rows = np.moveaxis(values, axis, 0).copy()
        order = np.argsort(rows.reshape(len(rows), -1).sum(1))
        middle = len(order) // 2
        one, other = (order[middle - 1], order[middle]) if nearest else (order[0], order[-1])
        rows[[one, other]] = rows[[other, one]]
        return np.moveaxis(rows, 0, axis)

    return swap


def _first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def overwrite(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed.flat[0] = value
        return changed

    return overwrite


def _shift_zero_point(steps: int) -> Callable[[bytes, Op, Graph], bytes]:
    def inject(content: bytes, op: Op, graph: Graph) -> bytes:
        quantization = graph.tensors[op.outputs[0]].spec.quantization
        assert quantization is not None
        # Away from the middle, where the values are.
        return tampering.shift_zero_point(content, op.index, steps if quantization.zero_point[0] < 0 else -steps)

    return inject


def _activation(before: str, after: str) -> Callable[[bytes, Op, Graph], bytes]:
    def inject(content: bytes, op: Op, graph: Graph) -> bytes:
        assert op.activation == before
        return tampering.set_activation(content, op.index, after)

    return inject


def _at(inject: Callable[..., bytes], *arguments: float) -> Callable[[bytes, Op, Graph], bytes]:
    return lambda content, op, graph: inject(content, op.index, *arguments)


_WEIGHTS, _BIAS = 1, 2
_INT8 = ("int8",)
_WITH_SCALE = frozenset(_WITH_WEIGHTS | {"ADD", "SUB", "MUL", "MEAN", "HARD_SWISH", "BATCH_MATMUL"})
_PARITY, _OWN = ("constants_parity",), ("own_error",)

FAULTS = (
    *(
        _Fault("weights times a factor", f"x {f}", _PARITY, _with_constant(_WEIGHTS, _times(f)))
        for f in (0.5, 0.9, 3.0)
    ),
    *(
        _Fault(f"{what} of two channels swapped", words, _PARITY, _with_constant(position, _swap(nearest)))
        for what, position in (("biases", _BIAS), ("filters", _WEIGHTS))
        for words, nearest in (("far apart", False), ("alike", True))
    ),
    *(
        _Fault("NaN", f"in the {what}", ("non_finite",), _with_constant(position, _first(np.nan)), (mode,))
        for what, position, mode in (
            ("weights", _WEIGHTS, "none"),
            ("bias", _BIAS, "none"),
            ("weights", _WEIGHTS, "float16"),
            ("bias", _BIAS, "dynamic_range"),
        )
    ),
    *(_Fault("zero point", f"{s} off", _OWN, _shift_zero_point(s), _INT8, _WITH_SCALE, True) for s in (100, 60)),
    *(
        _Fault("output scale", f"/ {d}", _OWN, _at(tampering.scale_output_step, 1 / d), _INT8, _WITH_SCALE, True)
        for d in (2, 4)
    ),
    *(
        _Fault(
            "calibrated range of a layer",
            f"x {f:g}",
            ("calibration_range",),
            _at(tampering.scale_output_step, f),
            _INT8,
            _WITH_SCALE,
            True,
        )
        for f in (1 / 16, 1 / 32, 24, 100)
    ),
    *(
        _Fault("output times a factor", f"x {f}", _OWN, _at(tampering.scale_filter_step, f), _INT8)
        for f in (3.0, 0.33, 1.3)
    ),
    *(
        _Fault("dead layer", "weights 0", ("dead_layers",), _with_constant(_WEIGHTS, _times(0.0)), (mode,))
        for mode in ("int8", "none", "dynamic_range", "float16")
    ),
    _Fault("dead layer", "filter scale / 1e6", ("dead_layers",), _at(tampering.scale_filter_step, 1e-6), _INT8),
    *(
        _Fault("saturated layer", f"bias + {s} ranges", ("saturated_layers",), _at(tampering.shift_bias, s), _INT8)
        for s in (-3.0, 1.5, 1.0)
    ),
    *(
        _Fault("activation replaced", f"{old} -> {new}", _OWN, _activation(old, new), ("none",), needs_effect=True)
        for old, new in (("RELU6", "RELU"), ("RELU6", "NONE"), ("RELU", "NONE"))
    ),
    *(
        _Fault("op replaced", "ADD -> MUL", _OWN, _at(tampering.replace_op, "MUL"), (mode,), frozenset({"ADD"}), True)
        for mode in ("none", "dynamic_range")
    ),
    *(
        _Fault(name, f"weights x {f}", (check,), _with_constant(_WEIGHTS, _times(f)), (mode,), needs_effect=True)
        for name, check, mode in (
            ("conversion with other constants", "conversion_drift", "none"),
            ("production kernel", "kernel_drift", "int8"),
        )
        for f in (3.0, 0.5, 1.2)
    ),
)
