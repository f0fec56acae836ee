"""The demo's app: a few lines instrument it, and its log names what it does wrong."""

import difflib
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

import edge_exray
from edge_exray.diagnosis.report import Verdict
from edge_exray.frames.functions import UserFunctions
from edge_exray.pipelines import tiles
from edge_exray.pipelines.apps import monitored, plain

MOST_LINES = 15


def test_instrumenting_the_app_takes_a_few_lines():
    before, after = (pathlib.Path(app.__file__).read_text("utf-8").splitlines() for app in (plain, monitored))
    added = [line for line in difflib.ndiff(before, after) if line.startswith("+ ")]
    assert 0 < len(added) <= MOST_LINES, "\n".join(added)


def reference_inputs(example):
    with Image.open(io.BytesIO(example["image/encoded"][0])) as image:
        pixels = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))
    return {"image": pixels.astype(np.float32) / 127.5 - 1}


@pytest.mark.parametrize("mode", ["none", "int8"])
def test_the_log_of_the_app_blocks_it_and_names_the_bug(conv_net, edge_models, tmp_path, capsys, mode):
    tiles.write_image_folder(tmp_path / "photographs", tiles_per_class=2)
    arguments = [edge_models[mode], str(tmp_path / "photographs")]
    plain.main(arguments)
    printed = capsys.readouterr().out
    monitored.main([*arguments, str(tmp_path / "run.exray")])
    assert capsys.readouterr().out == printed
    report = edge_exray.validate(
        conv_net,
        edge_models[mode],
        logs=tmp_path / "run.exray",
        module=UserFunctions(reference_inputs_fn=reference_inputs),
        signature="serving_dense",
        float_edge=edge_models["none"],
    )
    assert report.verdict is Verdict.FAILED
    assert report.frames["count"] == len(printed.splitlines()) == 2 * len(tiles.CLASSES)
    assert report.failed_checks[0].name == "preprocessing"
    assert "reversed channels (BGR instead of RGB)" in report.summary
    assert report.attribution["blame"] == "preprocessing"
    assert report.legs["kernel"]["outputs"]["probabilities"]["rmse"] < 1e-6
