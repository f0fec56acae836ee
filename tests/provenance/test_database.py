import importlib.util
import pathlib

import pytest
from exray_command import exray
from recorded_runs import Recorder

import edge_exray
from edge_exray import errors, provenance
from edge_exray.provenance.database import connection_config


def test_a_missing_file_stays_missing(tmp_path):
    with pytest.raises(errors.ArtifactError, match="no such file"):
        edge_exray.lineage(tmp_path / "metadata.sqlite")
    config = tmp_path / "config.pbtxt"
    config.write_text(f'sqlite {{ filename_uri: "{tmp_path}/metadata.sqlite" connection_mode: READWRITE_OPENCREATE }}')
    with pytest.raises(errors.ArtifactError, match=r"metadata\.sqlite, which .*config.pbtxt names"):
        edge_exray.lineage(config)
    assert [path.name for path in tmp_path.iterdir()] == ["config.pbtxt"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\x00\xff\x00\xff", "neither a SQLite database nor an ml-metadata ConnectionConfig"),
        (b"These are my notes.", "neither a SQLite database nor an ml-metadata ConnectionConfig"),
        (b'{"mysql": {"hots": "db"}}', "neither a SQLite database nor an ml-metadata ConnectionConfig"),
        (b"fake_database {}", "names no database"),
        (b"SQLite format 3\0" + bytes(200), "cannot be read as ML Metadata"),
    ],
)
def test_another_file_is_one_line_of_error(tmp_path, content, reason):
    file = tmp_path / "metadata"
    file.write_bytes(content)
    result = exray("lineage", file)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"exray: {file}")
    assert reason in line
    assert file.read_bytes() == content


@pytest.mark.parametrize("text", ['mysql {\n password: "s3cret\n}', "mysql { password: s3cret }", '{"s3cret": 1}'])
def test_what_cannot_be_parsed_keeps_its_password(tmp_path, text):
    file = tmp_path / "config"
    file.write_text(text)
    assert "s3cret" not in exray("lineage", file, "--debug").stderr


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(errors.ArtifactError, match="it is a folder"):
        connection_config(tmp_path)


@pytest.mark.parametrize("text", ['sqlite {{ filename_uri: "{0}" }}', '{{"sqlite": {{"filenameUri": "{0}"}}}}'])
def test_a_file_with_a_configuration_names_the_database(tmp_path, text):
    record = Recorder(tmp_path)
    record.gate("1")
    config = tmp_path / "config"
    config.write_text(text.format(record.database))
    assert edge_exray.lineage(config).push.run == "1"
    assert connection_config(config).sqlite.connection_mode == 1  # READONLY


def test_an_address_of_mysql(monkeypatch):
    monkeypatch.setenv("MYSQL_PWD", "from the environment")
    mysql = connection_config("mysql://tfx:s%2Fe%40c@db.example:3307/ml%20metadata").mysql
    assert (mysql.host, mysql.port, mysql.user, mysql.password) == ("db.example", 3307, "tfx", "s/e@c")
    # Otherwise ml-metadata makes the database that it does not find.
    assert (mysql.database, mysql.skip_db_creation) == ("ml metadata", True)
    mysql = connection_config("mysql://tfx@db.example/metadb").mysql
    assert (mysql.port, mysql.password) == (3306, "from the environment")


def test_a_configuration_of_mysql_gets_the_password_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("MYSQL_PWD", "from the environment")
    config = tmp_path / "config.pbtxt"
    config.write_text('mysql { host: "db" database: "metadb" user: "tfx" }')
    mysql = connection_config(config).mysql
    assert (mysql.password, mysql.skip_db_creation) == ("from the environment", True)


@pytest.mark.parametrize(
    "address",
    ["mysql://db", "mysql://tfx:hidden@db", "mysql://tfx:hidden@/metadb", "mysql://tfx:hid/den@db/metadb", "mysql://"],
)
def test_a_wrong_address_says_how_to_write_it_and_keeps_the_password(address):
    with pytest.raises(errors.SpecError, match=r"write mysql://USER\[:PASSWORD\]@HOST") as caught:
        connection_config(address)
    assert "hid" not in str(caught.value)


def test_without_ml_metadata_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    source = pathlib.Path(provenance.__file__).read_text("utf-8")
    with pytest.raises(errors.ExrayError, match=r"pip install edge-exray\[lineage\]"):
        exec(source, {})
