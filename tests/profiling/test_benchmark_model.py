import benchmark_output as tool
import pytest
from benchmark_output import Node
from hypothesis import given
from hypothesis import strategies as st

from edge_exray import errors
from edge_exray.profiling.benchmark_model import parse

NODES = [
    Node("CONV_2D", "[net/conv/Relu6;net/conv/Conv2D]:0", 7.237),
    Node("TFLite_Detection_PostProcess", "[boxes, scores]:1", 0.093),
    Node("TfLiteGpuDelegateV2", "[Identity]:77", 8.671),
    Node("Fully Connected (NC, QS8, QC8W) GEMM", "Delegate/Fully Connected (NC, QS8, QC8W) GEMM:3", 0.382),
]
# Printed by LiteRT 2.3 for a model of six ops, of ten inferences.
LITERT = """\
===================================================================== Run Order =====================================
                    [node type]   [start]   [first]  [avg ms]       [%]    [cdf%]  [mem KB] [times called]   [Name]
  Delegate/Convolution (NHWC, QC8) IGEMM  0.000   0.002   0.002    43.137%    43.137%      0.000       10   [Delegate]:0
                                 SOFTMAX  0.000   0.001   0.001    17.647%   100.000%      0.000       10   [Builtin]:5

Number of nodes executed: 2

====================================================== Summary by node type ==========================================
                     [Node type]    [count]   [avg ms]    [avg %]    [cdf %]   [mem KB] [times called]
  Delegate/Convolution (NHWC, QC8) IGEMM  1      0.002    43.137%    43.137%      0.000             10

========================================================= Delegate Statistics ========================================
Op Name                                        Count    Avg(us)    Min(us)    Max(us)  Total(us)
Delegate/Convolution (NHWC, QC8) IGEMM            10       2.20          2          3         22

Timings (microseconds): count=2 curr=51
Memory (bytes): count=0
2 nodes observed
"""
# Printed by the command litert-benchmark of ai-edge-litert 2.3.
LITERT_BENCHMARK = """\
2026-11-22 00:31:07 INFO benchmark_litert_model: Running 50 benchmark iterations...
 BENCHMARK RESULTS
Model initialization:  8.25 ms
Inference (avg):       0.31 ms (50 runs)
Inference (min):       0.21 ms
Inference (max):       0.91 ms
Inference (median):    0.25 ms
Inference (std):       0.05 ms
Inference (p5):        0.22 ms
Inference (p95):       0.81 ms
"""


def seen(output):
    return [(row.type, row.outputs, row.node, row.in_delegate, row.ms, row.calls) for row in output.rows]


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("prefix", tool.PREFIXES)
def test_every_form_of_the_text_tells_the_same(prefix, start):
    output = parse(tool.output(NODES, prefix=prefix, start=start, size_mb="0.00436"), "phone.txt")
    assert seen(output) == [
        ("CONV_2D", ("net/conv/Relu6;net/conv/Conv2D",), 0, False, 7.237, 1),
        ("TFLite_Detection_PostProcess", ("boxes", "scores"), 1, False, 0.093, 1),
        ("TfLiteGpuDelegateV2", ("Identity",), 77, False, 8.671, 1),
        ("Fully Connected (NC, QS8, QC8W) GEMM", (), 3, True, 0.382, 1),
    ]
    figures = {"first": 28.154, "curr": 23.809, "min": 23.077, "max": 30.727, "avg": 25.0432, "std": 1.562}
    assert output.latency_ms == pytest.approx(figures)
    assert (output.whole, output.runs, output.num_threads, output.init_ms) == (True, 50, 4, 18.777)
    assert (output.memory_bytes, output.size_mb) == (18.75 * 2**20, 0.00436)
    assert output.graph == "/data/local/tmp/net.tflite"
    assert output.skipped == {"rows of the start": 2}


@pytest.mark.parametrize("start", [True, False])
def test_the_csv_has_the_ops_and_no_whole_inference(start):
    output = parse(tool.csv(NODES, start=start), "phone.csv")
    assert seen(output) == seen(parse(tool.output(NODES), "phone.txt"))
    assert not output.whole
    assert output.latency_ms["avg"] == pytest.approx(7.237 + 0.093 + 8.671 + 0.382, rel=1e-5)
    assert output.runs == 50


def test_text_and_csv_may_stand_in_one_file():
    together = parse("\n".join(tool.log()) + "\n" + tool.csv(NODES), "both")
    assert together.whole
    assert len(together.rows) == len(NODES)


WORDS = st.text("ABCabc019_ ()[],/;:%.-", min_size=1, max_size=30).map(str.strip).filter(bool)


@given(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 10**6)), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_words_of_any_form_do_not_blur_the_columns(rows, is_csv, start):
    nodes = [Node(f"T {kind}", f"[x{name}]:{i}", us / 1e3) for i, (kind, name, us) in enumerate(rows)]
    text = tool.csv(nodes, start=start) if is_csv else tool.output(nodes, start=start)
    output = parse(text, "file")
    assert [row.type for row in output.rows] == [node.type for node in nodes]
    assert [row.node for row in output.rows] == list(range(len(nodes)))
    assert [row.ms for row in output.rows] == pytest.approx([node.ms for node in nodes], rel=1e-4)


def test_what_is_no_op_of_the_main_graph_is_counted():
    inner = [Node("ADD", "[loop/add]:0", 1.0, 5)]
    lines = [
        "Primary graph (name: main) profile:",
        *tool.profile(
            [Node("WHILE", "[while]:0", 5.2), Node("LiteRT::Run[Buffer sync]", "LiteRT::Run[Buffer sync]/0", 0.1)]
        ),
        "Subgraph (index: 1, name: body) profile:",
        *tool.profile(inner),
        "Delegate internal:",
        *tool.profile([Node("DelegateOpInvoke", "Delegate/conv:0", 3.0)]),
    ]
    output = parse("\n".join(lines), "file")
    assert [row.type for row in output.rows] == ["WHILE"]
    assert output.skipped == {
        "rows of the runtime itself": 1,
        "rows inside of loops and branches": 1,
        "rows inside of delegates": 1,
    }


def test_several_calls_in_a_run_are_added_up():
    output = parse(tool.output([Node("ADD", "[x]:0", 0.5, 3), Node("MUL", "[y]:1", 0.25, 0)]), "file")
    assert [(row.ms, row.calls) for row in output.rows] == [(1.5, 3), (0.25, 1)]


def test_litert_counts_the_calls_of_all_runs():
    output = parse(LITERT, "file")
    assert output.runs == 10
    assert seen(output) == [
        ("Convolution (NHWC, QC8) IGEMM", (), 0, True, pytest.approx(0.002), 1),
        ("SOFTMAX", (), 5, False, pytest.approx(0.001), 1),
    ]
    assert output.latency_ms == {"avg": pytest.approx(0.003)}


def test_litert_benchmark_tells_whole_inferences_only():
    output = parse(LITERT_BENCHMARK, "file")
    assert not output.rows
    assert output.whole
    assert output.runs == 50
    assert output.latency_ms["median"] == 0.25
    assert output.latency_ms["p95"] == 0.81
    assert output.init_ms == 8.25


@pytest.mark.parametrize("statistics", ["count=1 curr=352", "count=3 curr=352(all same)"])
def test_runs_that_all_took_as_long_have_one_figure(statistics):
    output = parse(tool.output(NODES, statistics=statistics), "file")
    assert {output.latency_ms[name] for name in ("avg", "min", "max")} == {0.352}


@pytest.mark.parametrize("text", ["", "\n\n", "Graph: [net.tflite]\n", "a,b\n1,2\n"])
def test_a_file_that_tells_nothing_is_refused(text):
    with pytest.raises(errors.ArtifactError, match=r"notes\.txt has neither ops nor the time"):
        parse(text, "notes.txt")


def test_a_damaged_row_is_named_by_its_line():
    lines = tool.output(NODES).splitlines()
    damaged = next(i for i, line in enumerate(lines) if "GpuDelegate" in line)
    lines[damaged] = lines[damaged][:40]
    with pytest.raises(errors.ArtifactError, match=rf"phone\.txt, line {damaged + 1}: 'TfLiteGpuDelegateV2.* no row"):
        parse("\n".join(lines), "phone.txt")


@pytest.mark.parametrize("time", ["nan", "-7.237", "inf"])
@pytest.mark.parametrize("make", [tool.output, tool.csv])
def test_a_time_of_an_op_that_cannot_be_is_named_by_its_line(time, make):
    lines = make(NODES).splitlines()
    row = next(i for i, line in enumerate(lines) if "CONV_2D" in line)
    before, _, after = lines[row].rpartition("7.237")
    lines[row] = before + time + after
    with pytest.raises(errors.ArtifactError, match=rf"line {row + 1}: {time} is neither a time nor a size"):
        parse("\n".join(lines), "phone")


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        ("count=50 first=3 curr=3 min=2 max=4 avg=nan std=1", "nan is neither"),
        ("count=50 first=3 curr=3 min=2 max=4 avg=-208.7 std=1", "-208.7 is neither"),
        ("count=50 first=3 curr=3 min=890 max=197 avg=208.7 std=1", "min, 0.89 ms, is above avg, 0.2087 ms"),
        ("count=50 first=3 curr=3 min=890 max=197 avg=100 std=1", "min, 0.89 ms, is above avg, 0.1 ms"),
        ("count=50 first=3 curr=3 min=2 max=4 avg=1 std=1", "min, 0.002 ms, is above avg"),
        ("count=50 first=3 curr=3 min=2 max=4 avg=5 std=1", "avg, 0.005 ms, is above max"),
        ("count=50 first=3 curr=3 min=2 max=4 avg=3 std=1 p5=2 median=4 p95=3", "median, 0.004 ms, is above p95"),
        ("count=50 first=3 curr=3 min=2 ma", "the figures break off before the mean"),
    ],
)
@pytest.mark.parametrize("has_inferences", [True, False])
def test_figures_that_no_runs_have_are_named_by_their_line(statistics, words, has_inferences):
    lines = tool.output(NODES, statistics=statistics).splitlines()
    at = 1 + next(i for i, line in enumerate(lines) if line == statistics)
    if not has_inferences:
        lines, at = [f"Timings (microseconds): {statistics}"], 1
    with pytest.raises(errors.ArtifactError, match=f"phone.txt, line {at}: {words}"):
        parse("\n".join(lines), "phone.txt")


def test_a_mean_may_be_rounded_beyond_the_largest():
    assert parse("count=3 first=1234567 curr=1 min=1234566 max=1234567 avg=1.23457e+06 std=0", "file").runs == 3


@pytest.mark.parametrize(
    "line",
    [
        "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 2, Inference (avg): -208.7",
        "The input model file size (MB): nan\ncount=1 curr=5",
        "Memory footprint delta from the start of the tool (MB): init=0 overall=nan\ncount=1 curr=5",
        "Inference (avg):       nan ms (50 runs)",
    ],
)
def test_other_figures_that_cannot_be_are_named_by_their_line(line):
    with pytest.raises(errors.ArtifactError, match=r"phone\.txt, line 2: .* is neither a time nor a size"):
        parse(f"STARTING!\n{line}", "phone.txt")


@pytest.mark.parametrize("keeps", ["count=9", "Running benchmark for at least 50"])
@pytest.mark.parametrize("prefix", tool.PREFIXES)
def test_a_warm_up_alone_is_no_benchmark(keeps, prefix):
    lines = tool.output([], prefix=prefix).splitlines()
    end = 1 + next(i for i, line in enumerate(lines) if keeps in line)
    with pytest.raises(errors.ArtifactError, match=r"phone\.txt: the output breaks off before the benchmark"):
        parse("\n".join(lines[:end]), "phone.txt")


def test_the_benchmark_alone_needs_no_warm_up():
    lines = tool.output(NODES).splitlines()
    start = next(i for i, line in enumerate(lines) if "benchmark for at least 50" in line)
    assert parse("\n".join(lines[start:]), "phone.txt").runs == 50
    assert parse("\n".join(lines[start + 1 : start + 2]), "phone.txt").runs == 50


@pytest.mark.parametrize("lines", [3, 4, 5])
def test_a_text_that_ends_before_its_count_is_refused(lines):
    with pytest.raises(errors.ArtifactError, match=r"phone\.txt ends before .* cut off"):
        parse("\n".join(LITERT.splitlines()[:lines]), "phone.txt")


def test_missing_rows_are_noticed():
    lines = [line for line in tool.output(NODES).splitlines() if "TFLite_Detection" not in line]
    with pytest.raises(errors.ArtifactError, match="4 nodes were executed, but the table has 3"):
        parse("\n".join(lines), "phone.txt")


def test_a_second_run_is_refused():
    lines = tool.output(NODES).splitlines()
    head = len(lines) + lines.index(tool.RUNS) + 3
    with pytest.raises(errors.ArtifactError, match=f"line {head}: the ops of a second run"):
        parse("\n".join(lines * 2), "phone.txt")
