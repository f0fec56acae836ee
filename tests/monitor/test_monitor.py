"""What becomes of the app, and of the log, when something goes wrong."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.monitor import EdgeMonitor, Sampling, read_log
from edge_exray.monitor.writer import Writer

WRITE_FOREVER = """
import sys
import numpy as np
from edge_exray.monitor import EdgeMonitor
monitor = EdgeMonitor(sys.argv[1], level="inputs", policy="block", queue_bytes=2**20)
for i in range(10**9):
    with monitor.frame() as frame:
        frame.run(lambda x: x.sum(), np.full(50_000, i, np.int32))
    print(monitor.counts["written"], flush=True)
"""


def double(x):
    return 2 * x


def run_frames(monitor, count, size=10):
    for i in range(count):
        with monitor.frame() as frame:
            assert frame.run(double, np.full(size, i))[0] == 2 * i


def final_counts(log):
    log.check()
    (counts,) = log.report.counts.values()
    return counts


def test_exceptions_of_the_app_pass_and_end_the_frame(tmp_path):
    class CrashError(Exception):
        pass

    def crash(_):
        raise CrashError("too dark")

    with EdgeMonitor(tmp_path / "run.exray", strict=True) as monitor:
        for use in (lambda f: f.stage("preprocess", crash, 1), lambda f: f.run(crash, 1), lambda f: crash(1)):
            with pytest.raises(CrashError, match="too dark"), monitor.frame(raw=np.arange(3)) as frame:
                use(frame)
    frames = list(read_log(tmp_path / "run.exray"))
    assert [frame.error for frame in frames] == ["CrashError: too dark"] * 3
    assert list(frames[0].spans) == ["preprocess"]


def test_what_cannot_be_logged_is_counted_and_the_app_goes_on(tmp_path, caplog):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs") as monitor:
        with monitor.frame(raw=object()) as frame:
            assert frame.run(double, 2) == 4
        with monitor.frame() as frame:
            frame.log(good=1, bad=object(), mixed=[1, "a"], huge=2**64)
            assert frame.run(double, 2) == 4
            assert frame.run(double, 3) == 6
    (read,) = read_log(tmp_path / "run.exray")
    assert read.user == {"good": 1}
    assert read.outputs["output"].value == 4
    counts = final_counts(read_log(tmp_path / "run.exray"))
    assert {k: v for k, v in counts.items() if v} == {
        "seen": 2,
        "sampled": 2,
        "written": 1,
        "dropped/encode": 1,
        "problems/user": 3,
        "problems/run": 1,
    }
    # The first of each kind.
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 3


def test_strict_raises(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", strict=True) as monitor:
        with pytest.raises(errors.MonitorError, match="object"), monitor.frame(raw=object()):
            pass
        with pytest.raises(errors.MonitorError, match="neither numbers nor texts"), monitor.frame() as frame:
            frame.log(bad={})
    with pytest.raises(errors.MonitorError, match="File exists"):
        EdgeMonitor(tmp_path / "run.exray" / "below", strict=True)


@pytest.mark.parametrize(
    "options",
    [
        {"level": "all"},
        {"sample": 2},
        {"sample": Sampling},
        {"policy": "wait"},
        {"raw": "jpeg"},
        {"codec": "gzip"},
    ],
)
def test_wrong_arguments_are_refused_at_once(options, tmp_path):
    with pytest.raises((errors.SpecError, TypeError)):
        EdgeMonitor(tmp_path / "run.exray", **options)
    assert list(tmp_path.iterdir()) == []


def test_closed_twice_and_used_afterwards(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", strict=True) as monitor:
        run_frames(monitor, 2)
        monitor.close()
    monitor.close()
    monitor.strict = False
    run_frames(monitor, 3)
    assert monitor.counts["dropped"] == {"closed": 3}
    assert final_counts(read_log(tmp_path / "run.exray"))["written"] == 2


def test_where_nothing_can_be_written_the_app_goes_on(tmp_path):
    (tmp_path / "file").touch()
    with EdgeMonitor(tmp_path / "file" / "run.exray") as monitor:
        run_frames(monitor, 5)
    assert monitor.counts["dropped"] == {"io": 5}
    assert monitor.counts["problems"] == {"io": 2}


def test_a_read_only_folder_that_becomes_writable(tmp_path):
    folder = tmp_path / "logs"
    folder.write_bytes(b"")  # a file in its place, because root may write to any folder
    with EdgeMonitor(folder / "run.exray", policy="block") as monitor:
        run_frames(monitor, 3)
        while sum(monitor.counts["dropped"].values()) < 3:
            time.sleep(0.001)
        folder.unlink()
        run_frames(monitor, 2)
    log = read_log(folder / "run.exray")
    assert [frame.sequence for frame in log] == [3, 4]
    assert [frame.dropped for frame in log] == [3, 3]
    assert final_counts(log)["dropped/io"] == 3


def test_files_that_may_not_grow_cost_the_frames_that_fit_none(tmp_path):
    limit = 200_000
    program = """
import resource, sys
import numpy as np
from edge_exray.monitor import EdgeMonitor
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with EdgeMonitor(sys.argv[1], level="inputs", policy="block") as monitor:
    for i in range(8):
        with monitor.frame() as frame:
            assert frame.run(lambda x: x.sum(), np.full(200_000 if i == 5 else 20_000, i, np.int16)) is not None
print(monitor.counts["written"], monitor.counts["dropped"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "run.exray", str(limit)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    # Each file takes four frames of 40 kB; one of 400 kB fits none.
    log = read_log(tmp_path / "run.exray")
    frames = list(log)
    assert log.report, log.report.damages
    assert done.stdout == "7 {'io': 1}\n"
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4, 6, 7]
    for frame in frames:
        assert (frame.inputs["input"].value == frame.sequence).all()
    assert final_counts(log)["dropped/io"] == 1
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 1
    assert max(sizes) <= limit


def test_a_full_disk_costs_the_frames_that_do_not_fit(tmp_path, monkeypatch):
    writev = os.writev

    def full(file, parts):
        if sum(map(len, parts)) > 50_000:
            raise OSError(errno.ENOSPC, "no space left")
        return writev(file, parts)

    monkeypatch.setattr(os, "writev", full)
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", policy="block") as monitor:
        for i in range(6):
            with monitor.frame() as frame:
                frame.run(double, np.full(60_000 if i == 2 else 100, i, np.uint8))
    log = read_log(tmp_path / "run.exray")
    assert [frame.sequence for frame in log] == [0, 1, 3, 4, 5]
    assert final_counts(log)["dropped/io"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_frame_that_is_open_when_the_log_is_closed_counts_as_lost(tmp_path):
    monitor = EdgeMonitor(tmp_path / "run.exray")
    run_frames(monitor, 2)
    with monitor.frame() as frame:
        frame.run(double, np.ones(3))
        monitor.close()
    counts = final_counts(read_log(tmp_path / "run.exray"))
    assert (counts["sampled"], counts["written"], counts["dropped/closed"]) == (3, 2, 1)
    assert (monitor.counts["sampled"], monitor.counts["dropped"]) == (3, {"closed": 1})


def test_a_log_that_is_closed_while_another_thread_hands_over_a_frame_has_it(tmp_path, monkeypatch):
    monitor = EdgeMonitor(tmp_path / "run.exray")
    real, reached = Writer.submit, threading.Event()

    def submit(writer, frame):
        reached.set()
        time.sleep(0.2)
        return real(writer, frame)

    monkeypatch.setattr(Writer, "submit", submit)
    app = threading.Thread(target=run_frames, args=(monitor, 1))
    app.start()
    reached.wait()
    monitor.close()
    app.join()
    counts = final_counts(read_log(tmp_path / "run.exray"))
    assert (counts["sampled"], counts["written"]) == (1, 1)


def test_of_a_tensor_that_is_given_twice_the_first_is_logged(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs") as monitor, monitor.frame() as frame:
        frame.inputs(np.ones(3))
        frame.inputs(np.zeros(3))
    [logged] = read_log(tmp_path / "run.exray")
    assert logged.inputs["input"].value.tolist() == [1, 1, 1]
    assert monitor.counts["problems"] == {"internal": 1}


def test_a_log_is_never_overwritten(write_log, tmp_path):
    for seed in range(3):
        write_log(2, seed=seed)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-00001.exray", "run-00002.exray", "run.exray"]
    log = read_log(tmp_path / "run.exray")
    assert [frame.sequence for frame in log] == [0, 1] * 3
    assert len({header.log_id for header in log.headers()}) == 3


def test_rotation_bounds_the_disk_and_counts_what_it_deletes(tmp_path):
    with EdgeMonitor(
        tmp_path / "run.exray", level="inputs", policy="block", max_bytes=60_000, file_bytes=15_000, strict=True
    ) as monitor:
        for i in range(50):
            with monitor.frame() as frame:
                frame.run(double, np.full(4000, i, np.uint8))
            assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 60_000
    log = read_log(tmp_path)
    frames = list(log)
    assert 4 < len(frames) < 10
    assert [frame.sequence for frame in frames] == list(range(50 - len(frames), 50))
    counts = final_counts(log)
    assert counts["written"] == 50
    assert counts["deleted_frames"] == 50 - len(frames)
    assert [header.part for header in log.headers()] == sorted(header.part for header in log.headers())


def test_a_frame_that_never_fits_is_dropped(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", max_bytes=20_000) as monitor:
        run_frames(monitor, 1, size=100)
        run_frames(monitor, 1, size=100_000)
        run_frames(monitor, 1, size=100)
    assert [frame.sequence for frame in read_log(tmp_path)] == [0, 2]
    assert monitor.counts["dropped"] == {"too_large": 1}


@pytest.fixture
def stuck(monkeypatch):
    """Disks take nothing until the event is set."""
    event = threading.Event()
    real = os.writev

    def writev(*args):
        event.wait(30)
        return real(*args)

    # The header goes through, the frames do not.
    calls = iter([False])
    monkeypatch.setattr(os, "writev", lambda *args: writev(*args) if next(calls, True) else real(*args))
    return event


def test_a_full_queue_drops_and_counts(tmp_path, stuck):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", queue_bytes=10_000) as monitor:
        run_frames(monitor, 20, size=100)  # 1,600 bytes each
        assert monitor.counts["dropped"] == {"queue": 14}
        stuck.set()
    log = read_log(tmp_path)
    assert [frame.sequence for frame in log] == list(range(6))
    assert final_counts(log)["dropped/queue"] == 14


def test_a_full_queue_blocks_and_loses_nothing(tmp_path, stuck):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", queue_bytes=10_000, policy="block") as monitor:
        threading.Timer(0.2, stuck.set).start()
        run_frames(monitor, 20, size=100)
    assert [frame.sequence for frame in read_log(tmp_path)] == list(range(20))


def test_eight_threads_share_a_monitor(tmp_path):
    def work(number):
        for i in range(40):
            with monitor.frame(id=f"{number}/{i}") as frame:
                frame.run(double, np.full(30_000, 100 * number + i))

    with EdgeMonitor(tmp_path / "run.exray", level="inputs", policy="block", strict=True) as monitor:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    frames = list(read_log(tmp_path))
    assert sorted(frame.sequence for frame in frames) == list(range(320))
    assert {frame.id for frame in frames} == {f"{n}/{i}" for n in range(8) for i in range(40)}
    for frame in frames:
        number, i = map(int, frame.id.split("/"))
        assert (frame.inputs["input"].value == 100 * number + i).all()
        assert (frame.outputs["output"].value == 2 * (100 * number + i)).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_app_loses_at_most_what_was_being_written(seed, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, tmp_path / "run.exray"], stdout=subprocess.PIPE)
    chooser = random.Random(seed)
    lines = [child.stdout.readline() for _ in range(chooser.randrange(2, 30))]
    time.sleep(chooser.random() * 0.01)
    child.send_signal(signal.SIGKILL)
    told = int([*lines, *child.communicate()[0].splitlines()][-1])
    log = read_log(tmp_path / "run.exray")
    frames = list(log)
    assert len(frames) >= told
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    for frame in frames:
        assert (frame.inputs["input"].value == frame.sequence).all()
    assert len(log.report.damages) <= 1
    assert all(damage.is_torn_tail for damage in log.report.damages)
    assert log.report.unclosed == [str(tmp_path / "run.exray")]


def test_an_app_that_does_not_close_loses_nothing(tmp_path):
    program = WRITE_FOREVER.replace("10**9", "7")
    subprocess.run([sys.executable, "-c", program, tmp_path / "run.exray"], check=True, stdout=subprocess.DEVNULL)
    log = read_log(tmp_path / "run.exray")
    assert len(list(log)) == 7
    assert log.report.unclosed == []


def test_a_child_of_a_fork_logs_nothing_and_ends(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", strict=True) as monitor:
        run_frames(monitor, 1)
        child = os.fork()
        if not child:
            status = 1
            try:
                run_frames(monitor, 1)
                monitor.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        run_frames(monitor, 1)
    log = read_log(tmp_path)
    assert [frame.sequence for frame in log] == [0, 1]
    assert log.report


def test_the_app_may_reuse_its_arrays(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", policy="block", strict=True) as monitor:
        buffer = np.zeros(100_000, np.uint8)
        for i in range(20):
            buffer[:] = i
            with monitor.frame(raw=buffer) as frame:
                frame.run(lambda x: np.add(x, 1, out=x), buffer)
                buffer[:] = 255
    for frame in read_log(tmp_path):
        assert (frame.raw["input"].value == frame.sequence).all()
        assert (frame.inputs["input"].value == frame.sequence).all()
        assert (frame.outputs["output"].value == frame.sequence + 1).all()


SCORES = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.55, 0.45]]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(every=2), {0: "every", 2: "every", 4: "every"}),
        (Sampling(low_confidence=0.7), {2: "low_confidence", 4: "low_confidence"}),
        (Sampling(label_change=True), {2: "label_change", 4: "label_change"}),
        (Sampling(predicate=lambda outputs: outputs["scores"][0] == 0.8), {1: "predicate"}),
        (Sampling(every=4, low_confidence=0.7), {0: "every", 2: "low_confidence", 4: "every"}),
        (Sampling(rate=0.0), {}),
        (1.0, dict.fromkeys(range(5), "rate")),
    ],
)
def test_sampling(sampling, expected, tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", sample=sampling, strict=True) as monitor:
        for i, scores in enumerate(SCORES):
            with monitor.frame(raw=np.array(i)) as frame:
                frame.run(lambda x: {"scores": np.array(x["x"])}, {"x": scores})
    log = read_log(tmp_path)
    assert {frame.sequence: frame.sampled_by for frame in log} == expected
    for frame in log:
        assert frame.raw["input"].value == frame.sequence
        assert frame.inputs["x"].value.tolist() == SCORES[frame.sequence]
    assert final_counts(log)["seen"] == 5


def test_a_predicate_that_raises_is_counted(tmp_path):
    sampling = Sampling(every=3, predicate=lambda outputs: 1 / 0)
    with EdgeMonitor(tmp_path / "run.exray", sample=sampling) as monitor:
        run_frames(monitor, 4)
    assert monitor.counts["problems"] == {"trigger": 2}
    assert [frame.sequence for frame in read_log(tmp_path)] == [0, 3]


def test_the_app_may_keep_a_frame(tmp_path):
    with EdgeMonitor(tmp_path / "run.exray", level="layers", sample=0.0, strict=True) as monitor:
        for i in range(3):
            with monitor.frame(raw=np.array(i)) as frame:
                if i == 1:
                    frame.keep()
                frame.inputs({"x": np.array(i)})
                frame.layers({"conv": np.array(i), "relu": np.array(-i)})
                frame.outputs(np.array(10 * i))
    (read,) = read_log(tmp_path)
    assert (read.sampled_by, read.raw["input"].value, read.inputs["x"].value, read.outputs["output"].value) == (
        "app",
        1,
        1,
        10,
    )
    assert list(read.layers) == ["0/conv", "1/relu"]


def test_memory_that_waits_is_bounded(tmp_path, stuck):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with EdgeMonitor(tmp_path / "run.exray", level="inputs", queue_bytes=2**22) as monitor:
        run_frames(monitor, 300, size=2**17)  # 1 MB each
        stuck.set()
    assert monitor.counts["dropped"]["queue"] > 290
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
