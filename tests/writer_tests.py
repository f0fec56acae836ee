"""What a writer of the edge log in another language has to do; test_cpp.py and test_java.py say how it is built."""

import hashlib
import json
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import log_script
import models_zoo
import numpy as np
import pytest
from log_script import OPS, PICTURE, ScriptedLog

from edge_exray.models.tflite import EdgeModel
from edge_exray.monitor import EdgeMonitor, read_log, records
from edge_exray.version import __version__

FRAMES = log_script.frames(24)
ABOUT = {
    "model": "0123456789abcdef" * 4,
    "contract": '{"inputs": {"image": {"channels": "RGB"}}, "task": "classification"}',
    "app": ("photo ☂", "1.2"),
    "kernels": "xnnpack",
    "threads": 3,
    "user": {"session": "Ä"},
}
SCENARIOS = {
    "outputs": {"level": "outputs"},
    "inputs": {"level": "inputs", **ABOUT},
    "layers": {"level": "layers"},
    "raw_hash": {"level": "layers", "raw": "hash"},
    "raw_none": {"level": "inputs", "raw": "none"},
    "rate": {"level": "inputs", "rate": 0.4, "seed": 2**64 - 5},
    "nothing": {"level": "inputs", "rate": 0.0},
    "every": {"level": "layers", "every": 5},
    "low_confidence": {"level": "inputs", "low_confidence": 0.4},
    "label_change": {"level": "layers", "label_change": True},
    "predicate": {"level": "outputs", "predicate": 0.3},
    "rules": {
        "level": "layers",
        "rate": 0.1,
        "every": 9,
        "low_confidence": 0.2,
        "label_change": True,
        "predicate": 0.05,
    },
}
# What differs from run to run, and where the languages name themselves.
_VOLATILE = {
    *("exray/writer", "exray/log_id", "exray/clock", "exray/runtime", "device/name", "device/os"),
    *("exray/time_ns", "exray/monotonic_ns", "exray/duration_ns"),
    *("exray/rss_bytes", "exray/peak_rss_bytes", "exray/battery_percent", "exray/temperature_c"),
    *("op/index", "op/name", "op/ns"),
}
_LIMIT_BYTES = 2**18


class Player:
    """Runs the program that plays scripts.

    Args:
        command: Of the program, without the script.
        folder: For the scripts.
    """

    def __init__(self, command: list[str], folder: pathlib.Path) -> None:
        self.command, self._folder = command, folder

    def start(self, *logs: tuple[pathlib.Path, ScriptedLog], **options: Any) -> subprocess.Popen:
        script = self._folder / f"{random.getrandbits(64):x}.script"
        log_script.write(logs, script)
        return subprocess.Popen([*self.command, str(script)], stdout=subprocess.PIPE, **options)

    def play(self, *logs: tuple[pathlib.Path, ScriptedLog], **options: Any) -> None:
        process = self.start(*logs, **options)
        process.communicate(timeout=120)
        assert process.returncode == 0


class WriterTests:
    """Wants a fixture `player` of the module."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory) -> pathlib.Path:
        return tmp_path_factory.mktemp("logs")

    @pytest.fixture(scope="class")
    def pairs(self, player, folder) -> Callable[[str], tuple[pathlib.Path, pathlib.Path]]:
        logs = {name: ScriptedLog({"policy": "block", **options}, FRAMES) for name, options in SCENARIOS.items()}
        for name, log in logs.items():
            log_script.play(log, folder / "python" / f"{name}.exray")
        player.play(*[(folder / "other" / f"{name}.exray", log) for name, log in logs.items()])
        return lambda name: (folder / "python" / f"{name}.exray", folder / "other" / f"{name}.exray")

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_every_field_is_that_of_python(self, pairs, scenario):
        expected, found = ([_comparable(r) for r in _records(path)] for path in pairs(scenario))
        assert len(found) == len(expected)
        for i, (one, other) in enumerate(zip(expected, found, strict=True)):
            assert other == one, f"record {i}"
            assert [k for k in other if k.startswith("layer/")] == [k for k in one if k.startswith("layer/")]

    def test_scenarios_choose_frames(self, pairs):
        chosen = {name: [(f.sequence, f.sampled_by) for f in read_log(pairs(name)[1])] for name in SCENARIOS}
        assert [s for s, _ in chosen["layers"]] == list(range(25))
        assert [s for s, _ in chosen["every"]] == [0, 5, 10, 15, 20, 21, 24]
        assert {r for _, r in chosen["rules"]} == {
            "rate",
            "every",
            "low_confidence",
            "label_change",
            "predicate",
            "app",
        }
        assert 0 < len(chosen["rate"]) < 24

    def test_values_are_those_of_the_app(self, pairs):
        frames = list(read_log(pairs("layers")[1]))
        for script, frame in zip(FRAMES, frames, strict=False):
            assert frame.id == (f"0/{script.id}" if script.id else str(frame.sequence))
            given = (script.raw, script.inputs, script.outputs)
            for values, tensors in zip(given, (frame.raw, frame.inputs, frame.outputs), strict=True):
                assert {name: t.value.tobytes() for name, t in tensors.items() if t.dtype != "string"} == {
                    name: value.tobytes() for name, value in values.items() if value.dtype != object
                }
            assert [(op.index, op.name, op.duration_ns) for op in frame.ops] == OPS
            assert len(frame.spans["postprocess"]) == 2
            starts = [s.start_ns for name in ("preprocess", "inference", "postprocess") for s in frame.spans[name]]
            assert [0, *starts] == sorted([0, *starts])
            ends = [s.start_ns + s.duration_ns for spans in frame.spans.values() for s in spans]
            assert max(ends) <= frame.duration_ns
            assert (frame.error is not None) == script.fails
            assert frame.device["peak_rss_bytes"] >= frame.device["rss_bytes"] > 2**20
        assert [f.monotonic_ns for f in frames] == sorted(f.monotonic_ns for f in frames)
        assert abs(frames[0].time_ns - time.time_ns()) < 600e9

    def test_tensorflow_reads_it(self, pairs):
        import tensorflow as tf

        path = pairs("layers")[1]
        examples = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
        assert [e.features.feature["exray/kind"].bytes_list.value[0] for e in examples] == [
            *(b"header", *[b"frame"] * 25, b"footer")
        ]
        for example, record in zip(examples, _records(path), strict=True):
            assert example.features.feature.keys() == record.features.keys()

    def test_header_names_the_version(self, pairs):
        (header,) = read_log(pairs("layers")[1]).headers()
        assert header.facts["exray/writer"].endswith(f"/{__version__}")

    def test_threads_lose_nothing_and_mix_nothing(self, player, tmp_path):
        frames = [f for f in FRAMES if f.id]
        player.play(
            (tmp_path / "run.exray", ScriptedLog({"level": "layers", "policy": "block"}, frames, app_threads=8))
        )
        by_id = {f"{thread}/{frame.id}": frame for thread in range(8) for frame in frames}
        log = read_log(tmp_path / "run.exray")
        found = [f for f in log if f.id != "open"]
        assert sorted(f.id for f in found) == sorted(by_id)
        assert sorted(f.sequence for f in found) == list(range(len(by_id)))
        for frame in found:
            for name, value in by_id[frame.id].layers.items():
                if value.dtype != object:
                    assert frame.layers[name_of(name)].value.tobytes() == value.tobytes()
        assert log.report
        assert not log.report.dropped

    def test_a_killed_app_loses_at_most_what_waits(self, player, tmp_path):
        frames = log_script.large_frames(3)
        options = {"level": "layers", "policy": "block", "queue_bytes": 1, "max_bytes": 0}
        waits = random.Random(log_script.SEED)
        for moment in range(4):
            path = tmp_path / f"{moment}.exray"
            process = player.start((path, ScriptedLog(options, frames, more={"forever": "1"})))
            for _ in range(10):
                written = process.stdout.readline()
            time.sleep(waits.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            rest = process.communicate()[0].split(b"\n")
            # The last line may be cut off.
            written = int(rest[-2] if len(rest) > 1 else written)
            log = read_log(path)
            found = [self._checked_sequence(frame, frames) for frame in log]
            assert found == list(range(len(found)))
            assert len(found) >= written
            assert log.report.unclosed == [str(path)]
            assert all(damage.is_torn_tail for damage in log.report.damages)

    @staticmethod
    def _checked_sequence(frame, frames) -> int:
        value = frames[frame.sequence % len(frames)].layers[PICTURE[0].name]
        np.testing.assert_array_equal(frame.layers[f"1/{PICTURE[0].name}"].value, value)
        return frame.sequence

    def test_rotation_keeps_the_newest_within_the_limit(self, player, tmp_path):
        frames = log_script.large_frames(3) * 6
        options = {"level": "layers", "policy": "block", "file_bytes": 2**21 + 2**18, "max_bytes": 2**23 - 2**18}
        path = tmp_path / "run.exray"
        player.play((path, ScriptedLog(options, frames)), (path, ScriptedLog(options, frames[:4])))
        sizes = [pathlib.Path(file).stat().st_size for file in read_log(path).files]
        assert sum(sizes) <= options["max_bytes"]
        assert max(sizes) <= options["file_bytes"] + 4096
        log = read_log(path)
        runs = {header.log_id: [] for header in log.headers()}
        for frame in log:
            runs[frame.header.log_id].append(frame.sequence)
        first, second = runs.values()
        assert first == list(range(19))[-len(first) :]
        assert second == list(range(5))
        assert log.report
        assert not log.report.unclosed
        counts = log.report.counts[next(iter(runs))]
        assert counts["written"] == 19
        # The second run has deleted some of the first one's files, which it does not count as frames of its own.
        assert counts["deleted_frames"] <= 19 - len(first)
        assert log.report.counts[list(runs)[1]]["deleted_files"] > 0
        assert log.report.counts[list(runs)[1]]["deleted_frames"] == 0
        numbers = [int(pathlib.Path(file).stem[4:]) for file in log.files]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))

    def test_a_frame_beyond_the_limit_costs_nothing_else(self, player, tmp_path):
        frames = [*FRAMES[:3], *log_script.large_frames(1), *FRAMES[:3]]
        options = {"level": "layers", "policy": "block", "queue_bytes": 1, "max_bytes": 2**19}
        player.play((tmp_path / "run.exray", ScriptedLog(options, frames)))
        log = read_log(tmp_path / "run.exray")
        assert [f.sequence for f in log] == [0, 1, 2, 4, 5, 6, 7]
        dropped = [f.dropped for f in log]
        # A frame is told what was lost when it ends, and one may wait while another is written.
        assert dropped == sorted(dropped)
        assert dropped[-2:] == [1, 1]
        (counts,) = log.report.counts.values()
        assert counts["dropped/too_large"] == 1

    def test_a_full_queue_drops_and_counts(self, player, tmp_path):
        frames = log_script.large_frames(2) * 6
        options = {"level": "layers", "policy": "drop", "queue_bytes": 1}
        player.play((tmp_path / "run.exray", ScriptedLog(options, frames, app_threads=2)))
        log = read_log(tmp_path / "run.exray")
        dropped = [f.dropped for f in log]
        (counts,) = log.report.counts.values()
        assert counts["sampled"] == counts["seen"] == 25
        assert counts["written"] == len(dropped) == 25 - counts.get("dropped/queue", 0)
        assert max(dropped) <= counts.get("dropped/queue", 0)

    def test_its_log_is_judged_as_that_of_python_is(self, player, conv_net, edge_models, folder):
        from edge_exray import ValidationSpec, validate
        from edge_exray.frames.functions import UserFunctions

        ours, other = folder / "app" / "python.exray", folder / "app" / "other.exray"
        _log_app(edge_models["int8"], ours)
        options = {
            "level": "layers",
            "policy": "block",
            "model": hashlib.sha256(pathlib.Path(edge_models["int8"]).read_bytes()).hexdigest(),
        }
        player.play((other, ScriptedLog(options, log_script.logged(ours), more={"open": "1"})))
        known, found = (
            validate(
                conv_net,
                edge_models["int8"],
                logs=[log],
                float_edge=edge_models["none"],
                signature="serving_dense",
                module=UserFunctions(
                    reference_inputs_fn=lambda e: {"image": e["input"].astype(np.float32) / 127.5 - 1}
                ),
                spec=ValidationSpec(min_frames=8),
            ).to_dict()
            for log in (ours, other)
        )
        assert found["verdict"] == "failed"
        assert "reversed channels (BGR instead of RGB)" in str(found["checks"])
        for document in (known, found):  # the one that names the device, which the languages know otherwise
            document["checks"] = [check for check in document["checks"] if check["name"] != "device_logs"]
        for part in ("verdict", "checks", "suspects", "accuracy", "legs", "preprocessing", "layers", "frames"):
            assert found[part] == known[part], part

    def test_frames_that_are_open_at_the_end_are_counted(self, player, tmp_path):
        log = ScriptedLog({"level": "outputs", "policy": "block"}, FRAMES[:2], more={"open": "1"})
        player.play((tmp_path / "run.exray", log))
        counts = next(iter(read_log(tmp_path / "run.exray").check().counts.values()))
        assert (counts["seen"], counts["sampled"], counts["written"], counts["dropped/closed"]) == (3, 3, 2, 1)

    def test_an_app_goes_on_where_no_log_can_be(self, player, tmp_path):
        (tmp_path / "file").write_text("in the way")
        options = {"level": "layers", "policy": "block"}
        player.play(
            (tmp_path / "file" / "run.exray", ScriptedLog(options, FRAMES)),
            (tmp_path / "off.exray", ScriptedLog({**options, "level": "off"}, FRAMES)),
            (tmp_path / "new" / "folder" / "run", ScriptedLog(options, FRAMES[:1])),
        )
        assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".script")) == ["file", "new"]
        assert [f.sequence for f in read_log(tmp_path / "new" / "folder" / "run")] == [0, 1]

    def test_a_file_that_may_not_grow_is_followed_by_another(self, player, tmp_path):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT_BYTES, _LIMIT_BYTES))

        log = ScriptedLog({"level": "layers", "policy": "block"}, FRAMES * 4)
        player.play((tmp_path / "run.exray", log), preexec_fn=limit, restore_signals=False)
        found = read_log(tmp_path / "run.exray")
        assert [f.sequence for f in found] == list(range(97))
        assert found.report
        assert len(found.files) > 1
        assert max(pathlib.Path(file).stat().st_size for file in found.files) <= _LIMIT_BYTES
        (counts,) = found.report.counts.values()
        # A footer may find room where a frame found none.
        assert counts.get("problems/io", 0) == len(found.report.unclosed)


def _log_app(edge: str, path: pathlib.Path) -> None:
    """Logs an app that feeds BGR."""
    model = EdgeModel(edge, preserve_tensors=True, signature="serving_dense")
    spec = model.inputs["image"]
    images, labels = models_zoo.make_frames(12, seed=2)
    with EdgeMonitor(path, level="layers", model=edge, strict=True, policy="block") as monitor:
        for i, image in enumerate(np.round((images + 1) * 127.5).astype(np.uint8)):
            with monitor.frame(raw=image, id=f"0/f{i}") as frame:
                frame.log(label=int(labels[i]))
                x = image[np.newaxis, ..., ::-1].astype(np.float32) / 127.5 - 1
                frame.run(model.interpreter, {"image": spec.quantization.quantize(x, spec.dtype)})


def name_of(layer: str) -> str:
    """The name of a layer in the log."""
    (spec,) = (s for s in log_script.LAYERS if s.name == layer)
    return f"{spec.index}/{layer}"


def compiler(name: str) -> str:
    """Returns the path of a compiler; skips what needs it where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def _records(path: pathlib.Path) -> list[records.Record]:
    found = list(records.read(str(path)))
    assert all(isinstance(r, records.Record) for r in found)
    return found


def _comparable(record: records.Record) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, values in record.features.items():
        listed = [bytes(v) for v in values] if isinstance(values, list) else (values.dtype.name, values.tolist())
        if key == "exray/sampling":
            found[key] = json.loads(listed[0])
        elif key == "exray/error":
            found[key] = listed[0].split(b": ")[1]
        elif key.startswith(("span_ns/", "span_start_ns/")):
            found[key] = len(values)
        elif key not in _VOLATILE:
            found[key] = listed
    return found
