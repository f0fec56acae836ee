"""Artifacts in buckets are files while an executor works."""

import importlib
import pathlib

import pytest
from tfx.types import standard_artifacts

from edge_exray import errors
from edge_exray.components import buckets

COMPONENTS = ("edge_converter", "edge_log_example_gen", "edge_replay", "kernel_profiler", "layer_validator")


class Copier:
    """Copies its input with plain file operations, and notes where everything is."""

    @buckets.as_files
    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        (given,), (made,) = input_dict["given"], output_dict["made"]
        pathlib.Path(made.uri).mkdir(parents=True)
        pathlib.Path(made.uri, "content").write_bytes(pathlib.Path(given.uri, "content").read_bytes())
        made.set_string_custom_property("source", given.uri)
        made.set_int_custom_property("blessed", 1)
        if exec_properties.get("fail"):
            raise errors.DataError("no good")


@pytest.fixture
def mount(tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "MOUNTS", {"gs://": f"{tmp_path}/gcs/", "s3://": f"{tmp_path}/s3/"})
    (tmp_path / "gcs/bucket/given").mkdir(parents=True)
    (tmp_path / "s3").mkdir()
    (tmp_path / "gcs/bucket/given/content").write_text("of a bucket")
    return tmp_path / "gcs/bucket"


def artifact(uri):
    made = standard_artifacts.Model()
    made.uri = uri
    return made


@pytest.mark.parametrize("fail", [False, True])
def test_files_of_the_launcher_stand_for_the_bucket_as_long_as_the_executor_works(mount, fail):
    given, made = artifact("gs://bucket/given"), artifact("gs://bucket/root/made")
    properties = {"fail": fail}
    if fail:
        with pytest.raises(errors.DataError):
            Copier().Do({"given": [given]}, {"made": [made]}, properties)
    else:
        Copier().Do({"given": [given]}, {"made": [made]}, properties)
        assert made.get_string_custom_property("source") == "gs://bucket/given"
        assert made.get_int_custom_property("blessed") == 1
    assert (mount / "root/made/content").read_text() == "of a bucket"
    assert (given.uri, made.uri) == ("gs://bucket/given", "gs://bucket/root/made")


def test_folders_stay_as_they_are(mount, tmp_path):
    made = artifact(str(tmp_path / "made"))
    Copier().Do({"given": [artifact(str(mount / "given"))]}, {"made": [made]}, {})
    assert made.get_string_custom_property("source") == str(mount / "given")


@pytest.mark.parametrize(
    ("uri", "words"), [("s3://bucket/x", "there is no .*/s3/bucket here"), ("hdfs://x", "only gs://, s3:// have")]
)
def test_a_bucket_without_files_is_an_error_that_says_so(mount, uri, words):
    with pytest.raises(errors.ArtifactError, match=f"artifact {uri}: .*{words}"):
        Copier().Do({"given": [artifact("gs://bucket/given")]}, {"made": [artifact(uri)]}, {})


def test_device_logs_in_a_bucket_without_files_keep_their_uri(mount):
    seen = []

    class Noter:
        @buckets.as_files
        def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
            seen.extend(artifact.uri for artifact in input_dict["device_logs"])

    Noter().Do({"device_logs": [artifact("s3://phones/logs"), artifact("gs://bucket/given")]}, {}, {})
    assert seen == ["s3://phones/logs", str(mount / "given")]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_executor_does_so(component):
    executor = importlib.import_module(f"edge_exray.components.{component}.executor").Executor
    assert executor.Do.__wrapped__
