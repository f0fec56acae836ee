"""Reads what TensorFlow Lite's `benchmark_model --enable_op_profiling=true` prints, on any machine.

The forms are those of `tensorflow/core/util/stats_calculator.cc` (the tables), `lite/profiling/profile_summarizer.cc`
(what stands in them) and `lite/tools/benchmark/benchmark_model.cc` (everything around them), as text and as CSV
(`--profiling_output_csv_file`), from TensorFlow 1.14 to LiteRT 2.3, whose profiler and command `litert-benchmark` print
their likes. Columns came and went over the years, so that each table is read by its own head. A log of Android's
`logcat` or of absl has a prefix before each line, which is dropped.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from edge_exray import errors

_MEBIBYTE = 1 << 20
_NUMBER = r"-?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)"

_PREFIX = re.compile(
    r"""^\s*(?:
        \d{4}-\d\d-\d\d\ [\d:.]+:?\s+(?:[IWE]\ \S+\]|\d+-\d+\s+\S+\s+\S+\s+[VDIWE]|INFO\ \w+:) # absl, Android Studio
        | \d\d-\d\d\ [\d:.]+\s+(?:\d+\s+\d+\s+[VDIWE]\s+[^\s:]+\s*:|[VDIWE]/[^(]*\(\s*\d+\):)  # threadtime, time
        | [VDIWE]/[^(\s]*\s*\(\s*\d+\):                                                         # brief
        | (?:INFO|VERBOSE|WARNING):(?:\ \[[^\]]*:\d+\])?
    )[ ]*""",
    re.VERBOSE,
)
_SECTION = re.compile(
    r"(?P<start>Profiling Info for Benchmark Initialization:)|Operator-wise Profiling Info for Regular Benchmark Runs:"
    r"|Primary graph\b.*\bprofile:|Subgraph \(index: (?P<subgraph>\d+).*\) profile:|(?P<inside>Delegate internal:)"
)
_TITLE = re.compile(r"={5,}\s*(\w.*?)\s*={5,}$")
_HEAD = re.compile(r"\[node type\].*\[name\]$|node type,.*,\s*name$", re.IGNORECASE)
_NAME = re.compile(r"(?:\[(?P<outputs>.*)\]|Delegate/(?P<inner>.*?))(?::(?P<node>\d+))?$")
_STATISTICS = r"count=(?P<count>\d+)\b(?P<figures>.*)$"
# LiteRT's own summary names the kind of a node where others name its outputs, and counts the calls of all runs.
_KINDS = {"Builtin", "Custom", "Delegate"}
_MAIN = ""
_RUNTIME = "rows of the runtime itself"


@dataclasses.dataclass(frozen=True)
class Row:
    """One op of a table.

    Attributes:
        line: Number of the line, from 1.
        type: Op name such as `"CONV_2D"`, a delegate such as `"TfLiteGpuDelegateV2"`, or an op of a delegate such as
            `"Convolution (NHWC, F32) IGEMM"`.
        outputs: Names of its output tensors; empty where the table does not tell.
        node: The runtime's number for the node, in a row of a delegate's op the delegate's own; None where not told.
        in_delegate: It is one of several ops that a delegate runs and reports one by one.
        ms: Mean time in an inference.
        calls: Calls in an inference.
    """

    line: int
    type: str
    outputs: tuple[str, ...]
    node: int | None
    in_delegate: bool
    ms: float
    calls: int


@dataclasses.dataclass(frozen=True)
class BenchmarkOutput:
    """What a run of the tool told; None for what it did not tell.

    Attributes:
        rows: Ops of the main graph in the order they ran.
        skipped: What else the tables hold, as description to number of rows.
        latency_ms: Figures of an inference in milliseconds: `"avg"`, and where told `"std"`, `"min"`, `"max"`, `"p5"`,
            `"median"` and `"p95"`.
        whole: Whether these are of whole inferences; otherwise they are of the sum of the ops.
        runs: How many inferences.
        init_ms, memory_bytes, peak_memory_bytes: Start of the tool's session, and growth of its process.
        size_mb: Size of the model's file in millions of bytes, to six digits.
        num_threads: Threads.
        graph: Path of the model on the device.
        delegate: Name of the delegate that the log says was made.
    """

    rows: tuple[Row, ...]
    skipped: Mapping[str, int]
    latency_ms: Mapping[str, float]
    whole: bool
    runs: int
    init_ms: float | None
    memory_bytes: int | None
    peak_memory_bytes: int | None
    size_mb: float | None
    num_threads: int | None
    graph: str | None
    delegate: str | None


def parse(text: str, source: str) -> BenchmarkOutput:
    """Reads the output of one run; what the tool printed and its CSV may stand in one file.

    Args:
        text: The output.
        source: Name of the file, for messages.

    Raises:
        ArtifactError: There is neither a table of ops nor the time of an inference, a row is damaged, or there is a
            second run in it.
    """
    lines = [_PREFIX.sub("", line.rstrip()) for line in text.splitlines()]
    tables = _Tables(source)
    for number, line in enumerate(lines, 1):
        tables.take(number, line)
    rows = tables.rows()
    log = _Log(lines)
    whole = log.inferences()
    if not rows and not whole:
        raise errors.ArtifactError(
            f"{source} has neither ops nor the time of an inference: give what "
            "`benchmark_model --enable_op_profiling=true` prints, or its --profiling_output_csv_file"
        )
    figures, runs = whole or (tables.totals or {"avg": sum(row.ms for row in rows)}, tables.runs)
    memory = r"footprint(?: delta from the start of the tool)? \(MB\): .*overall=(N)|^Overall footprint:\s+(N) MB"
    return BenchmarkOutput(
        rows=rows,
        skipped=tables.skipped,
        latency_ms=figures,
        whole=whole is not None,
        runs=max(runs, 1),
        init_ms=log.number(r"^Initialized session in (N)\s*ms|^Model initialization:\s+(N) ms"),
        memory_bytes=log.bytes(memory),
        peak_memory_bytes=log.bytes(r"footprint \(MB\) via periodic monitoring: (N)|^Peak memory:\s+(N) MB"),
        size_mb=log.number(r"input model file size \(MB\): (N)"),
        num_threads=log.threads(),
        graph=log.text(r"^Graph: \[(.+)\]$|^Loaded model (\S.*)$"),
        delegate=log.text(r"with delegate \((\w+)\)|Created TensorFlow Lite (?:delegate for )?(\w+)"),
    )


class _Tables:
    """Takes the tables of ops in the order they ran, line by line; the other tables repeat what these hold."""

    def __init__(self, source: str) -> None:
        self.runs = 0
        self.totals: dict[str, float] = {}
        self.skipped: dict[str, int] = {}
        self._source = source
        self._rows: list[Row] = []
        self._section = self._title = _MAIN
        self._begun = self._counts_all_runs = False
        self._pattern: re.Pattern[str] | None = None

    def take(self, number: int, line: str) -> None:
        if section := _SECTION.search(line):
            self._section = _described(section)
            self._title, self._pattern = "", None
        elif title := _TITLE.search(line):
            self._title, self._pattern = title[1], None
        elif head := _HEAD.search(line):
            self._begin(number, head[0])
        elif not line.strip():
            self._pattern = None
        elif self._pattern:
            self._add(number, line)
        elif self._section == _MAIN and (executed := re.match(r"Number of nodes executed: (\d+)$", line)):
            self._check(number, int(executed[1]))
        elif self._section == _MAIN and (totals := re.match(rf"Timings \(microseconds\): {_STATISTICS}", line)):
            self.runs, self.totals = int(totals["count"]), _milliseconds(totals["figures"])

    def rows(self) -> tuple[Row, ...]:
        if not self._counts_all_runs:
            return tuple(self._rows)
        # An op that stands in no loop has one call in each run.
        self.totals = {}
        self.runs = min((row.calls for row in self._rows if row.calls), default=1)
        return tuple(
            dataclasses.replace(row, ms=row.ms / self.runs, calls=row.calls // self.runs) for row in self._rows
        )

    def _check(self, number: int, executed: int) -> None:
        told = len(self._rows) + self.skipped.get(_RUNTIME, 0)
        if told != executed:
            raise errors.ArtifactError(
                f"{self._source}, line {number}: {executed} nodes were executed, but the table has {told}: lines are "
                "missing, make the file anew"
            )

    def _begin(self, number: int, head: str) -> None:
        self._pattern = None
        if self._title not in ("", "Run Order"):
            return
        if self._section == _MAIN and self._begun:
            raise errors.ArtifactError(
                f"{self._source}, line {number}: the ops of a second run begin here; give a file for each run"
            )
        self._begun = self._begun or self._section == _MAIN
        self._pattern = _row_pattern(head)

    def _add(self, number: int, line: str) -> None:
        match = self._pattern and self._pattern.match(line)
        if not match or not math.isfinite(float(match["avg_ms"])):
            raise errors.ArtifactError(
                f"{self._source}, line {number}: {line.strip()[:80]!r} is no row of the table above it: the file is "
                "damaged or cut off, make it anew"
            )
        # The CSV has tabs for the commas of a name.
        name = _NAME.match(match["name"].replace("\t", ","))
        if self._section != _MAIN or not name:
            what = self._section or _RUNTIME
            self.skipped[what] = self.skipped.get(what, 0) + 1
            return
        kind = name["outputs"] if name["outputs"] in _KINDS else None
        self._counts_all_runs |= kind is not None
        # Of old versions without the column, and where it is rounded down to 0, ops have one call.
        calls = max(int(match.groupdict().get("times_called") or 1), 1)
        self._rows.append(
            Row(
                line=number,
                type=match["type"].removeprefix("Delegate/"),
                outputs=tuple(name["outputs"].split(", ")) if name["outputs"] and not kind else (),
                node=None if name["node"] is None else int(name["node"]),
                in_delegate=name["inner"] is not None or kind == "Delegate",
                ms=float(match["avg_ms"]) * calls,
                calls=calls,
            )
        )


class _Log:
    """The lines around the tables."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def text(self, pattern: str) -> str | None:
        """Returns the first group that matches, of the first line that has one; N stands for a number."""
        compiled = re.compile(pattern.replace("(N)", f"({_NUMBER})"))
        found = next((match for line in self._lines if (match := compiled.search(line))), None)
        return next(group for group in found.groups() if group) if found else None

    def number(self, pattern: str) -> float | None:
        text = self.text(pattern)
        return None if text is None else float(text)

    def bytes(self, pattern: str) -> int | None:
        mebibytes = self.number(pattern)
        return None if mebibytes is None else round(mebibytes * _MEBIBYTE)

    def threads(self) -> int | None:
        # -1 leaves the number to the runtime.
        text = self.text(r"#threads used for CPU inference: \[([1-9]\d*)\]|^Num threads: \[([1-9]\d*)\]")
        return None if text is None else int(text)

    def inferences(self) -> tuple[dict[str, float], int] | None:
        """Returns figures of whole inferences in milliseconds, and of how many; None when they are not told."""
        statistics = [match for line in self._lines if (match := re.match(rf"\s*{_STATISTICS}", line))]
        # Those of the warm-up come before those of the runs.
        if statistics and int(statistics[-1]["count"]):
            return _milliseconds(statistics[-1]["figures"]), int(statistics[-1]["count"])
        mean_us = self.number(r"nference timings in us: .*(?:Inference \(avg\)|no stats): (N)")
        if mean_us is not None:
            return {"avg": mean_us / 1e3}, 1
        # As `litert-benchmark` prints it.
        reported = [re.search(rf"^Inference \((\w+)\):\s+({_NUMBER})", line) for line in self._lines]
        told = {match[1]: float(match[2]) for match in reported if match}
        return (told, int(self.number(r"^Inference \(avg\): .*\((N) runs\)") or 1)) if "avg" in told else None


def _milliseconds(figures: str) -> dict[str, float]:
    told = {name: float(us) / 1e3 for name, us in re.findall(rf"(\w+)=({_NUMBER})", figures)}
    # One run, or runs that all took as long, have one figure.
    return {"avg": told["curr"], "min": told["curr"], "max": told["curr"]} | told if "curr" in told else told


def _described(section: re.Match[str]) -> str:
    if section["start"]:
        return "rows of the start"
    if section["inside"]:
        return "rows inside of delegates"
    return "rows inside of loops and branches" if int(section["subgraph"] or 0) else _MAIN


def _row_pattern(head: str) -> re.Pattern[str]:
    """Returns what a row looks like: only its first and its last column may hold blanks, commas and numbers."""
    is_csv = "[" not in head
    columns = head.lower().split(",") if is_csv else re.findall(r"\[([^\]]+)\]", head.lower())
    separator = r"\s*,\s*" if is_csv else r"\s+"
    fields = []
    for column in (column.strip() for column in columns):
        name = re.sub(r"\W+", "_", column).strip("_")
        if column == "node type":
            fields.append(r"\s*(?P<type>\S.*?)")
        elif column == "name":
            fields.append(r"(?P<name>\S.*)$")
        else:
            number = f"{_NUMBER}%" if column.endswith("%") else _NUMBER
            fields.append(f"(?P<{name}>{number})" if name in ("avg_ms", "times_called") else number)
    return re.compile(separator.join(fields))
