import json
import pathlib

import benchmark_output as tool
import pytest
import tampering
import typer
from typer.testing import CliRunner

from edge_exray import errors
from edge_exray.cli.profile import profile
from edge_exray.profiling.profile import Profile


@pytest.fixture
def run(tmp_path):
    def run(*arguments, spec=None):
        application = typer.Typer()
        application.command()(profile)
        if "--spec" not in arguments:
            path = tmp_path / "spec.json"
            path.write_text(json.dumps({"precision": None, **(spec or {})}))
            arguments = (*arguments, "--spec", str(path))
        return CliRunner().invoke(application, [*arguments, "--runs", "10"])

    return run


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({}, 0),
        ({"max_size_bytes": 10**9}, 0),
        ({"max_size_bytes": 1}, 2),
        ({"max_p99_latency_ms": 1}, 3),
        ({"max_p99_latency_ms": 1, "on_inconclusive": "pass"}, 0),
        ({"max_size_bytes": 1, "on_inconclusive": "pass"}, 2),
    ],
)
def test_the_exit_status_is_the_verdict(run, int8_net, spec, status):
    assert run(int8_net, spec=spec).exit_code == status


def test_models_are_compared_and_the_slowest_ops_shown(run, int8_net, float_net, loop_net, tmp_path):
    out = tmp_path / "profile.json"
    result = run(int8_net, loop_net, "--float-edge", float_net, "--kernels", "builtin", "--top", "1", "--out", str(out))
    assert result.exit_code == 0
    for text in (
        int8_net,
        float_net,
        f"1 slowest of 2 ops of {loop_net}",
        "WHILE",
        "builtin kernels, 1 thread",
    ):
        assert text in result.stdout
    assert "MUL" not in result.stdout.partition("Time by type of op")[0]
    saved = Profile.load(out)
    assert [(m.role, m.path) for m in saved.models] == [
        ("edge", int8_net),
        ("float_edge", float_net),
        (loop_net, loop_net),
    ]
    assert {m.kernels for m in saved.models} == {"builtin"}


def test_options_override_the_spec_and_its_errors_name_the_key(run, int8_net):
    result = run(int8_net, "--kernels", "gpu", spec={"kernels": "builtin"})
    assert isinstance(result.exception, errors.SpecError)
    assert "kernels" in str(result.exception)

    result = run(int8_net, spec={"max_latency": 1})
    assert isinstance(result.exception, errors.SpecError)
    assert "max_latency" in str(result.exception)


def test_a_missing_spec_is_named(run, int8_net):
    result = run(int8_net, "--spec", "nowhere.json")
    assert isinstance(result.exception, errors.SpecError)
    assert "nowhere.json" in str(result.exception)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: None, "cannot read the edge model {place}: No such file or directory"),
        (lambda place: place.mkdir(), "{place} is a folder, not a .tflite file"),
        (lambda place: place.write_text("a text"), "{place} is not a .tflite file: it lacks the identifier TFL3"),
    ],
)
def test_what_is_no_model_is_told_as_validate_tells_it(run, tmp_path, make, words):
    place = tmp_path / "model.tflite"
    make(place)
    result = run(str(place))
    assert isinstance(result.exception, errors.ModelError)
    assert str(result.exception).startswith(words.format(place=place))


@pytest.mark.parametrize(("name", "words"), [("x.json", "it is a folder; name a file in it"), ("y", "is a file")])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(run, tmp_path, name, words):
    (tmp_path / "x.json").mkdir()
    (tmp_path / "y").write_text("")
    result = run(str(tmp_path / "missing.tflite"), "--out", str(tmp_path / name))
    assert isinstance(result.exception, errors.ArtifactError)
    assert words in str(result.exception)


def test_a_folder_receives_every_form(run, int8_net, tmp_path):
    folder = tmp_path / "out"
    result = run(int8_net, "--kernels", "builtin", "--out", str(folder))
    assert result.exit_code == 0
    assert f"See {folder / 'profile.html'}" in result.stdout
    names = ["chrome_trace.json", "model_explorer", "profile.html", "profile.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    overlay = json.loads((folder / "model_explorer" / "latency.json").read_text())
    assert overlay["results"].keys() == {str(op.index) for op in Profile.load(folder / "profile.json").models[0].ops}
    assert "thread_name" in (folder / "chrome_trace.json").read_text()


def test_other_machines_are_shown_and_gated(run, int8_net, tmp_path):
    phone = tmp_path / "phone.txt"
    phone.write_text(tool.output([tool.Node("TfLiteGpuDelegateV2", "[out]:6", 20.0)]))
    result = run(int8_net, "--device-profile", f"Pixel={phone}", "--kernels", "builtin", spec={"max_latency_ms": 20})
    assert result.exit_code == 2
    for text in (f"1 slowest of 1 ops of {int8_net} on Pixel", "latency_p50@Pixel", "Time by type of op", "DELEGATE"):
        assert text in result.stdout, text


@pytest.mark.parametrize("option", ["phone.txt", "=phone.txt", "phone=", "Pixel=a.txt"])
def test_a_machine_has_a_name_and_a_file(run, int8_net, option):
    result = run(int8_net, "--device-profile", "Pixel=b.txt", "--device-profile", option)
    assert isinstance(result.exception, errors.SpecError)
    assert "give NAME=FILE, and each name once" in str(result.exception)


def test_a_baseline_of_an_earlier_run_is_compared_with(run, int8_net, tmp_path):
    last = tmp_path / "last.json"
    assert run(int8_net, "--out", str(last)).exit_code == 0
    result = run(int8_net, "--baseline", str(last), spec={"max_latency_growth": 1e6})
    assert result.exit_code == 0
    assert "regression" in result.stdout
    # Both columns would bear the name of the one file.
    name = pathlib.Path(int8_net).name
    assert f"{name} (edge)" in result.stdout
    assert f"{name} (baseline)" in result.stdout
    assert "which is the same file" in result.stdout

    refused = run(int8_net, "--baseline", str(last))
    assert isinstance(refused.exception, errors.SpecError)
    assert "max_latency_growth" in str(refused.exception)


def test_without_a_slowest_op_to_show_there_are_no_tables_of_them(run, int8_net):
    result = run(int8_net, "--top", "0")
    assert result.exit_code == 0
    assert "slowest of" not in result.stdout
    assert "Measured; no budget is set: p50 latency" in result.stdout
    assert "p50, x of the first" in result.stdout


def test_tensorflow_s_ops_are_told_in_a_sentence(run, int8_net, tmp_path):
    path = tmp_path / "flex.tflite"
    path.write_bytes(tampering.replace_op(pathlib.Path(int8_net).read_bytes(), 5, "FlexSoftmax"))
    result = run(str(path))
    assert isinstance(result.exception, errors.ModelError)
    assert str(result.exception).startswith(f"{path} needs TensorFlow's kernels (FlexSoftmax), which LiteRT here")


def test_a_model_that_does_not_run_here_is_judged_by_a_phone_and_that_is_said(run, int8_net, tmp_path):
    path, phone, spec = tmp_path / "flex.tflite", tmp_path / "phone.txt", tmp_path / "budget.json"
    path.write_bytes(tampering.replace_op(pathlib.Path(int8_net).read_bytes(), 5, "FlexSoftmax"))
    phone.write_text("count=50 first=9000 curr=9500 min=9000 max=12000 avg=10000 std=200\n")
    spec.write_text('{"max_latency_ms": 13}')
    result = run(str(path), "--spec", str(spec), "--device-profile", f"phone={phone}")
    assert result.exit_code == 0
    assert "The edge model was not measured here" in result.stdout
    assert "passed latency_p50@phone" in result.stdout
