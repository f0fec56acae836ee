"""Opens ML Metadata without changing it: a SQLite file, MySQL, or what a file with a connection configuration says."""

import os
import pathlib
import urllib.parse
from typing import Any

import ml_metadata as mlmd
from google.protobuf import json_format, text_format
from ml_metadata.proto import metadata_store_pb2

from edge_exray import errors

PASSWORD_VARIABLE = "MYSQL_PWD"
"""Environment variable of the password for MySQL, the one that MySQL's own client reads."""

_SQLITE_HEAD = b"SQLite format 3\0"
_MYSQL_PREFIX = "mysql://"
_MYSQL_PORT = 3306
_MYSQL_FORM = f"write {_MYSQL_PREFIX}USER[:PASSWORD]@HOST[:PORT]/DATABASE, with %2F for / and the like in each"


def open_store(database: str | os.PathLike[str]) -> mlmd.MetadataStore:
    """Connects to the metadata of pipelines.

    Args:
        database: See `connection_config`.

    Raises:
        ArtifactError: There is no such database, or it cannot be read.
        SpecError: The address or the configuration is not understood.
    """
    config = connection_config(database)
    try:
        store = mlmd.MetadataStore(config)
        # The version of the tables is looked at, but only a query shows that they can be read.
        store.get_context_types()
    except (RuntimeError, mlmd.errors.StatusError) as e:
        if "readonly database query: CREATE TABLE" in str(e):
            raise errors.ArtifactError(f"{_without_password(database)} has no tables of ML Metadata") from e
        # Of a server that does not answer or lets nobody in it says nothing.
        hint = f"; check server, user and password ({PASSWORD_VARIABLE})" if config.HasField("mysql") else ""
        raise errors.ArtifactError(
            f"{_without_password(database)} cannot be read as ML Metadata: {' '.join(str(e).split())}{hint}"
        ) from e
    return store


def connection_config(database: str | os.PathLike[str]) -> metadata_store_pb2.ConnectionConfig:
    """Returns how to connect to a database.

    Args:
        database: A SQLite file, which is opened for reading only; `mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE`,
            characters like `/` in it as `%2F`, and the password, if it is left out, in `MYSQL_PWD`; or a file with an
            ml-metadata ConnectionConfig as text proto or JSON. No database is made, but ml-metadata, which has no
            reading mode for MySQL, gives an empty one its tables.

    Raises:
        ArtifactError: There is no such file.
        SpecError: The address or the configuration is not understood.
    """
    name = os.fspath(database)
    if name.startswith(_MYSQL_PREFIX):
        return _mysql(name)
    path = pathlib.Path(name)
    try:
        content = path.read_bytes()[:_CONFIG_BYTES] if path.is_file() else None
    except OSError as e:
        raise errors.ArtifactError(f"cannot read the metadata {path}: {e.strerror}") from e
    if not content:
        reason = (
            "it is empty" if content is not None else "it is a folder" if path.is_dir() else "there is no such file"
        )
        raise errors.ArtifactError(
            f"{path} is no metadata database: {reason}; give the SQLite file of a pipeline, "
            f"{_MYSQL_PREFIX}USER@HOST/DATABASE, or a file with an ml-metadata ConnectionConfig"
        )
    config = _sqlite(path) if content.startswith(_SQLITE_HEAD) else _parse(path, content)
    if config.HasField("sqlite"):
        if not pathlib.Path(config.sqlite.filename_uri).is_file():
            raise errors.ArtifactError(f"there is no SQLite file {config.sqlite.filename_uri}, which {path} names")
        # Anything else would make the file, or its tables.
        config.sqlite.connection_mode = config.sqlite.READONLY
    if config.HasField("mysql"):
        config.mysql.password = config.mysql.password or os.environ.get(PASSWORD_VARIABLE, "")
        config.mysql.skip_db_creation = True
    if config.HasField("postgresql"):
        config.postgresql.skip_db_creation = True
    return config


# A configuration has a few lines; with a certificate some kilobytes.
_CONFIG_BYTES = 1 << 16


def _sqlite(path: pathlib.Path) -> metadata_store_pb2.ConnectionConfig:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return config


def _mysql(address: str) -> metadata_store_pb2.ConnectionConfig:
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port or _MYSQL_PORT
    except ValueError:
        # Python's own message holds the password, cut where a character of it ends the port.
        raise errors.SpecError(f"{_without_password(address)} has no number for a port: {_MYSQL_FORM}") from None
    fields: dict[str, Any] = {
        "host": parts.hostname,
        "database": urllib.parse.unquote(parts.path.removeprefix("/")),
        "user": urllib.parse.unquote(parts.username or ""),
    }
    missing = [name for name, value in fields.items() if not value]
    if missing or parts.query or parts.fragment:
        told = f"without {' and '.join(missing)}" if missing else "with something behind the database"
        raise errors.SpecError(f"{_without_password(address)} is an address {told}: {_MYSQL_FORM}")
    password = urllib.parse.unquote(parts.password or "") or os.environ.get(PASSWORD_VARIABLE, "")
    config = metadata_store_pb2.ConnectionConfig()
    # Without the last a misspelt name would make a new database.
    config.mysql.MergeFrom(
        metadata_store_pb2.MySQLDatabaseConfig(**fields, port=port, password=password, skip_db_creation=True)
    )
    return config


def _parse(path: pathlib.Path, content: bytes) -> metadata_store_pb2.ConnectionConfig:
    config = metadata_store_pb2.ConnectionConfig()
    try:
        text = content.decode("utf-8")
        if text.lstrip().startswith("{"):
            json_format.Parse(text, config)
        else:
            text_format.Parse(text, config)
    except (UnicodeDecodeError, json_format.ParseError, text_format.ParseError) as e:
        line = e.GetLine() if isinstance(e, text_format.ParseError) else None
        where = f", see its line {line}" if line else ""
        # The parser's own words quote the line, which may have the password.
        raise errors.SpecError(
            f"{path} is neither a SQLite database nor an ml-metadata ConnectionConfig (text proto or JSON){where}"
        ) from None
    if config.WhichOneof("config") in (None, "fake_database"):
        raise errors.SpecError(f"{path} names no database: it needs the section sqlite, mysql or postgresql")
    return config


def _without_password(database: str | os.PathLike[str]) -> str:
    name = os.fspath(database)
    head, at, place = name.rpartition("@")
    if not name.startswith(_MYSQL_PREFIX) or not at:
        return name
    user, _, _ = head.removeprefix(_MYSQL_PREFIX).partition(":")
    return f"{_MYSQL_PREFIX}{user}@{place}"
