"""Writes what TensorFlow Lite's benchmark_model prints, as its sources format it, for tests that read it."""

import dataclasses

PREFIXES = {
    "none": "",
    "tflite": "INFO: ",
    "litert": "INFO: [./litert/tools/benchmark_litert_model.h:179] ",
    "threadtime": "05-31 10:31:13.023 21767 21767 I tflite  : ",
    "time": "07-08 15:33:56.256 I/tflite  ( 5395): ",
    "brief": "I/tflite  ( 5395): ",
    "studio": "2023-04-04 17:24:18.428 19036-19036 tflite                  pid-19036      I  ",
    "absl": "2018-09-10 12:36:26.109144: I tensorflow/core/util/stat_summarizer.cc:85] ",
}


@dataclasses.dataclass(frozen=True)
class Node:
    """A row: name as printed, for example `"[net/conv]:0"`, mean of a call in milliseconds, calls in a run."""

    type: str
    name: str
    ms: float
    calls: int = 1


def table(title: str, nodes: list[Node], *, csv: bool = False, start: bool = True) -> list[str]:
    """A table of ops, as StatsCalculator::GetStatsByMetric writes it."""
    total = sum(node.ms * node.calls for node in nodes) or 1.0
    columns = ["start", "first", "avg ms", "%", "cdf%", "mem KB", "times called"]
    widths = [17, 9, 9, 8, 8, 10, 9]
    first = 0 if start else 1
    lines = [f"{'=' * 30} {title} {'=' * 30}"]
    if csv:
        lines.append(", ".join(["node type", *columns[first:], "name"]).replace("avg ms", "avg_ms"))
    else:
        heads = zip((f"[{column}]" for column in columns), widths, strict=True)
        lines.append(f"\t{'[node type]':>24}" + "".join(f"\t{h:>{w}}" for h, w in list(heads)[first:]) + "\t[Name]")
    at = share = 0.0
    for node in nodes:
        part = 100 * node.ms * node.calls / total
        share += part
        if csv:
            figures = [f"{at:g}", f"{node.ms:g}", f"{node.ms:g}", f"{part:g}%", f"{share:g}%", "0", f"{node.calls}"]
            lines.append(", ".join([node.type, *figures[first:], node.name.replace(",", "\t")]))
        else:
            figures = [f"{at:.3f}", f"{node.ms:.3f}", f"{node.ms:.3f}", f"{part:.3f}%", f"{share:.3f}%", "0.000"]
            cells = zip([*figures, f"{node.calls}"], widths, strict=True)
            lines.append(
                f"\t{node.type:>24}" + "".join(f"\t{c:>{w}}" for c, w in list(cells)[first:]) + f"\t{node.name}"
            )
        at += node.ms
    return [*lines, ""]


def profile(nodes: list[Node], runs: int = 50, **form: bool) -> list[str]:
    """All tables of a summarizer and its totals."""
    total = sum(node.ms * node.calls for node in nodes) * 1e3
    kinds = {node.type: sum(n.ms for n in nodes if n.type == node.type) for node in nodes}
    separator = ", " if form.get("csv") else "\t"
    return [
        *table("Run Order", nodes, **form),
        *table("Top by Computation Time", sorted(nodes, key=lambda node: -node.ms), **form),
        f"Number of nodes executed: {len(nodes)}",
        f"{'=' * 30} Summary by node type {'=' * 30}",
        "node type, count, avg_ms, avg %, cdf %, mem KB, times called"
        if form.get("csv")
        else "\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]",
        *(separator.join([kind, "1", f"{ms:.3f}", "50%", "50%", "0.000", "1"]) for kind, ms in kinds.items()),
        "",
        f"Timings (microseconds): count={runs} first={total:.0f} curr={total:.0f} min={max(total - 10, 0):.0f} "
        f"max={total + 10:.0f} avg={total:.6g} std=5",
        "Memory (bytes): count=0",
        f"{len(nodes)} nodes observed",
        "",
    ]


RUNS = "Operator-wise Profiling Info for Regular Benchmark Runs:"
START = "Profiling Info for Benchmark Initialization:"
START_NODES = [
    Node("ModifyGraphWithDelegate", "ModifyGraphWithDelegate/0", 14.8),
    Node("AllocateTensors", "AllocateTensors/0", 0.1, 2),
]


def log(
    statistics: str = "count=50 first=28154 curr=23809 min=23077 max=30727 avg=25043.2 std=1562",
    size_mb: str | None = None,
) -> list[str]:
    """What the tool prints before the tables; old versions do not tell the size of the model's file."""
    return [
        "STARTING!",
        "Log parameter values verbosely: [0]",
        "Num threads: [4]",
        "Graph: [/data/local/tmp/net.tflite]",
        "Enable op profiling: [1]",
        "#threads used for CPU inference: [4]",
        "Loaded model /data/local/tmp/net.tflite",
        *([f"The input model file size (MB): {size_mb}"] if size_mb else []),
        "Initialized session in 18.777ms.",
        "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.",
        "count=9 first=64791 curr=56295 min=54873 max=65831 avg=57758.2 std=4065",
        "",
        "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.",
        statistics,
        "",
        "Inference timings in us: Init: 18777, First inference: 64791, Warmup (avg): 57758.2, Inference (avg): 25043.2",
        "Memory footprint delta from the start of the tool (MB): init=8.97656 overall=18.75",
    ]


def output(nodes: list[Node], *, start: bool = True, prefix: str = "none", **keywords: str) -> str:
    """All that the tool prints."""
    lines = [*log(**keywords), START, *profile(START_NODES, 1, start=start), RUNS, *profile(nodes, start=start)]
    return "\n".join(PREFIXES[prefix] + line for line in lines) + "\n"


def csv(nodes: list[Node], *, start: bool = True) -> str:
    """The file of --profiling_output_csv_file."""
    lines = [START, *profile(START_NODES, 1, csv=True, start=start), RUNS, *profile(nodes, csv=True, start=start)]
    return "\n".join(lines) + "\n"
