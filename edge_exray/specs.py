"""The base of all user-written specifications: dataclasses that read and write schema-checked JSON."""

import dataclasses
import json
from typing import Any, ClassVar

from typing_extensions import Self

from edge_exray import errors, schemas


@dataclasses.dataclass(frozen=True)
class JsonSpec:
    """A frozen dataclass whose JSON form is described by `schemas/<schema_name>.schema.json`.

    Subclasses set `schema_name` and give every field a default, so that `{}` is a valid document.
    """

    schema_name: ClassVar[str]

    @classmethod
    def from_json(cls, text: str | None) -> Self:
        """Parses a JSON document; None or an empty text gives the defaults.

        Raises:
            SpecError: The text is no JSON, or has an unknown key or a value out of range; the key is named.
        """
        if not text or not text.strip():
            return cls()
        try:
            document = json.loads(text)
        except json.JSONDecodeError as e:
            raise errors.SpecError(f"{cls.schema_name.replace('_', ' ')} is not valid JSON: {e}") from e
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Builds the spec from a parsed JSON document; see `from_json`."""
        schemas.check(document, cls.schema_name, errors.SpecError)
        return cls(**document)

    def to_json(self) -> str:
        """Returns the document in a canonical form (sorted keys), so that equal specs give equal cache keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
