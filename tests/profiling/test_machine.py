import os
import time

import pytest

from edge_exray.profiling import machine


def test_the_machine_is_described_as_the_system_tells_it():
    here = machine.describe()
    assert here["logical_cores"] == os.cpu_count()
    assert here["architecture"] == os.uname().machine
    assert here["affinity"] == len(os.sched_getaffinity(0))
    assert here["cpu"]
    assert here["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_machines_differ_by_what_latency_depends_on_and_not_by_their_load():
    here = machine.describe()
    assert machine.differences(here, {**here, "load_average": 99.0, "frequency_mhz": 1.0}) == []
    assert machine.differences(here, {**here, "cpu": "6502"}) == [f"cpu {here['cpu']} against 6502"]
    assert machine.differences(here, {**here, "logical_cores": 1000}) == [
        f"logical cores {here['logical_cores']} against 1000"
    ]


@pytest.mark.parametrize("unknown", [None, {}])
def test_an_unknown_machine_is_like_no_other(unknown):
    assert machine.differences(machine.describe(), unknown) == ["the machine is not known"]


def test_own_work_is_not_that_of_others():
    meter = machine.LoadMeter()
    own = {"user": 0.0}
    meter._now = lambda: (meter._start[0] + 5, meter._start[1] + 5, meter._start[2] + own["user"])
    assert meter.others_share() == pytest.approx(0.5)
    own["user"] = 4.0
    assert meter.others_share() == pytest.approx(0.1)


def test_no_tick_of_the_clock_tells_nothing():
    meter = machine.LoadMeter()
    meter._now = lambda: meter._start
    assert meter.others_share() is None
    del meter._now
    time.sleep(0.03)
    assert 0 <= (meter.others_share() or 0) <= 1
