"""What runs again when something changes: TFX decides, on executors that do nothing but say that they ran."""

import importlib.metadata
import pathlib

import pytest
from tfx import types
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import standard_artifacts

from edge_exray import components, errors
from edge_exray.components import fingerprints
from edge_exray.components.edge_converter import component as edge_converter
from edge_exray.components.edge_log_example_gen import component as edge_log_example_gen
from edge_exray.components.edge_replay import component as edge_replay
from edge_exray.components.kernel_profiler import component as kernel_profiler
from edge_exray.components.layer_validator import component as layer_validator
from edge_exray.components.types import EdgeLogs
from edge_exray.profiling import machine

CONVERTER, REPLAY, PROFILER, VALIDATOR = "EdgeConverter", "EdgeReplay", "KernelProfiler", "LayerValidator"
ALL = {CONVERTER, REPLAY, PROFILER, VALIDATOR}
ran: set[str] = set()


def say(executor, input_dict, output_dict, exec_properties) -> None:
    """Takes the place of `Do`: the folder of an output is named by the component."""
    ran.add(next(iter(output_dict.values()))[0].uri.split("/")[-3])


class Project:
    """A user's project: modules that TFX sees by their names only, options, and a root with metadata."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.metadata = metadata.sqlite_metadata_connection_config(str(root / "metadata.db"))
        self.spec, self.budgets = '{"max_label_flip_rate": 0.03}', '{"max_size_bytes": 5000000}'
        for name, source in {
            "shop/__init__.py": "",
            "shop/constants.py": "SCALE = 127.5\n",
            "shop/reference.py": "import numpy\nfrom PIL import Image\nfrom .constants import SCALE\nlabel_fn = dict\n",
            "shop/app.py": "def edge_inputs_fn(example):\n    import shop.reference\n    return {}\n",
            "shop/judges.py": "def label_fn(example):\n    return 0\n",
            "shop/other.py": "",
            "phone.txt": "count=50\n",
        }.items():
            self.write(name, source)
        (root / "model").mkdir()

    def write(self, name: str, source: str) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)

    def run(self) -> set[str]:
        """Runs the pipeline, and returns the components whose results did not come from the cache."""
        ran.clear()
        imported = Importer(source_uri=str(self.root / "model"), artifact_type=standard_artifacts.Model)
        model = imported.with_id("model").outputs["result"]
        imported_examples = Importer(source_uri=str(self.root / "model"), artifact_type=standard_artifacts.Examples)
        examples = imported_examples.with_id("examples").outputs["result"]
        converter = components.EdgeConverter(model=model, examples=examples, module_path="shop.reference")
        edge_model = converter.outputs["edge_model"]
        replay = components.EdgeReplay(model=model, edge_model=edge_model, examples=examples, module_path="shop.app")
        profiler = components.KernelProfiler(
            edge_model=edge_model,
            profile_spec=self.budgets,
            device_profiles={"phone": str(self.root / "phone.txt")},
        )
        validator = components.LayerValidator(
            replay=replay.outputs["replay"], validation_spec=self.spec, module_path="shop.judges"
        )
        LocalDagRunner().run(
            pipeline.Pipeline(
                pipeline_name="shop",
                pipeline_root=str(self.root / "root"),
                components=[imported, imported_examples, converter, replay, profiler, validator],
                metadata_connection_config=self.metadata,
                enable_cache=True,
            )
        )
        return set(ran)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.syspath_prepend(tmp_path)
    for kind in (components.EdgeConverter, components.EdgeReplay, components.KernelProfiler, components.LayerValidator):
        monkeypatch.setattr(kind.EXECUTOR_SPEC.executor_class, "Do", say)
    return Project(tmp_path)


def test_what_changed_and_what_depends_on_it_runs_again_and_nothing_else(project, monkeypatch):
    installed = {}
    genuine = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed.get(name) or genuine(name))

    def install(name: str) -> None:
        installed[name] = "99.0"

    assert project.run() == ALL
    changes = {
        "nothing": (lambda: None, set()),
        "a module that no component uses": (lambda: project.write("shop/other.py", "A = 1\n"), set()),
        "the validation spec, in other words": (
            lambda: setattr(project, "spec", '{ "max_label_flip_rate":3e-2 }'),
            set(),
        ),
        "the validation spec": (lambda: setattr(project, "spec", '{"max_label_flip_rate": 0.02}'), {VALIDATOR}),
        "the budgets": (lambda: setattr(project, "budgets", "{}"), {PROFILER}),
        "the users' checks": (lambda: project.write("shop/judges.py", "label_fn = dict\n"), {VALIDATOR}),
        "the app": (
            lambda: project.write("shop/app.py", "import shop.reference\nlabel_fn = dict\n"),
            {REPLAY, VALIDATOR},
        ),
        "what the reference and the app import": (lambda: project.write("shop/constants.py", "SCALE = 255\n"), ALL),
        "a package that they import": (lambda: install("pillow"), ALL),
        "one that does not name its modules": (lambda: install("numpy"), ALL),
        "the profile of a phone": (lambda: project.write("phone.txt", "count=60\n"), {PROFILER}),
        "TFMA": (lambda: install("tensorflow-model-analysis"), {VALIDATOR}),
        "LiteRT": (lambda: install("ai-edge-litert"), ALL),
        "the machine": (lambda: monkeypatch.setattr(machine, "_cpu_name", lambda: "Cortex-A76"), {PROFILER}),
        "the library": (lambda: _release(monkeypatch), ALL),
    }
    for name, (change, expected) in changes.items():
        change()
        assert (name, project.run()) == (name, expected)


def test_a_killed_step_runs_again_and_what_it_left_is_no_result(project, monkeypatch):
    class Killed(BaseException):
        """Ends the pipeline without letting TFX note it."""

    def die(executor, input_dict, output_dict, exec_properties) -> None:
        pathlib.Path(output_dict["replay"][0].uri, "replay.json").write_text("{")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(components.EdgeReplay.EXECUTOR_SPEC.executor_class, "Do", die)
        with pytest.raises(Killed):
            project.run()
    (half,) = (project.root / "root" / REPLAY / "replay").iterdir()

    assert project.run() == {REPLAY, PROFILER, VALIDATOR}
    assert project.run() == set()
    with metadata.Metadata(project.metadata) as store:
        uris = [artifact.uri for artifact in store.store.get_artifacts()]
    assert half.exists()
    assert str(half) not in uris
    assert [uri for uri in uris if f"{REPLAY}/replay" in uri]


def _release(monkeypatch) -> None:
    for module in (edge_converter, edge_log_example_gen, edge_replay, kernel_profiler, layer_validator):
        monkeypatch.setattr(module, "__version__", "99.0")


def test_logs_that_came_in_since_are_imported_anew(tmp_path):
    def imported() -> str:
        uri = str(tmp_path)
        logs = Importer(uri, EdgeLogs, custom_properties={"content": components.fingerprint(uri)})
        return logs.outputs["result"].additional_custom_properties["content"]

    (tmp_path / "monday").mkdir()
    (tmp_path / "monday" / "1.exray").write_bytes(b"log")
    first = imported()
    assert imported() == first
    (tmp_path / "monday" / "2.exray").write_bytes(b"log")
    second = imported()
    assert second != first
    (tmp_path / "monday" / "2.exray").write_bytes(b"longer log")
    assert imported() not in (first, second)
    with pytest.raises(errors.DataError, match="there is nothing at"):
        components.fingerprint(str(tmp_path / "tuesday"))


def test_a_log_is_what_continues_it_too(tmp_path):
    log = str(tmp_path / "run[1].exray")

    def key() -> tuple[str, str]:
        profiler = components.KernelProfiler(
            edge_model=types.Channel(type=standard_artifacts.Model), device_profiles={"phone": log}
        )
        return components.fingerprint(log), profiler.exec_properties["device_profiles_content"]

    keys = []
    # Rotation deletes the first file when there are enough.
    for name in ("run[1].exray", "run[1]-00001.exray", None, "run[1]-00002.exray", "run[1]-100000.exray"):
        if name:
            (tmp_path / name).write_bytes(name.encode())
        else:
            (tmp_path / "run[1].exray").unlink()
        keys.append(key())
    (tmp_path / "run[1]-2.exray").write_bytes(b"another log")
    assert key() == keys[-1]
    assert [len(set(column)) for column in zip(*keys, strict=True)] == [5, 5]


def test_code_is_found_without_running_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "explosive").mkdir()
    for name in ("__init__", "module"):
        (tmp_path / "explosive" / f"{name}.py").write_text("raise RuntimeError\n")
    before = fingerprints.of_module(module_path="explosive.module")
    (tmp_path / "explosive" / "__init__.py").write_text("raise ValueError\n")
    assert before is not None
    assert fingerprints.of_module(module_path="explosive.module") not in (None, before)
    assert fingerprints.of_module(module_path="explosive.nothing") is None
    assert fingerprints.of_module(module_path="no_such_package.module") is None
    assert fingerprints.of_module() is None


def test_what_is_installed_counts_by_its_version_wherever_it_is(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "libraries")
    monkeypatch.syspath_prepend(tmp_path / "work")
    files = {
        "app.py": "import library, mine\n",
        "libraries/library/__init__.py": "",
        "libraries/library-1.0.dist-info/METADATA": "Name: library\nVersion: 1.0\n",
        "libraries/library-1.0.dist-info/RECORD": "library/__init__.py,,\n",
        "work/mine.py": "",
        "work/mine.egg-info/PKG-INFO": "Name: mine\nVersion: 1.0\n",
        "work/mine.egg-info/top_level.txt": "mine\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    keys = []
    for name, text in {
        "app.py": files["app.py"],
        "libraries/library/__init__.py": "A = 1\n",
        "libraries/library-1.0.dist-info/METADATA": "Name: library\nVersion: 2.0\n",
        "work/mine.py": "A = 1\n",
    }.items():
        (tmp_path / name).write_text(text)
        keys.append(fingerprints.of_module(module_file=str(tmp_path / "app.py")))
    assert keys[0] == keys[1]
    assert len({*keys, None}) == 4


def test_a_module_file_may_be_called_like_a_module_of_python(tmp_path):
    (tmp_path / "calendar.py").write_text("import datetime, helpers\n")
    keys = []
    for source in ("", "A = 1\n"):
        (tmp_path / "helpers.py").write_text(source)
        keys.append(fingerprints.of_module(module_file=str(tmp_path / "calendar.py")))
    assert len({*keys, None}) == 3


def test_a_module_file_brings_what_lies_beside_it_and_the_apps_own_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "path")
    files = {
        tmp_path / "folder" / "preprocessing.py": "import helpers\n",
        tmp_path / "folder" / "helpers.py": "import the_app\n",
        tmp_path / "path" / "the_app.py": "A = 1\n",
    }
    for file, source in files.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    found = [fingerprints.of_module(module_file=str(tmp_path / "folder" / "preprocessing.py"))]
    for file in files:
        file.write_text(f"{file.read_text()}B = 2\n")
        found.append(fingerprints.of_module(module_file=str(tmp_path / "folder" / "preprocessing.py")))
    assert len({*found, None}) == 5
