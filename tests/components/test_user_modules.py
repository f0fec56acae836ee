import os
import pathlib
import sys

import pytest
from tfx.components.util import udf_utils

from edge_exray import errors
from edge_exray.components import user_modules
from edge_exray.frames.functions import load_functions


def _package(folder: pathlib.Path, name: str, label: int) -> dict[str, str | None]:
    """What TFX makes of `module_file=FOLDER/preprocessing.py`, which uses a module beside it."""
    folder.mkdir()
    (folder / "constants.py").write_text(f"LABEL = {label}\n")
    (folder / "preprocessing.py").write_text("import constants\n\ndef label_fn(example):\n    return constants.LABEL\n")
    _, key = udf_utils.package_user_module_file(name, str(folder / "preprocessing.py"), str(folder / "root"))
    return {"module_file": None, "module_path": key}


def test_modules_of_two_components_with_the_same_names_do_not_mix(tmp_path):
    # A file that was loaded before, as a notebook may have done, has neighbours of these names too.
    (tmp_path / "notebook").mkdir()
    for name in ("constants", "preprocessing"):
        (tmp_path / "notebook" / f"{name}.py").write_text("LABEL = 7\nlabel_fn = lambda example: LABEL\n")
    assert load_functions(str(tmp_path / "notebook" / "preprocessing.py")).label_fn({}) == 7
    before = [p for p in sys.path if p != str(tmp_path / "notebook")], os.environ.get("PYTHONPATH")
    first, second = (_package(tmp_path / n, n, i) for i, n in enumerate(("first", "second")))

    for expected, properties in ((0, first), (1, second)):
        with user_modules.installed(properties) as module:
            assert module.source == "preprocessing"
            assert [pathlib.Path(p).suffix for p in module.packages] == [".whl"]
            installed = os.environ["PYTHONPATH"].split(os.pathsep)[-1]
            assert pathlib.Path(installed, "preprocessing.py").exists()
            assert load_functions(module.source).label_fn({}) == expected
        assert not pathlib.Path(installed).exists()

    assert (sys.path[:], os.environ.get("PYTHONPATH")) == before
    assert not {"preprocessing", "constants"} & set(sys.modules)


def test_plain_module_path_and_none(tmp_path, monkeypatch):
    (tmp_path / "plainly_importable.py").write_text("def label_fn(example):\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    with user_modules.user_functions({"module_path": "plainly_importable"}) as functions:
        assert functions.label_fn({}) == 7
    with user_modules.installed({"module_path": None}) as module:
        assert module == user_modules.UserModule(None)


def test_missing_module_is_named():
    with (
        pytest.raises(errors.ModuleError, match="module no_such_module does not import"),
        user_modules.user_functions({"module_path": "no_such_module"}),
    ):
        pass


def test_file_and_path_exclude_each_other():
    with pytest.raises(errors.SpecError, match="EdgeReplay: module_file and module_path"):
        user_modules.require_one("EdgeReplay", "a.py", "a")
    user_modules.require_one("EdgeReplay", "a.py", None)
