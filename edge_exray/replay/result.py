"""The stored result of a replay: a directory that parallel workers can write their parts of."""

import dataclasses
import functools
import gzip
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from edge_exray import environment, errors
from edge_exray.frames import examples
from edge_exray.models.alignment import Alignment
from edge_exray.replay.failures import FrameFailures
from edge_exray.replay.input_samples import InputSample
from edge_exray.replay.replayer import Prediction
from edge_exray.replay.statistics import ALL_FRAMES, Key, ReplayStatistics, Statistic, from_line, to_line
from edge_exray.replay.tally import Tally
from edge_exray.replay.worst_frames import WorstFrame

FORMAT_VERSION = 1
SUMMARY = "replay.json"
ALIGNMENT = "alignment.json"
STATISTICS = "layers"
PREDICTIONS = "predictions"
FRAMES = "frames"
WORST_FRAMES = "worst_frames"
INPUT_SAMPLES = "input_samples"
PARTS = (STATISTICS, PREDICTIONS, FRAMES, WORST_FRAMES, INPUT_SAMPLES)
"""Folders of a result that workers write."""

FRAME_ID, LABEL = "frame_id", "label"
ENVIRONMENT = "env"
"""Begins the features of a prediction that hold the answers of an environment: `env/<name>/<output>`."""

_PLACE, _DRIFT = "place", "drift"
_WORST_ROLES = ("reference", "app", "cloud", "edge")
_SAMPLE_ROLES = ("reference", "app", "source")


@dataclasses.dataclass(frozen=True)
class ReplayResult:
    """A replay that was stored in a directory.

    The directory holds `replay.json` (models, interface, failed frames, environment), `alignment.json` (pairs of layers
    with their evidence, constants with their references), `layers/` (one line of JSON for each statistic),
    `predictions/` (TFRecords of tf.Examples, which TFMA reads), `frames/` (drift of the outputs, one line a frame) and
    `worst_frames/` (TFRecords with all tensors of the worst ones) and `input_samples/` (TFRecords with the inputs of a
    few).
    """

    directory: pathlib.Path

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> "ReplayResult":
        """Opens a stored replay.

        Raises:
            ArtifactError: There is none, or it is of another format version.
        """
        result = cls(pathlib.Path(directory))
        found = result.summary.get("format_version")
        if found != FORMAT_VERSION:
            raise errors.ArtifactError(
                f"{directory} holds a replay of format {found}, this version reads {FORMAT_VERSION}: replay again"
            )
        return result

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The content of `replay.json`."""
        return _read_json(self.directory / SUMMARY)

    @functools.cached_property
    def alignment(self) -> Alignment:
        """How the layers are paired."""
        return Alignment.from_dict(_read_json(self.directory / ALIGNMENT))

    @functools.cached_property
    def statistics(self) -> ReplayStatistics:
        """All statistics, merged over the parts."""
        merged = ReplayStatistics()
        for line in _lines(self.directory / STATISTICS):
            key, statistic = from_line(line)
            merged.at(key).merge(statistic)
        return merged

    def statistic(self, leg: str, kind: str, item: str, part: str = "") -> Statistic | None:
        """Returns one statistic, or None when that leg did not see that item."""
        return self.statistics.by_key.get(Key(leg, part, kind, item))

    @functools.cached_property
    def slices(self) -> list[str]:
        """The slices of the replay, as `"feature:value"`."""
        return sorted({key.slice for key in self.statistics.by_key} - {ALL_FRAMES})

    @property
    def failures(self) -> FrameFailures:
        """The frames that failed, which are in nothing else."""
        return FrameFailures.from_dict(self.summary["frames"])

    def worst_frames(self) -> list[WorstFrame]:
        """Returns the frames on which the answers are furthest apart, worst first."""
        files = sorted(str(p) for p in (self.directory / WORST_FRAMES).glob("*.gz"))
        return sorted(map(_worst_frame, examples.read_tfrecords(files)), key=lambda frame: frame.rank)

    def input_samples(self) -> list[InputSample]:
        """Returns the frames that were kept with the inputs of both sides; none where the app prepares none itself."""
        files = sorted(str(p) for p in (self.directory / INPUT_SAMPLES).glob("*.gz"))
        return sorted(map(_input_sample, examples.read_tfrecords(files)), key=lambda sample: sample.rank)

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yields the line that `frame_line` made of each frame."""
        yield from map(json.loads, _lines(self.directory / FRAMES))

    def prediction_files(self) -> list[str]:
        """Returns the TFRecord files of the predictions."""
        return sorted(str(p) for p in (self.directory / PREDICTIONS).glob("*.gz"))

    def predictions(self) -> Iterator[examples.Example]:
        """Yields a prediction a frame: `frame_id`, `label` (when known), slice features, `cloud/<output>`,
        `edge/<output>` and `env/<environment>/<output>` as flat float32 arrays; `env/<environment>` says why an
        environment gave no answer."""
        yield from examples.read_tfrecords(self.prediction_files())


def summarize(
    models: Mapping[str, Any],
    outputs: Mapping[str, Any],
    input_ranges: Mapping[str, Any],
    legs: Mapping[str, str],
    failures: FrameFailures,
) -> dict[str, Any]:
    """Returns the content of `replay.json`.

    Args:
        models: What `describe_models` returns.
        outputs: Output name to its shape, with batch axis.
        input_ranges: Name of each quantised edge input to the smallest and largest value that it can represent.
        legs: Leg to a sentence that tells what was compared, or why not.
        failures: How many frames there were, and which of them failed.
    """
    return {
        "format_version": FORMAT_VERSION,
        "models": dict(models),
        "outputs": dict(outputs),
        "input_ranges": dict(input_ranges),
        "legs": dict(legs),
        "frames": failures.to_dict(),
        "environment": environment.describe(),
    }


def prediction_record(prediction: Prediction) -> bytes:
    """Returns the serialized tf.Example of a prediction, see `ReplayResult.predictions`."""
    import tensorflow as tf

    def floats(array: np.ndarray) -> Any:
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(array).astype(np.float32)))

    frame = prediction.frame
    features = {FRAME_ID: _bytes(frame.id.encode()), **{k: _bytes(v.encode()) for k, v in frame.slices.items()}}
    if frame.label is not None:
        features[LABEL] = _integer(frame.label)
    for side, outputs in (("cloud", prediction.cloud), ("edge", prediction.edge)):
        features.update({f"{side}/{name}": floats(value) for name, value in outputs.items()})
    for place, answer in prediction.environments.items():
        key = f"{ENVIRONMENT}/{place}"
        if isinstance(answer, str):
            features[key] = _bytes(answer.encode())
        else:
            features.update({f"{key}/{name}": floats(value) for name, value in answer.items()})
    return _serialized(features)


def worst_frame_record(frame: WorstFrame) -> bytes:
    """Returns the serialized tf.Example of a worst frame, which holds its tensors as TensorProtos."""
    # The drift is no float feature, which would cut it to 32 bits; sorting needs what the ranking saw.
    features = {**_identity(frame), _DRIFT: _bytes(repr(frame.drift).encode()), **_tensors(frame, _WORST_ROLES)}
    if frame.label is not None:
        features[LABEL] = _integer(frame.label)
    return _serialized(features)


def input_sample_record(sample: InputSample) -> bytes:
    """Returns the serialized tf.Example of an input sample, which holds its tensors as TensorProtos."""
    return _serialized({**_identity(sample), **_tensors(sample, _SAMPLE_ROLES)})


def _worst_frame(example: examples.Example) -> WorstFrame:
    return WorstFrame(
        **_read_identity(example),
        label=int(example[LABEL][0]) if LABEL in example else None,
        drift=float(example[_DRIFT][0]),
        **_read_tensors(example, _WORST_ROLES),
    )


def _input_sample(example: examples.Example) -> InputSample:
    return InputSample(**_read_identity(example), **_read_tensors(example, _SAMPLE_ROLES))


def _identity(frame: WorstFrame | InputSample) -> dict[str, Any]:
    return {FRAME_ID: _bytes(frame.id.encode()), _PLACE: _bytes(frame.place.encode())}


def _read_identity(example: examples.Example) -> dict[str, Any]:
    return {"id": example[FRAME_ID][0].decode(), "place": example[_PLACE][0].decode()}


def _tensors(frame: WorstFrame | InputSample, roles: Iterable[str]) -> dict[str, Any]:
    import tensorflow as tf

    return {
        f"{role}/{name}": _bytes(tf.make_tensor_proto(value).SerializeToString())
        for role in roles
        for name, value in getattr(frame, role).items()
    }


def _read_tensors(example: examples.Example, roles: Iterable[str]) -> dict[str, Any]:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    tensors: dict[str, dict[str, np.ndarray]] = {role: {} for role in roles}
    for key, value in example.items():
        role, _, name = key.partition("/")
        if role in tensors:
            tensors[role][name] = tf.make_ndarray(tensor_pb2.TensorProto.FromString(value[0]))
    return tensors


def _bytes(value: bytes) -> Any:
    import tensorflow as tf

    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integer(value: int) -> Any:
    import tensorflow as tf

    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _serialized(features: Mapping[str, Any]) -> bytes:
    import tensorflow as tf

    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def frame_line(prediction: Prediction) -> str:
    """Returns the line of JSON that `frames/` keeps: `id`, `label`, and `nrmse` and `rmse` of each output."""
    figures = {
        kind: {name: value if np.isfinite(value) else None for name, value in by_output.items()}
        for kind, by_output in (("nrmse", prediction.nrmse), ("rmse", prediction.rmse))
    }
    return json.dumps({"id": prediction.frame.id, "label": prediction.frame.label, **figures})


def write_head(directory: pathlib.Path, summary: Mapping[str, Any], alignment: Alignment) -> None:
    """Writes the parts of a result that exist once."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ALIGNMENT).write_text(json.dumps(alignment.to_dict()), "utf-8")
    (directory / SUMMARY).write_text(json.dumps(summary, indent=1), "utf-8")


def write(
    directory: str | os.PathLike[str],
    summarize: Callable[[], Mapping[str, Any]],
    alignment: Alignment,
    tally: Tally,
    predictions: Iterable[Prediction],
) -> ReplayResult:
    """Writes a whole result; the directory appears at once or not at all, replacing an earlier result.

    `predictions` may be a generator that fills `tally` while it is read; `summarize` is called after that.
    """
    import tensorflow as tf

    target = pathlib.Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        new = pathlib.Path(temporary) / "result"
        for part in PARTS:
            (new / part).mkdir(parents=True)
        records = tf.io.TFRecordWriter(str(new / PREDICTIONS / "part-00000.gz"), "GZIP")
        with records, gzip.open(new / FRAMES / "part-00000.jsonl.gz", "wt", encoding="utf-8") as lines:
            for prediction in predictions:
                records.write(prediction_record(prediction))
                lines.write(frame_line(prediction) + "\n")
        with gzip.open(new / STATISTICS / "part-00000.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(to_line(*item) + "\n" for item in tally.statistics.by_key.items())
        with tf.io.TFRecordWriter(str(new / WORST_FRAMES / "part-00000.gz"), "GZIP") as records:
            for frame in tally.worst:
                records.write(worst_frame_record(frame))
        with tf.io.TFRecordWriter(str(new / INPUT_SAMPLES / "part-00000.gz"), "GZIP") as records:
            for sample in tally.samples:
                records.write(input_sample_record(sample))
        write_head(new, summarize(), alignment)
        if target.exists():
            shutil.rmtree(target)
        os.replace(new, target)
    return ReplayResult.open(target)


def _lines(directory: pathlib.Path) -> Iterator[str]:
    for file in sorted(directory.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from lines


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as e:
        raise errors.ArtifactError(f"{path.parent} holds no complete replay ({path.name}: {e}): replay again") from e
