from edge_exray.profiling.comparison import compare
from edge_exray.profiling.model_profile import Latency, ModelProfile, OpTime


def profile(role, total, ops, device=None):
    return ModelProfile(
        role=role,
        path=f"{role}.tflite",
        bytes=1,
        kernels="builtin",
        num_threads=1,
        profiler="hook",
        latency_ms=Latency(total, total, total, total, 10),
        init_ms=1.0,
        memory_bytes=1,
        ops=[OpTime(index, op, f"out_{index}", "builtin", ms, ms, ms / total) for index, op, ms in ops],
        device=device and {"name": device, "source": "file"},
    )


EDGE = profile("edge", 8.0, [(0, "CONV_2D", 4.0), (1, "ADD", 1.0), (2, "CONV_2D", 3.0)])
PHONE = profile("edge@phone", 4.0, [(0, "CONV_2D", 1.0), (2, "CONV_2D", 2.5), (3, "DELEGATE", 0.5)], "phone")
FLOAT = profile("float_edge", 16.0, [(0, "CONV_2D", 16.0)])


def test_types_of_ops_and_ops_stand_side_by_side():
    found = compare([EDGE, PHONE, FLOAT])
    assert [(c["role"], c["device"], c["total_ms"], c["ratio"]) for c in found["columns"]] == [
        ("edge", None, 8.0, 1.0),
        ("edge@phone", "phone", 4.0, 0.5),
        ("float_edge", None, 16.0, 2.0),
    ]
    assert found["groups"] == [
        {"op": "CONV_2D", "ops": [2, 2, 1], "ms": [7.0, 3.5, 16.0], "ratio": [1.0, 0.5, 16 / 7]},
        {"op": "ADD", "ops": [1, 0, 0], "ms": [1.0, None, None], "ratio": [1.0, None, None]},
        {"op": "DELEGATE", "ops": [0, 1, 0], "ms": [None, 0.5, None], "ratio": [None, None, None]},
    ]
    # Another model's ops are others, whatever their numbers.
    assert found["ops"] == [
        {"index": 0, "op": "CONV_2D", "name": "out_0", "ms": [4.0, 1.0, None], "ratio": [1.0, 0.25, None]},
        {"index": 2, "op": "CONV_2D", "name": "out_2", "ms": [3.0, 2.5, None], "ratio": [1.0, 2.5 / 3, None]},
    ]


def test_one_model_has_nothing_to_compare():
    assert compare([EDGE]) is None
