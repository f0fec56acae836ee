import json
import math

import pytest
import report_factory as factory

from edge_exray.reporting.chrome_trace import render_trace


def document(ops):
    kernels = factory.kernels(layers=1)
    edge = kernels["models"][0]
    phone = {**edge, "role": "edge@phone", "device": {"name": "phone", "source": "x"}, "num_threads": None}
    times = [{**edge["ops"][0], "index": i, "op": f"OP_{i}", "ms": ms, "share": ms} for i, ms in enumerate(ops)]
    return {**kernels, "models": [{**edge, "ops": times}, {**phone, "ops": times}]}


def events(ops):
    trace = json.loads(render_trace(document(ops)))
    assert trace.keys() == {"traceEvents", "displayTimeUnit"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    return trace["traceEvents"]


def test_each_event_is_of_the_trace_event_format():
    for event in events([0.5, 0.25]):
        assert event["ph"] in ("M", "X")
        assert {type(event[key]) for key in ("pid", "tid")} == {int}
        assert isinstance(event["name"], str)
        assert isinstance(event["args"], dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
        else:
            assert all(math.isfinite(event[key]) and event[key] >= 0 for key in ("ts", "dur"))
            assert isinstance(event["cat"], str)


def test_a_track_for_each_model_with_its_ops_one_behind_the_other():
    found = events([0.5, 0.0, 0.75])
    names = {event["tid"]: event["args"]["name"] for event in found if event["name"] == "thread_name"}
    assert names == {1: "Edge", 2: "Edge on phone"}
    for track in names:
        whole, *ops = [event for event in found if event["ph"] == "X" and event["tid"] == track]
        assert (whole["name"], whole["ts"], whole["dur"]) == ("inference", 0, 1250)
        assert [(op["name"], op["ts"], op["dur"]) for op in ops] == [("OP_0", 0, 500), ("OP_2", 500, 750)]
        assert ops[1]["args"]["index"] == 2
        assert ops[1]["args"]["kernel"] == "xnnpack"


def test_no_rounding_lets_an_op_end_after_its_inference_or_the_start_of_the_next():
    found = [event for event in events([1.25 / 7, 1e-4, 0.0333, 1.25 / 7, 0.1 + 1e-9, 2 / 3]) if event["ph"] == "X"]
    whole, *ops = [event for event in found if event["tid"] == 1]
    # Viewers add in floats, and nest what overlaps by the last bit.
    ends = [op["ts"] + op["dur"] for op in ops]
    assert [op["ts"] for op in ops] == [0, *ends[:-1]]
    assert ends[-1] <= whole["ts"] + whole["dur"]
    assert ends[-1] == pytest.approx(1e3 * (2 * 1.25 / 7 + 1e-4 + 0.0333 + 0.1 + 2 / 3), rel=1e-5)
