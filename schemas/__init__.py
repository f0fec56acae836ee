"""JSON Schemas of everything that crosses a process boundary, and the one function that applies them."""

import functools
import importlib.resources
import json
from typing import Any

from edge_exray import errors


@functools.cache
def load(name: str) -> dict[str, Any]:
    """Returns the JSON Schema `name` (for example `"report"`), parsed from `schemas/<name>.schema.json`."""
    text = importlib.resources.files(__name__).joinpath(f"{name}.schema.json").read_text("utf-8")
    return json.loads(text)


def check(document: Any, name: str, error: type[errors.ExrayError], title: str = "") -> None:
    """Validates a JSON document against the schema `name`.

    Args:
        document: The parsed JSON document.
        name: Name of the schema, see `load`.
        error: Class of the error to raise.
        title: What messages call the document; by default the name of the schema.

    Raises:
        error: The document does not fit; the message names the place and the rule of the first violation.
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(load(name))
    violation = jsonschema.exceptions.best_match(validator.iter_errors(document))
    if violation is not None:
        place = violation.json_path.removeprefix("$").removeprefix(".") or "the document itself"
        raise error(f"{title or name.replace('_', ' ')}: {place}: {violation.message}")
