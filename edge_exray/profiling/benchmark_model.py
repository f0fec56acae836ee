"""Reads what TensorFlow Lite's `benchmark_model --enable_op_profiling=true` prints, on any machine.

The forms are those of `tensorflow/core/util/stats_calculator.cc` (the tables), `lite/profiling/profile_summarizer.cc`
(what stands in them) and `lite/tools/benchmark/benchmark_model.cc` (everything around them), as text and as CSV
(`--profiling_output_csv_file`), from TensorFlow 1.14 to LiteRT 2.3, whose profiler and command `litert-benchmark` print
their likes. Columns came and went over the years, so that each table is read by its own head. A log of Android's
`logcat` or of absl has a prefix before each line, which is dropped.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence

from edge_exray import errors

_MEBIBYTE = 1 << 20
# A mean is printed to six digits, the smallest and the largest in full.
_ROUNDING = 1e-5
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
        ArtifactError: There is neither a table of ops nor the time of an inference, a row is damaged, a figure cannot
            be true, the benchmark itself is missing behind its warm-up, or there is a second run in it.
    """
    lines = [_PREFIX.sub("", line.rstrip()) for line in text.splitlines()]
    tables = _Tables(source)
    for number, line in enumerate(lines, 1):
        tables.take(number, line)
    rows = tables.rows()
    log = _Log(lines, source)
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
        self._begun = self._counts_all_runs = self._is_open = False
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
            self._is_open = False
        elif self._section == _MAIN and (totals := re.match(rf"Timings \(microseconds\): {_STATISTICS}", line)):
            self.runs = int(totals["count"])
            self.totals = _milliseconds(totals["figures"], self._source, number) if self.runs else {}

    def rows(self) -> tuple[Row, ...]:
        if self._is_open:
            raise errors.ArtifactError(
                f"{self._source} ends before it tells how many nodes were executed: it is cut off, make it anew"
            )
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
        # A text counts its rows behind the tables, a CSV does not.
        self._is_open |= self._section == _MAIN and self._title == "Run Order"
        self._pattern = _row_pattern(head)

    def _add(self, number: int, line: str) -> None:
        match = self._pattern and self._pattern.match(line)
        if not match:
            raise errors.ArtifactError(
                f"{self._source}, line {number}: {line.strip()[:80]!r} is no row of the table above it: the file is "
                "damaged or cut off, make it anew"
            )
        ms = _told(match["avg_ms"], self._source, number)
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
                ms=ms * calls,
                calls=calls,
            )
        )


class _Log:
    """The lines around the tables."""

    def __init__(self, lines: Sequence[str], source: str) -> None:
        self._lines = lines
        self._source = source

    def text(self, pattern: str) -> str | None:
        """Returns the first group that matches, of the first line that has one."""
        found = self._matches(pattern)
        return next(group for group in found[0][1].groups() if group) if found else None

    def number(self, pattern: str) -> float | None:
        """Returns the same as a number; N in the pattern stands for one."""
        found = self._matches(pattern.replace("(N)", f"({_NUMBER})"))
        return _told(next(filter(None, found[0][1].groups())), self._source, found[0][0]) if found else None

    def bytes(self, pattern: str) -> int | None:
        mebibytes = self.number(pattern)
        return None if mebibytes is None else round(mebibytes * _MEBIBYTE)

    def threads(self) -> int | None:
        # -1 leaves the number to the runtime.
        text = self.text(r"#threads used for CPU inference: \[([1-9]\d*)\]|^Num threads: \[([1-9]\d*)\]")
        return None if text is None else int(text)

    def inferences(self) -> tuple[dict[str, float], int] | None:
        """Returns figures of whole inferences in milliseconds, and of how many; None when they are not told."""
        begins = [number for number, _ in self._matches(r"^Running benchmark for \S")]
        statistics = self._matches(rf"^\s*{_STATISTICS}")
        # The warm-up is announced and told like the runs, and before them.
        told = [
            (number, match) for number, match in statistics if int(match["count"]) and number > max(begins, default=0)
        ]
        is_summed_up = bool(self._matches("nference timings in us: "))
        if begins and not is_summed_up and (len(begins) == 1 or not told):
            raise errors.ArtifactError(
                f"{self._source}: the output breaks off before the benchmark: only its warm-up is there; run it again "
                "and keep all that it prints"
            )
        if told:
            number, match = told[-1]
            return _milliseconds(match["figures"], self._source, number), int(match["count"])
        mean_us = self.number(r"nference timings in us: .*(?:Inference \(avg\)|no stats): (N)")
        if mean_us is not None:
            return {"avg": mean_us / 1e3}, 1
        # As `litert-benchmark` prints it.
        reported = self._matches(rf"^Inference \((\w+)\):\s+({_NUMBER})")
        figures = {match[1]: _told(match[2], self._source, number) for number, match in reported}
        if "avg" not in figures:
            return None
        _check_order(figures, self._source, reported[-1][0])
        return figures, int(self.number(r"^Inference \(avg\): .*\((N) runs\)") or 1)

    def _matches(self, pattern: str) -> list[tuple[int, re.Match[str]]]:
        """Returns the lines that match, by their numbers from 1."""
        compiled = re.compile(pattern)
        return [(i, match) for i, line in enumerate(self._lines, 1) if (match := compiled.search(line))]


def _milliseconds(statistics: str, source: str, number: int) -> dict[str, float]:
    figures = {name: _told(us, source, number) / 1e3 for name, us in re.findall(rf"(\w+)=({_NUMBER})", statistics)}
    # One run, or runs that all took as long, have one figure.
    if figures.keys() == {"curr"}:
        figures |= dict.fromkeys(("avg", "min", "max"), figures["curr"])
    if "avg" not in figures:
        raise errors.ArtifactError(
            f"{source}, line {number}: the figures break off before the mean: make the file anew"
        )
    _check_order(figures, source, number)
    return figures


def _told(text: str, source: str, number: int) -> float:
    """Reads a time or a size."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise errors.ArtifactError(
            f"{source}, line {number}: {text} is neither a time nor a size: the file is damaged, make it anew"
        )
    return value


def _check_order(figures: Mapping[str, float], source: str, number: int) -> None:
    """Refuses figures that no runs have."""
    for names in (("min", "avg", "max"), ("min", "p5", "median", "p95", "max")):
        told = [name for name in names if name in figures]
        for low, high in itertools.pairwise(told):
            if figures[low] > figures[high] * (1 + _ROUNDING):
                raise errors.ArtifactError(
                    f"{source}, line {number}: {low}, {figures[low]:.6g} ms, is above {high}, {figures[high]:.6g} ms: "
                    "the file is damaged, make it anew"
                )


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
            # Calls are counted; everything else may be any number.
            fields.append(
                {"avg_ms": f"(?P<avg_ms>{number})", "times_called": r"(?P<times_called>\d+)"}.get(name, number)
            )
    return re.compile(separator.join(fields))
