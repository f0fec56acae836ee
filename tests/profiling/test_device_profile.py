import hashlib
import json
import pathlib

import benchmark_output as tool
import numpy as np
import pytest
from benchmark_output import Node
from hypothesis import given
from hypothesis import strategies as st

from edge_exray import errors
from edge_exray.models.graph import read_graph
from edge_exray.profiling.device_profile import read_profile, read_profiles
from edge_exray.profiling.profile import Profile, profile
from edge_exray.profiling.spec import ProfileSpec

OPS = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
# What LiteRT 2.3 reports of `conv_net` on XNNPACK, in int8; SOFTMAX stays with the runtime.
XNNPACK = [
    "Convolution (NHWC, QC8) IGEMM",
    "Convolution (NHWC, QC8) DWConv",
    "Fully Connected (NC, QS8, QC8W) GEMM",
    "Mean (ND) Reduce",
    "Static Reshape (NC)",
    "Fully Connected (NC, QS8, QC8W) GEMM",
]


@pytest.fixture(scope="module")
def outputs(int8_net) -> list[str]:
    """Names of the main outputs of the ops of `int8_net`."""
    graph = read_graph(pathlib.Path(int8_net).read_bytes())
    assert [op.name for op in graph.ops] == OPS
    return [graph.tensors[op.outputs[0]].spec.name for op in graph.ops]


@pytest.fixture
def write(tmp_path):
    def write(nodes, name="phone.txt", **form):
        path = tmp_path / name
        path.write_text(tool.csv(nodes, **form) if name.endswith(".csv") else tool.output(nodes, **form))
        return path

    return write


def indexed(found):
    return [(op.index, op.op, op.kernel, op.raw_ms) for op in found.ops]


def test_ops_of_the_runtime_are_those_with_their_number(int8_net, outputs, write):
    nodes = [Node(op, f"[{name}]:{i}", i + 1.0) for i, (op, name) in enumerate(zip(OPS, outputs, strict=True))]
    for file in ("phone.txt", "phone.csv"):
        (found,) = read_profile(write(nodes, file), int8_net, "Pixel")
        assert indexed(found) == [(i, op, "builtin", i + 1.0) for i, op in enumerate(OPS)]
        assert [op.name for op in found.ops] == outputs
        assert (found.kernels, found.path, found.profiler) == ("builtin", int8_net, "benchmark_model")
        assert found.device["name"] == "Pixel"
        assert (found.device["rows"], found.device["matched"], found.device["unmatched"]) == (6, 6, [])
        assert sum(op.ms for op in found.ops) == pytest.approx(found.latency_ms.p50)


def test_ops_without_a_number_are_those_with_their_output(int8_net, outputs, write):
    nodes = [Node(op, f"[{name}]", i + 1.0) for i, (op, name) in enumerate(zip(OPS, outputs, strict=True))]
    assert [op.index for op in read_profile(write(nodes), int8_net)[0].ops] == list(range(6))


def test_what_xnnpack_reports_is_aligned_with_the_graph(int8_net, outputs, write):
    nodes = [Node(kind, f"Delegate/{kind}:{i}", i + 1.0) for i, kind in enumerate(XNNPACK)]
    (found,) = read_profile(write([*nodes, Node("SOFTMAX", f"[{outputs[5]}]:5", 7.0)]), int8_net)
    assert indexed(found) == [
        *((i, op, "xnnpack", ms) for i, (op, ms) in enumerate(zip(OPS[:5], (1.0, 2.0, 3.0, 4.0, 6.0), strict=True))),
        (5, "SOFTMAX", "builtin", 7.0),
        (10, "Static Reshape (NC)", "xnnpack", 5.0),
    ]
    assert found.kernels == "xnnpack"
    assert (found.device["matched"], found.device["unmatched"]) == (6, ["Static Reshape (NC)"])
    assert "1 of 7 rows could not be matched with an op of the model (Static Reshape (NC))" in found.profiler_note


def test_a_pair_that_might_be_another_is_not_claimed(float_net, write):
    # One of two convolutions: which of them is not told.
    rows = [Node("Convolution (NHWC, F32) IGEMM", "Delegate/Convolution (NHWC, F32) IGEMM:0", 1.0)]
    (found,) = read_profile(write(rows), float_net)
    assert found.device["matched"] == 0


def test_a_delegate_that_runs_all_is_one_entry(int8_net, outputs, write):
    (found,) = read_profile(write([Node("TfLiteGpuDelegateV2", f"[{outputs[5]}]:6", 8.0)]), int8_net)
    (op,) = found.ops
    assert (op.op, op.kernel, op.name, op.covers) == ("DELEGATE", "gpu", outputs[5], [0, 1, 2, 3, 4, 5])
    assert found.kernels == "gpu"
    assert found.device["matched"] == 1


def test_each_part_of_a_split_graph_has_its_ops(int8_net, outputs, write):
    rows = [
        Node("TfLiteNnapiDelegate", f"[{outputs[1]}]:6", 2.0),
        Node("CONV_2D", f"[{outputs[2]}]:2", 1.0),
        Node("TfLiteNnapiDelegate", f"[{outputs[5]}]:7", 3.0),
    ]
    (found,) = read_profile(write(rows), int8_net)
    assert [(op.index, op.kernel, op.covers) for op in found.ops] == [
        (0, "nnapi", [0, 1]),
        (2, "builtin", None),
        (3, "nnapi", [3, 4, 5]),
    ]
    assert found.kernels == "nnapi"


def test_without_the_model_the_names_are_those_of_the_file(write):
    nodes = [Node("CONV_2D", "[a;b]:4", 1.0), Node("TfLiteGpuDelegateV2", "[c]:9", 3.0)]
    (found,) = read_profile(write(nodes, size_mb="0.00436"))
    assert [(op.index, op.op, op.name, op.kernel) for op in found.ops] == [
        (0, "CONV_2D", "a;b", "builtin"),
        (1, "DELEGATE", "c", "gpu"),
    ]
    assert found.device == {
        "name": "phone",
        "source": found.device["source"],
        "rows": 2,
        "matched": None,
        "unmatched": [],
        "skipped": {"rows of the start": 2},
    }
    assert found.path == "/data/local/tmp/net.tflite"
    assert found.bytes == 4360


@pytest.mark.parametrize("row", [Node("ADD", "[x]:0", 1.0), Node("CONV_2D", "[x]:1", 1.0), Node("ADD", "[x]:99", 1.0)])
def test_a_profile_of_another_model_is_refused(int8_net, write, row):
    with pytest.raises(errors.ArtifactError, match=r"phone\.txt, line \d+: .* the profile is of another model"):
        read_profile(write([row]), int8_net)


def test_a_file_of_another_size_is_another_model(int8_net, outputs, write):
    size = pathlib.Path(int8_net).stat().st_size
    nodes = [Node("CONV_2D", f"[{outputs[0]}]:0", 1.0)]
    (found,) = read_profile(write(nodes, size_mb=f"{size / 1e6:.6g}"), int8_net)
    assert found.bytes == size
    with pytest.raises(errors.ArtifactError, match=r"another model: /data/.*net\.tflite has 0\.00436 MB, "):
        read_profile(write(nodes, size_mb="0.00436"), int8_net)


def test_a_file_of_another_name_is_told(int8_net, outputs, write):
    nodes = [Node("CONV_2D", f"[{outputs[0]}]:0", 1.0)]
    told = "a file called /data/local/tmp/net.tflite"
    assert told in read_profile(write(nodes), int8_net)[0].profiler_note
    path = write(nodes)
    path.write_text(path.read_text().replace("tmp/net.tflite", f"tmp/{pathlib.Path(int8_net).name}"))
    assert "a file called" not in read_profile(path, int8_net)[0].profiler_note


def test_figures_are_taken_over_in_this_machine_s_units(write):
    (found,) = read_profile(write([Node("CONV_2D", "[x]:0", 5.0)]))
    latency = found.latency_ms
    assert (latency.p50, latency.mean) == pytest.approx((25.0432, 25.0432))
    assert (latency.p90, latency.p99, latency.runs) == (None, None, 50)
    assert latency.intervals["p50"] == pytest.approx([25.0432 - 1.562, 25.0432 + 1.562])
    # Cantelli: at most a tenth lies three standard deviations above the mean; at a hundredth the largest says more.
    assert latency.intervals["p90"] == pytest.approx([25.0432 - 1.562 / 3, 25.0432 + 3 * 1.562])
    assert latency.intervals["p99"] == pytest.approx([25.0432 - 1.562 * (1 / 99) ** 0.5, 30.727])
    assert (found.num_threads, found.init_ms, found.memory_bytes) == (4, 18.777, 18.75 * 2**20)
    assert (found.ops[0].raw_ms, found.ops[0].ms, found.scale) == pytest.approx((5.0, 25.0432, 5.00864))
    assert "the mean stands for the median" in found.profiler_note


@given(st.lists(st.integers(1, 10**5), min_size=2, max_size=60), st.booleans())
def test_the_bounds_hold_whatever_the_runs_were(tmp_path_factory, times, newer):
    told = {"min": min(times), "max": max(times), "avg": np.mean(times), "std": np.std(times)}
    shares = {"p5": 0.05, "median": 0.5, "p95": 0.95} if newer else {}
    told |= {name: np.quantile(times, share, method="inverted_cdf") for name, share in shares.items()}
    figures = " ".join(f"{name}={value:.17g}" for name, value in told.items())
    path = tmp_path_factory.getbasetemp() / "bounds.txt"
    path.write_text(f"count={len(times)} first=1 curr=1 {figures}\n")
    intervals = read_profile(path)[0].latency_ms.intervals
    for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99}.items():
        low, high = intervals[name]
        actual = np.quantile(times, share, method="inverted_cdf") / 1e3
        assert low - 1e-9 <= actual <= high + 1e-9


@pytest.fixture(scope="module")
def here(int8_net, float_net):
    spec = ProfileSpec(runs=5, warmup_runs=1, kernels="builtin", precision=None)
    return profile({"edge": int8_net, "float_edge": float_net}, spec)


@pytest.fixture
def board(here, tmp_path):
    path = tmp_path / "profile.json"
    here.save(path)
    return path


def test_profiles_of_this_product_are_read_too(here, board, int8_net, float_net):
    path = board
    models = {"edge": int8_net, "float_edge": float_net}
    found = read_profiles({"board": path}, models)
    assert [(model.role, model.device) for model in found] == [
        ("edge@board", {"name": "board", "source": str(path)}),
        ("float_edge@board", {"name": "board", "source": str(path)}),
    ]
    assert found[0].latency_ms == here.models[0].latency_ms
    assert found[0].ops == here.models[0].ops


def test_a_document_of_another_model_is_refused_with_both_fingerprints(here, board, int8_net, float_net, loop_net):
    own = hashlib.sha256(pathlib.Path(loop_net).read_bytes()).hexdigest()[:12]
    told = f"{here.models[0].fingerprint[:12]}, {here.models[1].fingerprint[:12]}"
    with pytest.raises(errors.ArtifactError) as caught:
        read_profile(board, loop_net)
    assert str(caught.value).startswith(
        f"{board}: the profile is of another model, with the fingerprint {told}; {loop_net} has {own}: "
    )
    # Both files are in the document, but in each other's place.
    with pytest.raises(errors.ArtifactError, match="is of another model"):
        read_profiles({"board": board}, {"edge": float_net, "float_edge": int8_net})
    with pytest.raises(errors.ArtifactError, match="is of another model"):
        read_profiles({"board": board}, {"edge": int8_net, "float_edge": loop_net})


def test_each_file_gives_the_model_that_it_is_named_for(board, write, int8_net, float_net):
    models = {"edge": int8_net, "float_edge": float_net}
    found = read_profiles({"board": write([]), "board.float_edge": board}, models)
    assert [(model.role, model.profiler) for model in found] == [
        ("edge@board", "benchmark_model"),
        ("float_edge@board", "hook"),
    ]
    found = read_profiles({"board": board, "board.float_edge": write([])}, models)
    assert [model.role for model in found] == ["edge@board", "float_edge@board"]
    assert found[1].profiler == "benchmark_model"


def test_a_document_without_the_model_is_refused(here, board, int8_net):
    document = json.loads(board.read_text())
    document["models"][1]["role"] = "other.tflite"
    board.write_text(json.dumps(document))
    with pytest.raises(errors.ArtifactError, match=r"no model with the role float_edge: it has \['edge', 'other"):
        read_profiles({"board": board, "board.float_edge": board}, {"edge": int8_net})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["phone", "phone.flaot_edge"], r"phone\.flaot_edge: .* not before 'flaot_edge'; did you mean float_edge\?"),
        (["phone.v2"], r"not before 'v2'\."),
        (["a.b.float_edge", "a.b"], "not before 'b'"),
        (["phone.float_edge", "board"], r"phone\.float_edge: there is none of the edge model.* add phone=FILE"),
    ],
)
def test_misspelt_machines_are_refused(names, words):
    with pytest.raises(errors.SpecError, match=words):
        read_profiles(dict.fromkeys(names, "nowhere.txt"), {})


def test_the_name_of_a_machine_tells_the_float_model(float_net, int8_net, write):
    files = {"phone": write([Node("CONV_2D", "[x]:0", 1.0)], "a.txt"), "phone.float_edge": write([], "b.txt")}
    expected = [("edge@phone", int8_net), ("float_edge@phone", float_net)]
    for names in (files, dict(reversed(files.items()))):
        found = read_profiles(names, {"edge": int8_net, "float_edge": float_net})
        assert [(model.role, model.path) for model in found] == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the profile .*: No such file"),
        (b"\xff\xfe\x00", "cannot read the profile .*: it is no text"),
        (b'{"format_version": 1,\n oops}', "line 2: it is no valid JSON"),
        (b'{"format_version": NaN}', "NaN is no figure"),
        (b"{}", "kernel profile .*x.json"),
        (b"hello", "neither ops nor the time"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.ArtifactError, match=words):
        read_profile(path)


def test_machines_are_gated_and_compared(int8_net, outputs, write, tmp_path):
    nodes = [Node(op, f"[{name}]:{i}", 2.0) for i, (op, name) in enumerate(zip(OPS, outputs, strict=True))]
    spec = ProfileSpec(max_latency_ms=20, runs=5, warmup_runs=1, kernels="builtin")
    found = profile({"edge": int8_net}, spec, device_profiles={"phone": write(nodes)})
    assert not found
    assert [(check.name, str(check.verdict)) for check in found.checks] == [
        ("latency_p50", "passed"),
        ("latency_p50@phone", "failed"),
    ]
    assert "phone, builtin kernels, 4 threads, 50 runs" in found.summary
    assert [model.role for model in found.models] == ["edge", "edge@phone"]
    assert [row["index"] for row in sorted(found.comparison["ops"], key=lambda row: row["index"])] == list(range(6))
    found.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == found
    assert json.loads(found.to_json())["models"][1]["latency_ms"]["p90"] is None
