import dataclasses
import pathlib
import re
import textwrap

import numpy as np
import pytest

import edge_exray
from edge_exray.conversion import modes
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.monitor import read_log
from edge_exray.profiling.spec import ProfileSpec

README_FILE = pathlib.Path(__file__).parent.parent / "README.md"
README = README_FILE.read_text("utf-8")
MAX_LINES = 15


def code(beginning: str) -> str:
    """Returns the Python block of the README that begins so."""
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if b.startswith(beginning))
    return block


def lines(block: str) -> int:
    return sum(bool(line.strip()) for line in block.splitlines())


@pytest.mark.parametrize("field", dataclasses.fields(ValidationSpec), ids=lambda field: field.name)
def test_every_limit_is_listed_with_its_default(field):
    default = f"{field.default:g}" if isinstance(field.default, int | float) else field.default or "none"
    assert re.search(rf"`{field.name}` [(\"]?{default}\b", README)


def test_every_budget_and_every_mode_is_listed():
    for field in dataclasses.fields(ProfileSpec):
        assert f"`{field.name}`" in README
    for mode in modes.MODES:
        assert f"| `{mode}` |" in README


def test_the_lines_that_instrument_an_app_do_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge.tflite").write_bytes(b"model")
    block = code("from edge_exray.monitor import EdgeMonitor")
    assert lines(block) <= MAX_LINES
    app = {"camera": [np.ones(3), np.zeros(3)], "preprocess": np.square, "draw": len, "interpreter": lambda feed: feed}
    exec(block.replace("sample=0.01", "sample=1.0"), app)
    exec(code("from edge_exray.monitor import read_log"), {})
    assert capsys.readouterr().out.startswith("0 [Span(")
    assert [frame.sequence for frame in read_log("run.exray")] == [0, 1]


def test_the_lines_that_put_the_suite_into_a_pipeline_do_so(tmp_path):
    from tfx import v1 as tfx
    from tfx.dsl.compiler import compiler

    block = code("from edge_exray.components import")
    assert lines(block) <= MAX_LINES
    example_gen = tfx.components.ImportExampleGen(input_base=str(tmp_path))
    trainer = tfx.components.Trainer(run_fn="app.run_fn", examples=example_gen.outputs["examples"])
    destination = tfx.proto.PushDestination(
        filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(tmp_path / "pushed"))
    )
    names = {
        "trainer": trainer,
        "example_gen": example_gen,
        "push_destination": destination,
        "module": str(tmp_path / "preprocessing.py"),
    }
    # The module is packaged when the components are made.
    (tmp_path / "preprocessing.py").write_text("def label_fn(example):\n    return 0\n")
    exec(block, names)
    components = [
        names[n] for n in ("example_gen", "trainer", "converter", "replay", "profiler", "validator", "pusher")
    ]
    pipeline = tfx.dsl.Pipeline("readme", str(tmp_path), components=components)
    nodes = {n.pipeline_node.node_info.id: n.pipeline_node for n in compiler.Compiler().compile(pipeline).nodes}
    assert {"LayerValidator", "KernelProfiler", "EdgeConverter"} <= set(nodes["Pusher"].upstream_nodes)


def test_the_lines_of_the_pipeline_are_those_of_the_project():
    imported, _, lines_of_it = code("from edge_exray.components import").partition("\n\n")
    project = README_FILE.with_name("pipelines").joinpath("project/pipeline.py").read_text("utf-8")
    assert f"\n{imported}\n" in project
    assert f"\n\n{textwrap.indent(lines_of_it, '    ')}\n" in project


def test_the_lines_that_validate_one_pair_do_so(conv_net, tmp_path, monkeypatch, capsys):
    import models_zoo

    block = code("import edge_exray\n")
    assert lines(block) <= MAX_LINES
    monkeypatch.chdir(tmp_path)
    images, labels = models_zoo.make_frames(60, seed=2)
    np.savez("eval.npz", image=images, label=labels)
    pathlib.Path("saved_model").symlink_to(conv_net)
    app = "def edge_inputs_fn(example):\n    return {'image': example['image'][..., ::-1]}\n"
    pathlib.Path("preprocessing.py").write_text(app)
    names = {"training_images": models_zoo.make_frames(40, seed=5)[0]}
    exec(block, names)
    assert not names["report"]
    assert "preprocessing The app prepares input image differently: reversed channels" in capsys.readouterr().out
    assert pathlib.Path("report", "report.html").is_file()


def test_the_lines_that_profile_do_so(edge_models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("edge.tflite").symlink_to(edge_models["int8"])
    pathlib.Path("other.tflite").symlink_to(edge_models["none"])
    pathlib.Path("budget.json").write_text('{"max_size_bytes": 1000000000}')
    names = {"edge_exray": edge_exray}
    exec(code("last = edge_exray.profile("), names)
    assert [model.role for model in names["both"].models] == ["edge", "float_edge"]
    assert [check.name for check in names["new"].checks] == ["regression"]
    assert names["new"].summary in capsys.readouterr().out
    assert pathlib.Path("profile", "profile.html").is_file()


def test_the_check_that_the_readme_shows_works(conv_net, edge_models, tmp_path):
    import models_zoo
    import tampering

    import edge_exray

    block = code("# checks.py\n")
    assert lines(block) <= MAX_LINES
    module = tmp_path / "checks.py"
    module.write_text(block)
    frames = [{"image": image} for image in models_zoo.make_frames(5)[0]]
    edge = tmp_path / "edge.tflite"
    content = pathlib.Path(edge_models["int8"]).read_bytes()

    def names(damaged: bytes) -> dict[str, list[int]]:
        edge.write_bytes(damaged)
        report = edge_exray.validate(
            conv_net, edge, frames, module=str(module), float_edge=edge_models["none"], signature="serving_dense"
        )
        (found,) = (check for check in report.checks if check.name == "unbiased_layers")
        return {found.verdict.value: [s.layer for s in report.suspects if s.check == "unbiased_layers"]}

    assert names(content) == {"passed": []}
    assert names(tampering.shift_bias(content, 4, 0.4))["failed"][0] == 4


def test_the_lines_that_judge_device_logs_in_a_pipeline_do_so(tmp_path, monkeypatch):
    from tfx import v1 as tfx
    from tfx.types import Channel, standard_artifacts

    import edge_exray
    from edge_exray.components import EdgeLogExampleGen, EdgeReplay, fingerprint

    (tmp_path / "preprocessing.py").write_text("def label_fn(example):\n    return 0\n")
    model = Channel(type=standard_artifacts.Model)
    names = {
        "edge_exray": edge_exray,
        "Importer": tfx.dsl.Importer,
        "StatisticsGen": tfx.components.StatisticsGen,
        "ExampleValidator": tfx.components.ExampleValidator,
        "EdgeLogExampleGen": EdgeLogExampleGen,
        "EdgeReplay": EdgeReplay,
        "fingerprint": fingerprint,
        "model": model,
        "edge": model,
        "schema": Channel(type=standard_artifacts.Schema),
    }
    (tmp_path / "field" / "logs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    exec(code('content = {"content"').replace("preprocessing.py", str(tmp_path / "preprocessing.py")), names)
    assert names["replay"].inputs["device_logs"].type is edge_exray.EdgeLogs
    assert names["statistics"].inputs["examples"].type is standard_artifacts.Examples


def test_the_lines_that_resolve_a_baseline_do_so():
    from tfx.dsl.components.common.resolver import Resolver
    from tfx.types import Channel, standard_artifacts

    import edge_exray.components
    from edge_exray.components import LayerValidator

    class Component:
        def __init__(self, **outputs):
            self.outputs = {name: Channel(type=type_) for name, type_ in outputs.items()}

    names = {
        "edge_exray": edge_exray,
        "Resolver": Resolver,
        "Channel": Channel,
        "LayerValidator": LayerValidator,
        "replay": Component(replay=edge_exray.EdgeReplayResult),
        "evaluator": Component(blessing=standard_artifacts.ModelBlessing),
    }
    exec(code("baseline = Resolver("), names)
    assert set(names["validator"].inputs) == {"replay", "baseline_report", "model_blessing"}
