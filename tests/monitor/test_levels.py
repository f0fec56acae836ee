"""What is logged of real models at which level."""

import sys

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert

from edge_exray.monitor import EdgeMonitor, Sampling, read_log
from edge_exray.profiling.hook import OpHook

tf = pytest.importorskip("tensorflow")


def interpreter(path, kind=litert.Interpreter, *, preserve=True):
    made = kind(model_path=path, experimental_preserve_all_tensors=preserve)
    made.allocate_tensors()
    return made


def answer(made, value):
    """What the app gets without the monitor, and every tensor that the interpreter then has."""
    made.set_tensor(made.get_input_details()[0]["index"], value)
    made.invoke()
    layers = {int(i): op for op, details in enumerate(made._get_ops_details()) for i in details["outputs"]}
    return made.get_tensor(made.get_output_details()[0]["index"]), {i: made.get_tensor(i) for i in layers}


def feed(made):
    details = made.get_input_details()[0]
    return np.random.default_rng(0).integers(-100, 100, details["shape"]).astype(details["dtype"])


@pytest.mark.parametrize("kind", [litert.Interpreter, tf.lite.Interpreter])
@pytest.mark.parametrize("mode", ["none", "int8"])
def test_everything_is_logged_as_the_interpreter_has_it(edge_models, mode, kind, tmp_path):
    made = interpreter(edge_models[mode], kind)
    value = feed(made)
    expected, layers = answer(interpreter(edge_models[mode], kind), value)
    with EdgeMonitor(tmp_path / "run.exray", level="layers", strict=True) as monitor:
        for _ in range(3):
            with monitor.frame() as frame:
                outputs = frame.run(made, {"image": value})
    (output,) = outputs.values()
    np.testing.assert_array_equal(output, expected)
    for read in read_log(tmp_path / "run.exray"):
        (name,) = outputs
        np.testing.assert_array_equal(read.inputs["image"].value, value)
        np.testing.assert_array_equal(read.outputs[name].value, expected)
        logged = {int(name.partition("/")[0]): tensor for name, tensor in read.layers.items()}
        assert logged.keys() == layers.keys()
        for index, tensor in logged.items():
            np.testing.assert_array_equal(tensor.value, layers[index])
        details = {d["index"]: d for d in made.get_tensor_details()}
        for index, tensor in logged.items():
            scales = details[index]["quantization_parameters"]["scales"]
            assert (tensor.quantization is None) == (len(scales) == 0)
            if len(scales):
                scale, zero_point = details[index]["quantization"]
                assert tensor.quantization.scale == pytest.approx((scale,), rel=1e-6)
                np.testing.assert_allclose(
                    tensor.real(), (tensor.value.astype(float) - zero_point) * scale, rtol=1e-5, atol=1e-9
                )
        assert read.runtime == kind.__module__.partition(".")[0]
        assert next(iter(read.spans)) == "inference"


@pytest.mark.parametrize("level", ["outputs", "inputs", "layers"])
def test_a_level_holds_what_the_one_before_holds(edge_models, level, tmp_path):
    made = interpreter(edge_models["none"])
    value = feed(made)
    with EdgeMonitor(tmp_path / "run.exray", level=level) as monitor, monitor.frame(raw=value[0]) as frame:
        frame.run(made, value)
    (read,) = read_log(tmp_path / "run.exray")
    assert read.outputs
    assert (read.raw["input"].sha256 is None) == (level != "outputs")
    assert bool(read.inputs) == (level != "outputs")
    assert bool(read.layers) == (level == "layers")


@pytest.mark.parametrize("resolver", ["BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"])
def test_layers_that_the_runtime_has_overwritten_are_not_logged(edge_models, resolver, tmp_path, caplog):
    made = litert.Interpreter(
        edge_models["none"], experimental_op_resolver_type=getattr(litert.OpResolverType, resolver)
    )
    made.allocate_tensors()
    with EdgeMonitor(tmp_path / "run.exray", level="layers") as monitor:
        for _ in range(3):
            with monitor.frame() as frame:
                frame.run(made, feed(made))
    assert monitor.counts["problems"] == {"layers": 3}
    assert caplog.text.count("experimental_preserve_all_tensors") == 1
    log = read_log(tmp_path / "run.exray")
    assert [bool(read.outputs) and not read.layers for read in log] == [True] * 3
    (counts,) = log.report.counts.values()
    assert counts["problems/layers"] == 3


def test_ops_are_timed_through_the_hook(edge_models, tmp_path):
    hook = OpHook()
    made = litert.Interpreter(
        edge_models["int8"], experimental_preserve_all_tensors=True, experimental_delegates=[hook], num_threads=1
    )
    made.allocate_tensors()
    ops = [(op["index"], op["op_name"]) for op in made._get_ops_details() if op["op_name"] != "DELEGATE"]
    monitor = EdgeMonitor(tmp_path / "run.exray", level="layers", op_hook=hook, sample=Sampling(every=2), strict=True)
    with monitor:
        for _ in range(3):
            with monitor.frame() as frame:
                frame.run(made, feed(made))
    first, second = read_log(tmp_path / "run.exray")
    for read in (first, second):
        assert sorted((op.index, op.name) for op in read.ops) == ops
        assert 0 < sum(op.duration_ns for op in read.ops) <= read.spans["inference"][0].duration_ns


def test_a_hook_of_another_interpreter_costs_the_times_only(edge_models, tmp_path):
    made = interpreter(edge_models["none"])
    with EdgeMonitor(tmp_path / "run.exray", level="layers", op_hook=OpHook()) as monitor, monitor.frame() as frame:
        frame.run(made, feed(made))
    (read,) = read_log(tmp_path / "run.exray")
    assert read.layers
    assert read.ops == []
    assert monitor.counts["problems"] == {"ops": 1}


def test_off_runs_and_writes_nothing(edge_models, tmp_path):
    made = interpreter(edge_models["none"], preserve=False)
    expected, _ = answer(interpreter(edge_models["none"]), feed(made))
    with EdgeMonitor(tmp_path / "run.exray", level="off") as monitor, monitor.frame(raw=1) as frame:
        assert frame.stage("preprocess", sum, [1, 2]) == 3
        outputs = frame.run(made, {"image": feed(made)})
        assert frame.run(lambda x: x + 1, 2) == 3
        with frame.span("draw"):
            frame.log(a=1)
            frame.keep()
    np.testing.assert_array_equal(next(iter(outputs.values())), expected)
    assert list(tmp_path.iterdir()) == []


def test_exceptions_of_the_interpreter_reach_the_app_and_the_log(edge_models, tmp_path):
    made = interpreter(edge_models["none"])
    value = feed(made)
    with EdgeMonitor(tmp_path / "run.exray", level="layers", strict=True) as monitor:
        with pytest.raises(ValueError, match="Dimension mismatch"), monitor.frame() as frame:
            frame.run(made, value[:, :-1])
        with monitor.frame() as frame:
            frame.run(made, value)
    broken, whole = read_log(tmp_path / "run.exray")
    assert "Dimension mismatch" in broken.error
    assert not broken.outputs
    assert whole.error is None
    assert whole.outputs


def test_the_monitor_needs_nothing_but_numpy(tmp_path):
    import subprocess

    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"google_crc32c", "zstandard", "tensorflow", "ai_edge_litert", "psutil",
                                       "jsonschema", "google", "scipy", "flatbuffers", "ddsketch",
                                       "typing_extensions"}}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from edge_exray.monitor import EdgeMonitor, read_log
path = {str(tmp_path / "run.exray")!r}
with EdgeMonitor(path, level="inputs", strict=True) as monitor, monitor.frame(raw=b"x") as frame:
    frame.run(lambda x: x, [1.0, 2.0])
(read,) = read_log(path)
print(read.outputs["output_0"].value)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.0", done.stderr
