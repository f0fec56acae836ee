"""Holds the arrows between the rooms of the house, and what an import may cost."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

import edge_exray

ROOT = pathlib.Path(__file__).parent.parent
MAPPED = ("components", "pipelines", "schemas")

# A room may import these rooms and everything that those may import.
ARROWS = {
    "cli": {"api", "monitor", "provenance"},
    "api": {"conversion", "profiling", "reporting"},
    "reporting": {"diagnosis", "profiling"},
    "diagnosis": {"replay"},
    "replay": {"drift", "frames", "linting", "monitor"},
    "conversion": {"frames", "linting"},
    "profiling": {"frames", "monitor"},
    "drift": {"models"},
    "frames": {"models"},
    "linting": {"models"},
    "models": {"foundation"},
    "monitor": {"foundation"},
    "provenance": {"foundation"},
    "foundation": set(),
}
# Open to every room: they stand in one, but import nothing but the foundation.
OPEN = {"edge_exray.diagnosis.check", "edge_exray.diagnosis.report", "edge_exray.models.tensors"}
PIPELINE_FRAMEWORKS = {"tfx", "apache_beam"}
HEAVY = {"tensorflow", "tfx", "apache_beam", "keras", "jinja2", "ai_edge_litert", "ml_metadata"}


def modules() -> dict[str, pathlib.Path]:
    """Every module that ships, by the name under which it is imported."""
    folders = {"edge_exray": "edge_exray", **{room: f"edge_exray.{room}" for room in MAPPED}}
    found = {}
    for folder, package in folders.items():
        for path in ROOT.joinpath(folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return found


MODULES = modules()


def imports(source: str, module: str = "edge_exray.anywhere") -> list[tuple[int, str]]:
    """Line and full name of everything that a source imports, wherever in it the import stands."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        else:
            continue
        found += [(node.lineno, definer(name)) for name in names]
    return found


def definer(name: str) -> str:
    """The module that an imported name comes from; names of `edge_exray` itself come from where its table says."""
    package, _, attribute = name.rpartition(".")
    if package == "edge_exray" and attribute in edge_exray._LAZY:
        return edge_exray._LAZY[attribute]
    return package if name not in MODULES and package in MODULES else name


def room(module: str) -> str:
    """The room that a module of `edge_exray` stands in; what stands in none is foundation."""
    name = module.split(".")[1] if "." in module else "foundation"
    return name if name in ARROWS or name in ("components", "pipelines") else "foundation"


def reachable(start: str) -> set[str]:
    return {start, "foundation"}.union(*map(reachable, ARROWS[start]))


def offences(source: str, module: str) -> list[str]:
    allowed = {"foundation"} if module in OPEN else reachable(room(module))
    found = []
    for line, name in imports(source, module):
        if name.split(".")[0] in PIPELINE_FRAMEWORKS:
            found.append(f"{module}:{line} imports {name}, the library must run without it")
        elif name.split(".")[0] == "edge_exray" and name not in OPEN and room(name) not in allowed:
            found.append(f"{module}:{line} imports {name}, but {room(module)} may import {sorted(allowed)} only")
    return found


def test_arrows_point_one_way():
    library = {name: path for name, path in MODULES.items() if room(name) in ARROWS}
    found = [o for name, path in library.items() for o in offences(path.read_text("utf-8"), name)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("edge_exray.models.tflite", "from edge_exray.replay import result"),
        ("edge_exray.models.tflite", "from edge_exray import replay"),
        ("edge_exray.models.tflite", "from ..replay.result import ReplayResult"),
        ("edge_exray.drift.channels", "from edge_exray import frames"),
        ("edge_exray.profiling.budget", "from edge_exray.diagnosis import checks"),
        ("edge_exray.diagnosis.report", "from edge_exray.replay.result import ReplayResult"),
        ("edge_exray.errors", "import edge_exray.models.tflite"),
        ("edge_exray.monitor.monitor", "from edge_exray.profiling import hook"),
        ("edge_exray.cli.main", "def run():\n    import tfx.v1"),
        ("edge_exray.api", "import importlib\nbeam = importlib.import_module('apache_beam')"),
        ("edge_exray.api", "from edge_exray import LayerReport"),
        ("edge_exray.api", "from edge_exray.components import types"),
    ],
)
def test_wrong_arrows_are_seen(module, source):
    assert offences(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("edge_exray.cli.main", "from edge_exray.models.tflite import EdgeModel"),
        ("edge_exray.monitor.tensors", "from edge_exray.models.tensors import Quantization"),
        ("edge_exray.profiling.budget", "from edge_exray.diagnosis.report import CheckResult"),
        ("edge_exray.models.tflite", "import numpy as np\nfrom edge_exray import errors, schemas"),
    ],
)
def test_right_arrows_are_let_through(module, source):
    assert not offences(source, module)


@pytest.mark.parametrize("name", sorted(edge_exray._LAZY))
def test_public_names_exist_where_the_table_says(name):
    tree = ast.parse(MODULES[edge_exray._LAZY[name]].read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("edge_exray", HEAVY | {"numpy", "jsonschema", "typer", "rich"}),
        ("edge_exray.cli.main", HEAVY),
        ("edge_exray.monitor", HEAVY | {"google.protobuf", "jsonschema", "psutil"}),
        ("edge_exray.api", HEAVY - {"ai_edge_litert"} | {"typer"}),
    ],
)
def test_import_stays_cheap(module, unwanted):
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not unwanted.intersection(loaded)
