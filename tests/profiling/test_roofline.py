import pytest

from edge_exray.profiling.arithmetic import Work
from edge_exray.profiling.roofline import Bandwidth, Roofline, measure_roofline

GIGA = 10**9
# 100 GFLOP/s, a cache of some megabytes with 80 GB/s, memory with 20 GB/s.
CEILINGS = Roofline(1, 100.0, 200.0, 20.0, (Bandwidth(10**6, 80.0), Bandwidth(10**8, 20.0)))


@pytest.mark.parametrize(
    ("work", "in_integers", "inference_bytes", "ms"),
    [
        (Work(GIGA, 1000), False, 1000, 10.0),
        (Work(GIGA, 1000), True, 1000, 5.0),
        (Work(0, 10**6), False, 10**6, 1000 * 10**6 / 80e9),
        (Work(0, 10**9), False, 10**9, 1000 * 10**9 / 20e9),
        # Between the sizes, halfway in the logarithm.
        (Work(0, 10**7), False, 10**7, 1000 * 10**7 / 50e9),
        # Half of it are weights, which come from memory.
        (Work(0, 10**6, 500_000), False, 10**9, 1000 * (500_000 / 80e9 + 500_000 / 20e9)),
    ],
)
def test_the_lower_ceiling_bounds(work, in_integers, inference_bytes, ms):
    assert CEILINGS.bound_ms(work, in_integers, inference_bytes) == pytest.approx(ms)


@pytest.mark.parametrize("work", [Work(None, None), Work(5, None), Work(0, 0)])
def test_without_work_there_is_no_bound(work):
    assert CEILINGS.bound_ms(work, False, 1) is None


def test_the_machine_is_measured_once():
    measured = measure_roofline(1)
    assert measure_roofline(1) is measured
    assert measured.gb_per_s == measured.bandwidths[-1].gb_per_s
    sizes = [each.bytes for each in measured.bandwidths]
    assert sizes == sorted(set(sizes))
    # No processor that runs Python is below these.
    assert min(measured.gflops_float32, measured.gflops_int8, measured.gb_per_s) > 0.05
