import os
import pathlib

import models_zoo
import pytest
import tampering
import tensorflow as tf
from tfx import types
from tfx.components.pusher import executor as pusher
from tfx.components.util import model_utils
from tfx.types import artifact_utils, standard_artifacts

from edge_exray import errors
from edge_exray.components import KernelProfiler
from edge_exray.components.kernel_profiler.executor import Executor
from edge_exray.components.types import KernelProfile
from edge_exray.profiling.profile import Profile
from edge_exray.profiling.spec import ProfileSpec

EDGE_INPUTS = """
def edge_inputs_fn(example):
    return {"image": example["pixels"].reshape(16, 16, 3)}
"""


FORMS = ["profile.json", "profile.html", "chrome_trace.json", "model_explorer"]
# What benchmark_model prints on a phone whose GPU runs the whole model.
PHONE = """\
count=50 first=9000 curr=9000 min=8000 max=9900 avg=9000 std=100
============================== Run Order ==============================
	[node type]	[first]	[avg ms]	[%]	[cdf%]	[mem KB]	[times called]	[Name]
	TfLiteGpuDelegateV2	8.317	8.671	100.000%	100.000%	0.000	1	[probs]:6

Number of nodes executed: 1
"""


@pytest.fixture(scope="module")
def edge_model(edge_models, tmp_path_factory) -> types.Artifact:
    """A Model artifact as EdgeConverter makes it."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(tmp_path_factory.mktemp("edge_model"))
    _write_model(artifact, pathlib.Path(edge_models["int8"]).read_bytes())
    return artifact


def _write_model(artifact: types.Artifact, content: bytes) -> None:
    folder = pathlib.Path(artifact.uri) / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "tflite").write_bytes(content)


def _examples(folder: pathlib.Path, count: int) -> types.Artifact:
    """An Examples artifact whose feature is not named like the model's input."""
    images, _ = models_zoo.make_frames(count)
    (folder / "Split-eval").mkdir()
    with tf.io.TFRecordWriter(str(folder / "Split-eval" / "data-0.gz"), "GZIP") as writer:
        for image in images:
            pixels = tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel()))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"pixels": pixels})).SerializeToString())
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["eval"])
    return artifact


@pytest.fixture
def outputs(tmp_path) -> dict[str, list[types.Artifact]]:
    blessing, profile = standard_artifacts.InfraBlessing(), KernelProfile()
    blessing.uri, profile.uri = str(tmp_path / "blessing"), str(tmp_path / "profile")
    return {"blessing": [blessing], "profile": [profile]}


def do(inputs: dict[str, types.Artifact], outputs: dict[str, list[types.Artifact]], spec: dict, **parameters) -> None:
    """Runs the executor with the parameters that the component would give it."""
    channels = {name: types.Channel(type=type(artifact)) for name, artifact in inputs.items()}
    profile_spec = ProfileSpec(runs=10, warmup_runs=1, precision=None, **spec).to_json()
    component = KernelProfiler(**channels, profile_spec=profile_spec, **parameters)
    Executor().Do({name: [artifact] for name, artifact in inputs.items()}, outputs, component.exec_properties)


def files(outputs: dict[str, list[types.Artifact]]) -> list[str]:
    folders = [pathlib.Path(artifact.uri) for (artifact,) in outputs.values()]
    return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]


def test_a_model_within_its_budgets_is_blessed_as_pusher_reads_it(edge_model, outputs):
    spec = {"max_latency_ms": 1e6, "max_latency_ratio_to_float": 1e6, "max_size_bytes": 10**9}
    do({"edge_model": edge_model, "float_edge_model": edge_model}, outputs, spec)

    (blessing,), (profile_artifact,) = outputs["blessing"], outputs["profile"]
    assert set(files(outputs)) == {"INFRA_BLESSED", *FORMS}
    assert model_utils.is_infra_validated(blessing)
    assert pusher.Executor().CheckBlessing({"infra_blessing": [blessing]})
    assert blessing.get_string_custom_property("verdict") == "passed"
    assert blessing.get_string_custom_property("failed_checks") == ""
    assert blessing.get_string_custom_property("profile") == profile_artifact.uri
    profile = Profile.load(os.path.join(profile_artifact.uri, "profile.json"))
    assert [model.role for model in profile.models] == ["edge", "float_edge"]
    assert profile_artifact.get_int_custom_property("size_bytes") == profile.models[0].bytes
    assert profile_artifact.get_float_custom_property("latency_p50_ms") == profile.models[0].latency_ms.p50


def test_a_model_over_its_budget_is_not_blessed_and_the_log_says_why(edge_model, outputs, caplog):
    do({"edge_model": edge_model}, outputs, {"max_latency_ms": 1e-6, "max_size_bytes": 1, "max_memory_bytes": 10**12})

    (blessing,), _ = outputs["blessing"], outputs["profile"]
    assert set(files(outputs)) == {"INFRA_NOT_BLESSED", *FORMS}
    assert not model_utils.is_infra_validated(blessing)
    assert not pusher.Executor().CheckBlessing({"infra_blessing": [blessing]})
    assert blessing.get_string_custom_property("verdict") == "failed"
    assert blessing.get_string_custom_property("failed_checks") == "latency_p50,size"
    reason = blessing.get_string_custom_property("reason")
    assert "budget of 1e-06 ms" in reason
    assert "CONV_2D" in reason
    (line,) = [record.getMessage() for record in caplog.records if "does not bless" in record.getMessage()]
    assert reason in line
    assert "\n" not in line


def test_a_model_that_cannot_be_judged_is_not_blessed(edge_model, outputs):
    do({"edge_model": edge_model}, outputs, {"max_latency_ratio_to_float": 10})
    (blessing,) = outputs["blessing"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("verdict") == "inconclusive"


@pytest.mark.parametrize(("budget", "blessed"), [(9.2, 1), (8.0, 0), (9.0, 0)])
def test_the_profile_of_a_phone_gates_the_push(edge_model, outputs, tmp_path, budget, blessed):
    phone = tmp_path / "phone.txt"
    phone.write_text(PHONE)
    do({"edge_model": edge_model}, outputs, {"max_latency_ms": budget}, device_profiles={"phone": str(phone)})
    (blessing,), (profile_artifact,) = outputs["blessing"], outputs["profile"]
    assert blessing.get_int_custom_property("blessed") == blessed
    profile = Profile.load(os.path.join(profile_artifact.uri, "profile.json"))
    assert [(model.role, model.kernels) for model in profile.models] == [("edge", "xnnpack"), ("edge@phone", "gpu")]
    assert profile_artifact.get_string_custom_property("devices") == "phone"
    assert blessing.get_string_custom_property("failed_checks") == ("latency_p50@phone" if budget == 8.0 else "")


def test_an_undecided_model_passes_on_request_and_the_log_says_so(edge_model, outputs, caplog):
    do({"edge_model": edge_model}, outputs, {"max_latency_ratio_to_float": 10, "on_inconclusive": "pass"})
    (blessing,), (profile_artifact,) = outputs["blessing"], outputs["profile"]
    assert set(files(outputs)) == {"INFRA_BLESSED", *FORMS}
    assert blessing.get_string_custom_property("verdict") == "inconclusive"
    assert profile_artifact.get_int_custom_property("blessed") == 1
    assert any("as on_inconclusive says" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("growth", "blessed"), [(1e6, 1), (1e-6, 0)])
def test_the_last_blessed_model_is_timed_again_beside_the_new_one(edge_model, outputs, tmp_path, growth, blessed):
    do({"edge_model": edge_model}, outputs, {})
    (last,) = outputs["profile"]
    assert last.get_int_custom_property("blessed") == 1

    blessing, new = standard_artifacts.InfraBlessing(), KernelProfile()
    blessing.uri, new.uri = str(tmp_path / "next_blessing"), str(tmp_path / "next_profile")
    again = {"blessing": [blessing], "profile": [new]}
    do({"edge_model": edge_model, "baseline_profile": last}, again, {"max_latency_growth": growth})
    profile = Profile.load(os.path.join(new.uri, "profile.json"))
    assert [model.role for model in profile.models] == ["edge", "baseline"]
    assert [check.name for check in profile.checks] == ["regression"]
    assert blessing.get_int_custom_property("blessed") == new.get_int_custom_property("blessed") == blessed


def test_the_run_fails_on_request(edge_model, outputs):
    with pytest.raises(errors.NotBlessedError, match="over the budget of 1:"):
        do({"edge_model": edge_model}, outputs, {"max_size_bytes": 1}, fail_on_not_blessed=True)


def test_examples_go_through_the_users_module(edge_model, outputs, tmp_path):
    module = tmp_path / "app.py"
    module.write_text(EDGE_INPUTS)
    folder = tmp_path / "examples"
    folder.mkdir()
    inputs = {"edge_model": edge_model, "examples": _examples(folder, 3)}
    do(inputs, outputs, {}, module_file=str(module))
    assert "profile.json" in files(outputs)

    with pytest.raises(errors.DataError, match="no feature named like the model's input image"):
        do(inputs, outputs, {})


@pytest.mark.parametrize(("count", "split", "said"), [(0, "eval", "no examples"), (1, "test", "no split 'test'")])
def test_missing_examples_are_an_error_that_leaves_nothing(edge_model, outputs, tmp_path, count, split, said):
    folder = tmp_path / "examples"
    folder.mkdir()
    with pytest.raises(errors.DataError, match=said):
        do({"edge_model": edge_model, "examples": _examples(folder, count)}, outputs, {}, split=split)
    assert not files(outputs)


@pytest.mark.parametrize(("content", "said"), [(b"\x1c\0\0\0TFL3" + bytes(100), "tflite"), (None, "no edge model")])
def test_an_unusable_model_is_an_error_that_leaves_nothing(outputs, tmp_path, content, said):
    broken = standard_artifacts.Model()
    broken.uri = str(tmp_path / "broken")
    if content is not None:
        _write_model(broken, content)
    with pytest.raises(errors.ModelError, match=said) as error:
        do({"edge_model": broken}, outputs, {})
    assert "\n" not in str(error.value)
    assert not files(outputs)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"profile_spec": '{"max_latency": 3}'}, "max_latency"),
        ({"profile_spec": "{"}, "not valid JSON"),
        ({"module_path": "app"}, "give examples"),
        ({"module_path": "app", "module_file": "app.py"}, "exclude each other"),
        ({"num_examples": 0}, "num_examples"),
        ({"device_profiles": {"phone": "a.txt", "phone.flaot_edge": "b.txt"}}, "did you mean float_edge"),
        ({"profile_spec": '{"max_latency_growth": 1.1}'}, "baseline_profile: give both"),
        ({"baseline_profile": types.Channel(type=KernelProfile)}, "max_latency_growth"),
    ],
)
def test_wrong_parameters_are_an_error_when_the_pipeline_is_built(parameters, said):
    with pytest.raises(errors.SpecError, match=said):
        KernelProfiler(edge_model=types.Channel(type=standard_artifacts.Model), **parameters)


def test_equal_specs_make_equal_cache_keys():
    model = types.Channel(type=standard_artifacts.Model)
    one, other = (
        KernelProfiler(edge_model=model, profile_spec=text).exec_properties
        for text in ('{"runs": 9, "num_threads": 2}', '{"num_threads": 2,\n "runs": 9}')
    )
    assert one == other
    assert one["library_version"]


def test_a_model_that_does_not_run_here_is_blessed_by_a_phone_alone(edge_models, outputs, tmp_path):
    model, phone, folder = standard_artifacts.Model(), tmp_path / "phone.txt", tmp_path / "examples"
    model.uri = str(tmp_path / "flex")
    _write_model(model, tampering.replace_op(pathlib.Path(edge_models["int8"]).read_bytes(), 5, "FlexSoftmax"))
    phone.write_text(PHONE)
    folder.mkdir()
    inputs = {"edge_model": model, "examples": _examples(folder, 2)}
    do(inputs, outputs, {"max_latency_ms": 10.0}, device_profiles={"phone": str(phone)})
    assert outputs["blessing"][0].get_int_custom_property("blessed") == 1
    assert "not measured here, only on phone" in outputs["blessing"][0].get_string_custom_property("reason")


@pytest.mark.parametrize("name", ["phone.txt", "logs/phone.exray"], ids=["a file", "in a folder"])
def test_the_content_of_a_phone_s_profile_is_part_of_the_cache_key(tmp_path, name):
    phone = tmp_path / name
    phone.parent.mkdir(exist_ok=True)

    def parameters():
        given = phone if phone.parent == tmp_path else phone.parent
        devices = {"phone": str(given), "board": "gs://bucket/board.txt"}
        return KernelProfiler(edge_model=types.Channel(type=standard_artifacts.Model), device_profiles=devices)

    keys = []
    for content in (PHONE, PHONE.replace("8.671", "8.672"), PHONE):
        phone.write_text(content)
        keys.append(parameters().exec_properties)
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]
