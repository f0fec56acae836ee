"""Checks that a user writes: where they run, and that none of them can pass by accident."""

import json
import pathlib
from xml.etree import ElementTree

import models_zoo
import pytest

import edge_exray
from edge_exray import errors
from edge_exray.diagnosis import checks
from edge_exray.diagnosis.check import STAGES
from edge_exray.diagnosis.evidence import Evidence, gather
from edge_exray.diagnosis.report import Report, Verdict
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.diagnosis.validator import diagnose
from edge_exray.frames.functions import load_functions
from edge_exray.replay.replay import replay
from edge_exray.replay.replayer import ModelPaths
from edge_exray.reporting import gist
from edge_exray.reporting.junit import render_junit


@pytest.fixture(scope="module")
def evidence(conv_net, edge_models, tmp_path_factory) -> Evidence:
    """Of a healthy int8 model."""
    paths = ModelPaths(conv_net, edge_models["none"], edge_models["int8"], "serving_dense")
    images, _ = models_zoo.make_frames(100, seed=2)
    frames = [{"image": image} for image in images]
    return gather(replay(paths, frames, tmp_path_factory.mktemp("replay") / "out"), ValidationSpec())


@pytest.fixture
def judge(evidence, tmp_path):
    """Judges the evidence with the checks of a module of this text."""

    def run(text: str) -> Report:
        path = tmp_path / "mine.py"
        path.write_text("import numpy as np\nimport edge_exray\n" + text)
        return diagnose(evidence, users_checks=load_functions(str(path)).checks)

    return run


def names(report: Report) -> list[str]:
    return [check.name for check in report.checks]


def check(report: Report, name: str):
    return next(c for c in report.checks if c.name == name)


PASSING = """
@edge_exray.check(after="{after}")
def mine(evidence):
    return edge_exray.finding("mine", True, "All is well.", {{"share": np.float32(0.5), "seen": np.arange(2)}})
"""


def test_a_check_runs_behind_the_check_that_it_names(judge):
    report = judge(PASSING.format(after="own_error"))
    assert names(report)[names(report).index("own_error") + 1] == "mine"
    assert report
    # Values of NumPy are numbers like all others in the report.
    assert check(report, "mine").evidence == {"share": 0.5, "seen": [0, 1]}
    assert Report.from_dict(json.loads(report.to_json())).checks == report.checks


@pytest.mark.parametrize(
    ("stage", "last"), [("inputs", "non_finite"), ("conversion", "conversion_drift"), ("outputs", "label_flip_rate")]
)
def test_a_check_runs_at_the_end_of_its_stage(judge, stage, last):
    found = names(judge(PASSING.format(after=stage)))
    following = found[found.index("mine") + 1 :]
    assert last in found[: found.index("mine")]
    builtin = [made.name for made in checks.CHECKS if STAGES.index(made.after) > STAGES.index(stage)]
    assert following == [name for name in builtin if name in found]


def test_checks_that_follow_the_same_thing_or_one_another_keep_their_order(judge):
    text = "".join(
        f'@edge_exray.check(after="{after}")\n'
        f'def {name}(evidence):\n    return edge_exray.finding("{name}", True, "Well.", {{}})\n'
        for name, after in (("fourth", "third"), ("first", "constants"), ("second", "constants"), ("third", "second"))
    )
    found = names(judge(text))
    at = found.index("constants_parity")
    assert found[at + 1 : at + 5] == ["first", "second", "third", "fourth"]


def test_classes_and_instances_are_checks_too(judge):
    report = judge("""
class Frames:
    def __init__(self, least):
        self.least = least
    def __call__(self, evidence):
        seen = evidence.agreement.frames
        return edge_exray.finding("enough_frames", seen >= self.least, f"{seen} frames.", {"frames": seen})

enough_frames = edge_exray.check(after="inputs", name="enough_frames")(Frames(least=101))

@edge_exray.check(after="inputs")
class NothingToSay:
    def __call__(self, evidence):
        return None
""")
    assert check(report, "enough_frames").verdict is Verdict.FAILED
    assert report.summary == "The edge model must not ship. 100 frames."
    assert "nothing_to_say" not in names(report)


def test_a_check_may_suspect_layers(judge):
    report = judge("""
@edge_exray.check(after="quantization")
def no_softmax(evidence):
    bad = [layer for layer in evidence.layers if layer.op == "SOFTMAX"]
    suspects = [edge_exray.suspected(layer, "quantization", "it is a softmax") for layer in bad]
    message = f"There is {edge_exray.place_of(bad[0])}."
    return edge_exray.CheckResult("no_softmax", edge_exray.Verdict.FAILED, message), suspects
""")
    (suspect,) = report.suspects
    assert (suspect.op, suspect.check) == ("SOFTMAX", "no_softmax")
    assert report.attribution["blame"] == "quantization"
    assert report.attribution["suspect"]["layer"] == suspect.layer


def test_a_check_that_raises_has_failed_with_its_traceback(judge, tmp_path):
    report = judge("""
def helper(evidence):
    return 1 / 0

@edge_exray.check(after="inputs")
def mine(evidence):
    limit = 3
    return helper(evidence)
""")
    found = check(report, "mine")
    assert report.verdict is found.verdict is Verdict.FAILED
    assert f"ZeroDivisionError: division by zero ({tmp_path / 'mine.py'}, line 5)" in found.message
    assert "line 10, in mine" in found.evidence["traceback"]
    assert report.summary.startswith("The edge model is not cleared to ship. The check itself failed")
    # The others still ran.
    assert set(names(report)) > {"own_error", "quantization_drift", "label_flip_rate"}


def test_a_finding_about_the_model_comes_before_a_broken_check(judge):
    report = judge("""
@edge_exray.check(after="inputs")
def mine(evidence):
    raise ValueError("typo")

@edge_exray.check(after="outputs")
def last(evidence):
    return edge_exray.finding("last", False, "It answers too slowly.", {})
""")
    assert report.summary == "The edge model must not ship. It answers too slowly."
    assert gist.decisive_check(report.to_dict())["name"] == "last"
    cases = {case.get("name"): case for case in ElementTree.fromstring(render_junit(report)).iter("testcase")}
    assert cases["mine"].find("error") is not None
    assert cases["last"].find("failure") is not None


SUSPECT = "return edge_exray.finding('mine', True, 'Well.', {{}}, [edge_exray.Suspect({}, 'ADD', 'x', None, '{}', '')])"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("return True", "returned bool where a CheckResult belongs"),
        ("return edge_exray.finding('other', True, 'Well.', {})", "'other', its own name is mine"),
        ("return edge_exray.CheckResult('mine', 'ok', 'Well.')", "'ok', not one of edge_exray.Verdict"),
        ("return edge_exray.finding('mine', True, '  ', {})", "gave no message"),
        ("return edge_exray.finding('mine', True, 'Well.', {'x': object()})", "evidence that JSON cannot hold"),
        ("return edge_exray.finding('mine', True, 'Well.', [1])", "evidence that is no dictionary"),
        ("return edge_exray.CheckResult('mine', edge_exray.Verdict.PASSED, 'Well.'), [7]", "list of Suspect"),
        (SUSPECT.format(99, "kernel"), "suspects layer 99"),
        (SUSPECT.format(0, "own"), "in leg 'own'"),
    ],
)
def test_nonsense_has_failed(judge, tmp_path, body, words):
    report = judge(f"@edge_exray.check(after='outputs')\ndef mine(evidence):\n    {body}\n")
    found = check(report, "mine")
    assert found.verdict is report.verdict is Verdict.FAILED
    assert words in found.message
    assert str(tmp_path / "mine.py") in found.message
    assert json.loads(report.to_json())["verdict"] == "failed"


def test_a_check_without_parameters_names_its_own_line(judge, tmp_path):
    report = judge("@edge_exray.check(after='outputs')\ndef mine():\n    return None\n")
    assert (
        f"takes 0 positional arguments but 1 was given ({tmp_path / 'mine.py'}, line 3)"
        in check(report, "mine").message
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@edge_exray.check(after='inputs')\ndef own_error(e): ...", "already a check own_error"),
        ("@edge_exray.check(after='inputs')\ndef tfma_thresholds(e): ...", "already a check tfma_thresholds"),
        (
            "@edge_exray.check(after='inputs')\ndef a(e): ...\n@edge_exray.check(after='inputs')\ndef a(e): 1",
            r"already a check a, .*mine\.py, line 3; rename",
        ),
        (
            "@edge_exray.check(after='inputs')\ndef a(e): ...\nb = edge_exray.check(after='inputs', name='a')(print)",
            "already a check a",
        ),
        ("@edge_exray.check(after='quantisation')\ndef a(e): ...", "quantisation.*did you mean quantization"),
        (
            "@edge_exray.check(after='b')\ndef a(e): ...\n@edge_exray.check(after='a')\ndef b(e): ...",
            "check a of .* runs after b, which is neither",
        ),
        ("@edge_exray.check\ndef a(e): ...", r"needs a place: write @edge_exray.check\(after="),
        ("a = edge_exray.check(after='inputs')(3)", "for functions and classes, not 3"),
        ("def mine(evidence): ...", "no function in it is a check"),
    ],
)
def test_a_check_without_a_place_or_a_name_of_its_own_is_refused(judge, text, words):
    with pytest.raises(errors.ModuleError, match=words):
        judge(text)


def test_one_module_holds_functions_and_checks(tmp_path):
    path = tmp_path / "both.py"
    path.write_text("import edge_exray\n" + PASSING.format(after="inputs") + "\ndef label_fn(example):\n    return 1\n")
    functions = load_functions(str(path))
    assert [made.name for made in functions.checks] == ["mine"]
    assert functions.label_fn({}) == 1
    assert functions.checks[0].source == (str(path), 3)


def test_validate_takes_the_checks_of_its_module_and_refuses_wrong_ones_before_the_work(
    conv_net, edge_models, tmp_path, monkeypatch
):
    path = tmp_path / "mine.py"
    path.write_text("import edge_exray\n@edge_exray.check(after='outputs')\ndef frames(evidence): ...\n")
    images, _ = models_zoo.make_frames(3)
    arguments = (conv_net, edge_models["int8"], [{"image": image} for image in images])
    options = {"float_edge": edge_models["none"], "signature": "serving_dense", "module": str(path)}
    with monkeypatch.context() as patch:
        patch.setattr("edge_exray.api.replay", None)
        with pytest.raises(errors.ModuleError, match="already a check frames"):
            edge_exray.validate(*arguments, **options)
    text = path.read_text().replace("def frames(evidence): ...", "def mine(evidence): raise ValueError('no')")
    path.write_text(text)
    report = edge_exray.validate(*arguments, **options)
    assert [c.name for c in report.failed_checks] == ["mine"]


def test_built_in_checks_are_made_like_those_of_users():
    assert {type(made) for made in checks.CHECKS} == {type(edge_exray.check(after="inputs")(print))}
    assert list(dict.fromkeys(made.after for made in checks.CHECKS)) == list(STAGES)
    assert [made for _, made in checks.arrange()] == list(checks.CHECKS)
    assert all(pathlib.Path(made.source[0]).is_file() for made in checks.CHECKS)
