"""The Dockerfile, as far as it can be judged without building it; `make newest-stack-test` builds it."""

import pathlib
import subprocess
import sys

import docker.utils
import dockerfile
import pytest

ROOT = pathlib.Path(__file__).parent.parent
HADOLINT = pathlib.Path(sys.executable).with_name("hadolint")


@pytest.fixture(scope="module")
def steps() -> tuple[dockerfile.Command, ...]:
    return dockerfile.parse_file(str(ROOT / "Dockerfile"))


def lint(text: str) -> subprocess.CompletedProcess:
    return subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, timeout=60)


def test_make_lint_would_find_a_bad_step():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert lint(text).returncode == 0
    bad = lint(text.replace("\nUSER 1000", "\nUSER root\nRUN cd /tmp && sudo true"))
    assert bad.returncode == 1
    assert {"DL3002", "DL3003", "DL3004"} <= {line.split()[1] for line in bad.stdout.splitlines()}


def test_without_a_target_the_image_is_the_full_one(steps):
    assert [step.value[-1] for step in steps if step.cmd == "FROM"][-1] == "full"


def test_images_that_ship_do_not_run_as_root(steps):
    users: dict[str, str] = {}
    for step in steps:
        if step.cmd == "FROM":
            stage = step.value[-1]
        elif step.cmd == "USER":
            users[stage] = step.value[0]
    assert users == {"runtime": "1000", "full": "1000"}


def test_the_builder_is_sent_what_the_steps_copy_and_nothing_that_was_made_here(steps, tmp_path):
    copied = {source for step in steps if step.cmd == "COPY" and not step.flags for source in step.value[:-1]} - {"."}
    made = {".venv/a", "build/a", "demo-run/a", ".git/a", "edge_exray/__pycache__/a.pyc"}
    wanted = {source if (ROOT / source).is_file() else f"{source}/a.py" for source in copied} | {"tests/a.py"}
    for name in made | wanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    patterns = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    sent = docker.utils.exclude_paths(str(tmp_path), patterns)
    assert {name for name in sent if (tmp_path / name).is_file()} == wanted
    assert all((ROOT / source).exists() for source in copied)
