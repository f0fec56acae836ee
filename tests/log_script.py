"""Frames that an app logs, played by the Python monitor and, from a file, by players in other languages."""

import dataclasses
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from edge_exray.monitor import EdgeMonitor, LoggedTensor, Sampling, read_log

SEED = 20_261_122


@dataclasses.dataclass(frozen=True)
class Spec:
    """A tensor of the model: its name, index, type, shape and quantisation (scales, zero points, axis)."""

    name: str
    index: int
    dtype: Any
    shape: tuple[int, ...]
    quantization: tuple[tuple[float, ...], tuple[int, ...], int] | None = None

    @property
    def details(self) -> dict[str, Any]:
        scales, zero_points, axis = self.quantization or ((), (), 0)
        parameters = {"scales": scales, "zero_points": zero_points, "quantized_dimension": axis}
        return {"name": self.name, "index": self.index, "quantization_parameters": parameters}


RAW = [
    Spec("input", 0, np.uint8, (8, 6, 3)),
    Spec("microphone/left: 2", 0, np.int16, (2, 40)),
    Spec("jpeg", 0, object, ()),
    Spec("words", 0, object, (3,)),
]
INPUTS = [Spec("image", 0, np.int8, (1, 8, 6, 3), ((0.0078125,), (-1,), 0)), Spec("tokens", 1, np.int64, (1, 5))]
OUTPUTS = [Spec("scores", 90, np.int8, (1, 4), ((0.00390625,), (-128,), 0)), Spec("box/Größe", 91, np.float32, (2, 2))]
LAYERS = [
    Spec("net/conv/Relu6;bias:0", 7, np.float32, (1, 4, 3, 50)),
    Spec("net/depthwise", 3, np.int8, (1, 2, 2, 3), ((0.5, 0.25, 0.1), (0, -7, 127), 3)),
    Spec("half", 12, np.float16, (3, 5)),
    Spec("brain", 13, ml_dtypes.bfloat16, (7,)),
    Spec("double", 14, np.float64, (2,)),
    Spec("mask", 15, np.bool_, (9,)),
    *(Spec(np.dtype(t).name, 20 + i, t, (5,)) for i, t in enumerate([np.uint16, np.int32, np.uint32, np.uint64])),
    Spec("complex64", 30, np.complex64, (2, 3)),
    Spec("complex128", 31, np.complex128, (4,)),
    Spec("text", 32, object, (2,)),
    Spec("scalar", 33, np.float32, ()),
]
PICTURE = [Spec("picture", 1, np.float32, (1, 256, 256, 4))]


@dataclasses.dataclass(frozen=True)
class ScriptedFrame:
    """What an app hands to the monitor in one frame."""

    id: str
    raw: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]
    user: dict[str, Any] = dataclasses.field(default_factory=dict)
    keep: bool = False
    fails: bool = False
    specs: dict[str, list[Spec]] = dataclasses.field(default_factory=lambda: _ROLES)


@dataclasses.dataclass(frozen=True)
class ScriptedLog:
    """Frames and the options under which they are logged; those of the Python monitor, but for `app_threads`."""

    options: dict[str, Any]
    frames: list[ScriptedFrame]
    app_threads: int = 1
    more: dict[str, str] = dataclasses.field(default_factory=dict)


def frames(count: int) -> list[ScriptedFrame]:
    """Frames with tensors of every type, all kinds of users' values, odd names and numbers."""
    rng = np.random.default_rng(SEED)
    made = []
    for i in range(count):
        values = {role: {s.name: _values(s, rng) for s in specs} for role, specs in _ROLES.items()}
        scores = np.roll([-100, -100, -100, rng.integers(-99, 128)], rng.integers(4))
        scores[1] = -128 if i % 5 == 4 else scores[1]  # real 0
        values["outputs"]["scores"][:] = scores
        values["layers"][LAYERS[0].name].flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
        user = {"exposure": i * 0.1, "count": -i, "many": [1, -(2**63), 2**63 - 1], "where": "Köln ☂", "on": i % 2 == 0}
        more = {"ratios": [0.5, 1e30], "tags": ["a", "", "ß"]}
        frame_id = "" if i % 7 == 6 else f"café-{i}"
        made.append(ScriptedFrame(frame_id, **values, user=user | more, keep=i % 11 == 10, fails=i % 9 == 8))
    return made


def large_frames(count: int) -> list[ScriptedFrame]:
    """Frames of a megabyte."""
    rng = np.random.default_rng(SEED)
    made = []
    for _ in range(count):
        layers = {s.name: _values(s, rng) for s in PICTURE}
        scores = {s.name: _values(s, rng) for s in OUTPUTS}
        made.append(ScriptedFrame("", {}, {}, scores, layers, specs=_ROLES | {"layers": PICTURE}))
    return made


def logged(path: pathlib.Path) -> list[ScriptedFrame]:
    """The frames of a log of tensors with values, whose ids begin with `0/`."""
    made = []
    for frame in read_log(path):
        values: dict[str, dict[str, Any]] = {}
        specs: dict[str, list[Spec]] = {}
        for role in _ROLES:
            named = {name: _spec(role, name, tensor) for name, tensor in getattr(frame, role).items()}
            specs[role] = list(named.values())
            values[role] = {spec.name: getattr(frame, role)[name].value for name, spec in named.items()}
        made.append(ScriptedFrame(frame.id.removeprefix("0/"), **values, user=frame.user, specs=specs))
    return made


def _spec(role: str, name: str, tensor: LoggedTensor) -> Spec:
    index, _, layer = name.partition("/") if role == "layers" else ("0", "", name)
    q = tensor.quantization
    return Spec(layer, int(index), tensor.value.dtype, tensor.shape, q and (q.scale, q.zero_point, q.axis))


def play(log: ScriptedLog, path: pathlib.Path) -> dict[str, Any]:
    """Logs it with the Python monitor, in one thread; returns the counts."""
    options = dict(log.options)
    interpreter = _Interpreter()
    sampling = _sampling(options)
    with EdgeMonitor(path, **options, sample=sampling) as monitor:
        for frame in log.frames:
            _play_frame(monitor, interpreter, frame)
        with monitor.frame(id="open") as last:
            last.keep()
    return monitor.counts


def write(logs: Sequence[tuple[pathlib.Path, ScriptedLog]], path: pathlib.Path) -> None:
    """Writes what the players read: logs and the paths where they are to be written; see player.cpp."""
    path.write_bytes(_list(logs, lambda item: _encode_log(item[1], item[0])))


_ROLES = {"raw": RAW, "inputs": INPUTS, "outputs": OUTPUTS, "layers": LAYERS}


def _values(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    if spec.dtype is object:
        array = np.empty(spec.shape, object)
        for index in np.ndindex(spec.shape):
            array[index] = rng.bytes(rng.integers(0, 300))
        return array
    if spec.dtype is np.bool_:
        return rng.integers(0, 2, spec.shape).astype(bool)
    if np.dtype(spec.dtype).kind in "iu":
        info = np.iinfo(spec.dtype)
        return rng.integers(info.min, info.max, spec.shape, spec.dtype, endpoint=True)
    return (rng.normal(0, 3, spec.shape) + (1j if np.dtype(spec.dtype).kind == "c" else 0)).astype(spec.dtype)


class _Interpreter:
    """Has the parts of an interpreter that the monitor uses, and answers what the script says."""

    def get_input_details(self):
        return [s.details for s in INPUTS]

    def get_output_details(self):
        return [s.details for s in OUTPUTS]

    def get_tensor_details(self):
        return [s.details for s in INPUTS + OUTPUTS + self.frame.specs["layers"]]

    def _get_ops_details(self):
        return [{"outputs": np.array([s.index])} for s in self.frame.specs["layers"]]

    def set_tensor(self, index, value):
        pass

    def invoke(self):
        self.values = {s.index: self.frame.outputs[s.name] for s in OUTPUTS}
        self.values |= {s.index: self.frame.layers[s.name] for s in self.frame.specs["layers"]}

    def get_tensor(self, index):
        return self.values[index].copy()

    def tensor(self, index):
        return lambda: self.values[index]


def _predicate(limit: float):
    def predicate(outputs: Mapping[str, np.ndarray]) -> bool:
        first = next(iter(outputs.values())).ravel()
        if first[1] == 0:
            raise RuntimeError("no opinion")
        return bool(first[0] > limit)

    return predicate


def _sampling(options: dict[str, Any]) -> Sampling | float:
    rules = {f.name: options.pop(f.name) for f in dataclasses.fields(Sampling) if f.name in options}
    if "predicate" in rules:
        rules["predicate"] = _predicate(rules["predicate"])
    return Sampling(**rules) if rules else 1.0


def _play_frame(monitor: EdgeMonitor, interpreter: _Interpreter, script: ScriptedFrame) -> None:
    interpreter.frame = script
    try:
        with monitor.frame(raw=script.raw, id=f"0/{script.id}" if script.id else None) as frame:
            if script.keep:
                frame.keep()
            frame.stage("preprocess", lambda: None)
            frame.run(interpreter, script.inputs)
            frame.log(**script.user)
            for _ in range(2):
                frame.stage("postprocess", lambda: None)
            if script.fails:
                frame.stage("broken", _fail)
    except RuntimeError:
        pass


def _fail() -> None:
    raise RuntimeError("the screen is off")


def _text(text: str | bytes) -> bytes:
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(encoded)) + encoded


def _list(values: Any, encode: Any) -> bytes:
    return struct.pack("<I", len(values)) + b"".join(map(encode, values))


def _numbers(values: Any, code: str) -> bytes:
    return struct.pack(f"<I{len(values)}{code}", len(values), *values)


def _encode_log(log: ScriptedLog, path: pathlib.Path) -> bytes:
    options = {"path": str(path), "app_threads": str(log.app_threads), **log.more}
    given = dict(log.options)
    if "app" in given:
        given["app_name"], given["app_version"] = given.pop("app")
    renamed = {"model": "model_sha256", "contract": "input_contract"}
    for key, value in given.items():
        options[renamed.get(key, key)] = value["session"] if key == "user" else str(value)
    return _list(list(options.items()), lambda item: _text(item[0]) + _text(item[1])) + _list(log.frames, _encode_frame)


def _encode_frame(frame: ScriptedFrame) -> bytes:
    ints, floats, texts = {}, {}, {}
    for key, value in frame.user.items():
        listed = value if isinstance(value, list) else [value]
        (ints if isinstance(listed[0], int) else floats if isinstance(listed[0], float) else texts)[key] = listed
    return b"".join(
        [
            _text(frame.id),
            bytes([frame.keep, frame.fails]),
            *(_encode_tensors(getattr(frame, role), frame.specs[role]) for role in _ROLES),
            _numbers([s.index for s in frame.specs["layers"]], "i"),
            _list(list(ints.items()), lambda item: _text(item[0]) + _numbers(item[1], "q")),
            _list(list(floats.items()), lambda item: _text(item[0]) + _numbers(item[1], "f")),
            _list(list(texts.items()), lambda item: _text(item[0]) + _list(item[1], _text)),
            _list(OPS, lambda op: _text(op[1]) + _numbers([op[0], op[2]], "q")),
        ]
    )


# Only of the players: Python takes them from the runtime.
OPS = [(0, "CONV_2D", 1_234_567), (2, "DEPTHWISE_CONV_2D", 0), (1, "DELEGATE ü", 2**40)]


def _encode_tensors(values: dict[str, np.ndarray], specs: list[Spec]) -> bytes:
    return _list([(s, values[s.name]) for s in specs if s.name in values], lambda item: _encode_tensor(*item))


def _encode_tensor(spec: Spec, value: np.ndarray) -> bytes:
    scale, zero_point, axis = spec.quantization or ((), (), 0)
    is_text = value.dtype == object
    dtype = "string" if is_text else value.dtype.name
    content = _list(value.ravel().tolist(), _text) if is_text else _text(value.tobytes())
    described = _numbers(value.shape, "q") + _numbers(scale, "f") + _numbers(zero_point, "q") + struct.pack("<i", axis)
    return _text(spec.name) + _text(dtype) + described + content
