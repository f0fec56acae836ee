"""The base of all user-written specifications: dataclasses that read and write schema-checked JSON."""

import dataclasses
import difflib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from typing_extensions import Self

from edge_exray import errors, schemas


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns how a sentence about an unknown word ends: with the choice that is nearest to it, if any is near."""
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]}?" if near else "."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object; of a key that stands twice nobody knows which value was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has the key {next(key for key in keys if keys.count(key) > 1)} twice")
    return found


@dataclasses.dataclass(frozen=True)
class JsonSpec:
    """A frozen dataclass whose JSON form is described by `schemas/<schema_name>.schema.json`.

    Subclasses set `schema_name` and give every field a default, so that `{}` is a valid document.
    """

    schema_name: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuses what the schema refuses, so that a value out of range is told before the work and not after it.

        Raises:
            SpecError: A value is none of JSON or out of range; the key is named.
        """
        try:
            document = json.loads(self.to_json())
        except (TypeError, ValueError) as e:
            raise errors.SpecError(f"{self._title('')} has a value that JSON lacks: {e}; give plain types") from e
        schemas.check(document, self.schema_name, errors.SpecError, self._title(""))

    @classmethod
    def from_any(cls, given: "Self | Mapping[str, Any] | str | os.PathLike[str] | None") -> Self:
        """Returns a spec in whatever form it is given.

        Args:
            given: The spec itself, its document as a mapping or as JSON text, the path of a file of it, or None for
                the defaults.

        Raises:
            SpecError: The file cannot be read, or see `from_json`.
        """
        if given is None or isinstance(given, cls):
            return given or cls()
        if isinstance(given, Mapping):
            return cls.from_dict(dict(given))
        if isinstance(given, str) and (not given.strip() or given.lstrip()[0] in "{["):
            return cls.from_json(given)
        if not isinstance(given, str | os.PathLike):
            raise errors.SpecError(
                f"{cls._title('')} is a {type(given).__name__}: give a {cls.__name__}, a dict, JSON or a path of it"
            )
        try:
            text = pathlib.Path(given).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            reason = e.strerror if isinstance(e, OSError) else "it is no text"
            raise errors.SpecError(f"cannot read the {cls._title(os.fspath(given))}: {reason}") from e
        return cls.from_json(text, os.fspath(given))

    @classmethod
    def from_json(cls, text: str | None, source: str = "") -> Self:
        """Parses a JSON document; None or an empty text that is no file's gives the defaults.

        Args:
            text: The document.
            source: Name of the file that it is from, for messages.

        Raises:
            SpecError: The text is no JSON, or has an unknown key or a value out of range; the key is named.
        """
        if not text or not text.strip():
            if source:
                raise errors.SpecError(f"{cls._title(source)} is empty; write {{}} for the defaults")
            return cls()
        try:
            document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        except ValueError as e:
            raise errors.SpecError(f"{cls._title(source)} is not valid JSON: {e}") from e
        return cls.from_dict(document, source)

    @classmethod
    def from_dict(cls, document: dict[str, Any], source: str = "") -> Self:
        """Builds the spec from a parsed JSON document; see `from_json`."""
        allowed = [field.name for field in dataclasses.fields(cls)]
        unknown = [key for key in document if key not in allowed] if isinstance(document, dict) else []
        if unknown:
            near = did_you_mean(unknown[0], allowed)
            raise errors.SpecError(
                f"{cls._title(source)} has the unknown key {unknown[0]}{near} Its keys are {', '.join(allowed)}"
            )
        schemas.check(document, cls.schema_name, errors.SpecError, cls._title(source))
        return cls._build(document)

    @classmethod
    def _build(cls, document: dict[str, Any]) -> Self:
        """Makes the spec of a document that fits the schema."""
        return cls(**document)

    @classmethod
    def _title(cls, source: str) -> str:
        return " ".join(filter(None, [cls.schema_name.replace("_", " "), source]))

    def to_json(self) -> str:
        """Returns the document in a canonical form (sorted keys), so that equal specs give equal cache keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)
