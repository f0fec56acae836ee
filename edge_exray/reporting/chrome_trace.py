"""One inference of each model as a trace that Perfetto and chrome://tracing open.

The form is the Trace Event Format's: an object with `traceEvents`, of which `"M"` events name tracks and `"X"` events
are spans with start and duration in microseconds. Profiles have a time for each op and not when it began, so that the
ops stand one behind the other, as they run on one thread; gaps between them are part of the ops' scaled times.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edge_exray.reporting import formats

_PROCESS = 1
_TICKS = 1024
"""In a microsecond: about a nanosecond each, and a power of two, so that floats add start and duration exactly."""
_FIGURES = ("flops", "bytes", "gflops_per_s", "gb_per_s", "roofline_share", "interval_ms")


def render_trace(document: Mapping[str, Any]) -> str:
    """Returns a kernel profile as JSON of a trace: a track for each model, a span for each op that runs.

    Args:
        document: A document of `schemas/kernel_profile.schema.json`.
    """
    events = [_name("process_name", 0, "edge-exray: one inference of each model")]
    for track, model in enumerate(document["models"], 1):
        events += [_name("thread_name", track, formats.measured_on(model)), *_spans(model, track)]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _name(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": {"name": name}}


def _spans(model: Mapping[str, Any], track: int) -> Iterator[dict[str, Any]]:
    place = {"ph": "X", "pid": _PROCESS, "tid": track}
    # Whole ticks, so that no rounding lets an op end after the next one's start: viewers would nest them.
    ends, end = [], 0
    ops = [op for op in model["ops"] if op["ms"] > 0]
    for op in ops:
        end += round(op["ms"] * 1e3 * _TICKS)
        ends.append(end)
    whole = max(end, round(model["latency_ms"]["p50"] * 1e3 * _TICKS))
    facts = {"kernels": model["kernels"], "threads": model["num_threads"], "path": model["path"], **model["latency_ms"]}
    yield {**place, "name": "inference", "cat": "inference", "ts": 0, "dur": whole / _TICKS, "args": facts}
    for op, start, end in zip(ops, [0, *ends], ends, strict=False):
        args = {"index": op["index"], "output": op["name"], "kernel": op["kernel"], "share": op["share"]}
        args |= {name: op[name] for name in _FIGURES if op.get(name) is not None}
        yield {
            **place,
            "name": op["op"],
            "cat": op["kernel"],
            "ts": start / _TICKS,
            "dur": (end - start) / _TICKS,
            "args": args,
        }
