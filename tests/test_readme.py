import dataclasses
import pathlib
import re

import pytest

from edge_exray.conversion import modes
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.profiling.spec import ProfileSpec

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize("field", dataclasses.fields(ValidationSpec), ids=lambda field: field.name)
def test_every_limit_is_listed_with_its_default(field):
    default = f"{field.default:g}" if isinstance(field.default, int | float) else field.default or "none"
    assert re.search(rf"`{field.name}` [(\"]?{default}\b", README)


def test_every_budget_and_every_mode_is_listed():
    for field in dataclasses.fields(ProfileSpec):
        assert f"`{field.name}`" in README
    for mode in modes.MODES:
        assert f"| `{mode}` |" in README
