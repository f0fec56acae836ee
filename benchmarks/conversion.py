"""Every mode of the converter on every network, and its int8 time against TensorFlow's converter alone.

    PYTHONPATH=tests python -m benchmarks.conversion [--root DIR] [--rounds N] [NAME ...]

The table gives size, time of the child process, and the largest difference of an output to the cloud model over frames
that were not calibrated on; where a mode is refused, the reason. The time of TensorFlow's converter is that of a
process that imports TensorFlow, loads the SavedModel and calibrates on the same frames, in turns with ours.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import models_zoo
import numpy as np
import rich.box
import rich.console
import rich.table

from benchmarks import zoo
from edge_exray import errors
from edge_exray.conversion import converter, modes
from edge_exray.models.saved_model import CloudModel
from edge_exray.models.tflite import EdgeModel

CALIBRATION_FRAMES = 20
JUDGED_FRAMES = 8
TIMED_NETWORK = "mobilenet_v2_224"
TIMED_FRAMES = 100
MAX_TIME_RATIO = 1.15

_Frames = list[dict[str, np.ndarray]]

_PENGUINS = "components/testdata/trainer/keras/Format-Serving"

_BARE = """
import sys
import numpy as np
import tensorflow as tf

path, frames, out = sys.argv[1:]
loaded = tf.saved_model.load(path)
[signature] = loaded.signatures.values()
converter = tf.lite.TFLiteConverter.from_concrete_functions([signature], loaded)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
[(key, values)] = np.load(frames).items()
converter.representative_dataset = lambda: ({key: row[None]} for row in values)
open(out, "wb").write(converter.convert())
"""


@dataclasses.dataclass(frozen=True)
class Source:
    """A SavedModel to convert.

    Attributes:
        path: Returns its directory; given a folder to make it in.
        frames: Returns so many frames, other ones for each seed.
        signature: See `converter.convert`.
    """

    path: Callable[[pathlib.Path], str]
    frames: Callable[[int, int], _Frames]
    signature: str | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one network in one mode.

    Attributes:
        bytes: Size of the .tflite; None when it is refused.
        seconds: Time of the child process.
        difference: Largest absolute difference of an output to the cloud model, in units of that output's range.
        remark: Number of ops left in float32 and what the converter had to change; or why it refuses.
    """

    bytes: int | None
    seconds: float
    difference: float | None
    remark: str


def convert(source: Source, path: str, mode: str) -> Outcome:
    """Converts one network in one mode and compares its outputs with those of the cloud model."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            made = converter.convert(
                path,
                pathlib.Path(folder, "model.tflite"),
                quantization=mode,
                signature=source.signature,
                calibration=source.frames(CALIBRATION_FRAMES, 2),
            )
        except errors.ConversionError as e:
            return Outcome(None, time.perf_counter() - start, None, f"refused: {str(e).replace(path, 'it')}")
        cloud, edge = CloudModel(path, source.signature), EdgeModel(made.path)
    wanted, got = [], []
    for frame in source.frames(JUDGED_FRAMES, 3):
        wanted.append(cloud.infer(frame)[0])
        got.append(edge.infer(frame))
    remarks = [f"{len(made.left_float)} ops in float32"] if made.left_float else []
    return Outcome(made.bytes, made.seconds, _difference(wanted, got), "; ".join([*remarks, *made.notes]))


def time_ratios(path: str, frames: _Frames, rounds: int) -> list[tuple[float, float]]:
    """Returns the seconds of our int8 conversion and of TensorFlow's, for each round."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        stored, out = f"{folder}/frames.npz", f"{folder}/bare.tflite"
        np.savez(stored, **{key: np.concatenate([frame[key] for frame in frames]) for key in frames[0]})
        for _ in range(rounds):
            start = time.perf_counter()
            converter.convert(path, f"{folder}/ours.tflite", calibration=frames)
            middle = time.perf_counter()
            subprocess.run([sys.executable, "-c", _BARE, path, stored, out], check=True, capture_output=True)
            found.append((middle - start, time.perf_counter() - middle))
        same = pathlib.Path(out).read_bytes() == pathlib.Path(folder, "ours.tflite").read_bytes()
    print("the two files are", "the same" if same else "different")
    return found


def _difference(wanted: Sequence[dict[str, np.ndarray]], got: Sequence[dict[str, np.ndarray]]) -> float:
    worst = 0.0
    for name in wanted[0]:
        truth = np.stack([outputs[name] for outputs in wanted]).astype(np.float64)
        edge = np.stack([outputs[name] for outputs in got]).astype(np.float64)
        worst = max(worst, float(np.abs(truth - edge).max() / (np.ptp(truth) or 1.0)))
    return worst


def _split(arrays: dict[str, np.ndarray]) -> _Frames:
    count = len(next(iter(arrays.values())))
    return [{key: values[i : i + 1] for key, values in arrays.items()} for i in range(count)]


def _random(count: int, seed: int, **widths: tuple[int, ...]) -> _Frames:
    rng = np.random.default_rng(seed)
    return _split({name: rng.uniform(0, 1, (count, *shape)).astype(np.float32) for name, shape in widths.items()})


def _two_inputs(count: int, seed: int) -> _Frames:
    floats = _random(count, seed, zebra=(5,), apple=(4,))
    return [{**frame, "ids": np.array([[i % 4]], np.int32)} for i, frame in enumerate(floats)]


def _demo_cnn(folder: pathlib.Path) -> str:
    """Saves the network of the demo, not trained but with settled batch norm."""
    import keras

    from edge_exray.pipelines import trainer

    keras.utils.set_random_seed(0)
    model = trainer.build_model()
    for seed in range(30):
        model(np.concatenate([frame["image"] for frame in _tiles(16, seed)]), training=True)
    path = str(folder / "demo_cnn")
    trainer.export_model(model, path)
    return path


def _tiles(count: int, seed: int) -> _Frames:
    return [{"image": frame["image"] * 2 - 1} for frame in _random(count, seed, image=(32, 32, 3))]


def _sources(root: pathlib.Path) -> dict[str, Source]:
    sources = {
        "demo_cnn": Source(_demo_cnn, _tiles, "serving_dense"),
        "small_cnn": Source(
            lambda folder: models_zoo.save_conv_net(folder / "small_cnn"),
            lambda count, seed: _split({"image": models_zoo.make_frames(count, seed)[0]}),
            "serving_dense",
        ),
        "two_inputs": Source(lambda folder: models_zoo.save_two_input_net(folder / "two_inputs"), _two_inputs),
        "lstm": Source(
            lambda folder: models_zoo.save_lstm_net(folder / "lstm"),
            lambda count, seed: _random(count, seed, x=(6, 3)),
        ),
        "open_batch_rnn": Source(
            lambda folder: models_zoo.save_sequence_net(folder / "open_batch_rnn"),
            lambda count, seed: _random(count, seed, x=(5, 4)),
        ),
    }
    tfx = importlib.util.find_spec("tfx")
    if tfx is not None and tfx.origin is not None:
        features = ("body_mass_g", "culmen_depth_mm", "culmen_length_mm", "flipper_length_mm")
        sources["penguins"] = Source(
            lambda _, path=str(pathlib.Path(tfx.origin).parent / _PENGUINS): path,
            lambda count, seed: _random(count, seed, **dict.fromkeys(features, (1,))),
        )
    for network in zoo.NETWORKS:
        sources[network] = Source(
            lambda _, name=network: str(zoo.saved_model(name, root)),
            lambda count, seed, name=network: _split(zoo.frames(name, count, seed)),
        )
    return sources


def main() -> int:
    """Prints the table and the ratio; fails when the ratio is above the bar."""
    parser = argparse.ArgumentParser(description="Measure the conversion of every network in every mode.")
    parser.add_argument("--root", type=pathlib.Path, default=zoo.ROOT, help="folder that keeps the models")
    parser.add_argument("--rounds", type=int, default=3, help="how often to time int8; 0 leaves it out")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; default all")
    arguments = parser.parse_args()
    sources = _sources(arguments.root)
    unknown = set(arguments.names) - set(sources)
    if unknown:
        parser.error(f"unknown networks {sorted(unknown)}: choose from {', '.join(sources)}")
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in ("network", "mode", "KiB", "seconds", "max difference", "remark"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or sources:
            path = sources[name].path(pathlib.Path(folder))
            for mode in modes.MODES:
                found = convert(sources[name], path, mode)
                size = "" if found.bytes is None else f"{found.bytes / 1024:.1f}"
                difference = "" if found.difference is None else f"{found.difference:.1e}"
                table.add_row(name, mode, size, f"{found.seconds:.1f}", difference, found.remark)
                print(name, mode, size, f"{found.seconds:.1f}", difference, found.remark, file=sys.stderr, flush=True)
    rich.console.Console(highlight=False, width=200).print(table)
    if not arguments.rounds:
        return 0
    timed = sources[TIMED_NETWORK]
    times = time_ratios(timed.path(arguments.root), timed.frames(TIMED_FRAMES, 2), arguments.rounds)
    ours, bare = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(
        f"int8 {TIMED_NETWORK}, {TIMED_FRAMES} frames: {ours:.1f} s, TensorFlow alone {bare:.1f} s, ratio {ratio:.2f}"
    )
    return 0 if ratio <= MAX_TIME_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
