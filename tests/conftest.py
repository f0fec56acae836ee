"""Fixtures that several test modules share."""

import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import models_zoo
import numpy as np
import pytest
import warm_converter
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from edge_exray.conversion import converter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The same examples on every run, and no limits of time: a busy machine is no failure.
settings.register_profile("edge-exray", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edge-exray")


@pytest.fixture(scope="session", autouse=True)
def cheap_conversions() -> Iterator[None]:
    """See `warm_converter`."""
    with warm_converter.warm():
        yield


@pytest.fixture(scope="session")
def conv_net(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SavedModel of `models_zoo.save_conv_net`."""
    return models_zoo.save_conv_net(tmp_path_factory.mktemp("zoo") / "conv_net")


@pytest.fixture(scope="session")
def eval_examples(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`.npz` with 140 frames of the features `image` and `label`, enough for the default limits."""
    path = tmp_path_factory.mktemp("examples") / "eval.npz"
    image, label = models_zoo.make_frames(140, seed=2)
    np.savez(path, image=image, label=label)
    return path


@pytest.fixture(scope="session")
def conversions(conv_net: str, tmp_path_factory: pytest.TempPathFactory) -> "dict[str, converter.Conversion]":
    """`conv_net` converted in every mode, by the name of the mode; calibrated on `models_zoo.make_frames(40, 5)`."""
    from edge_exray.conversion import converter, modes

    folder = tmp_path_factory.mktemp("conversions")
    frames = [{"image": image[np.newaxis]} for image in models_zoo.make_frames(40, seed=5)[0]]
    outputs = {str(folder / f"{mode}.tflite"): mode for mode in modes.MODES}
    made = converter.convert_many(conv_net, outputs, signature="serving_dense", calibration=frames)
    return {conversion.quantization: conversion for conversion in made}


@pytest.fixture(scope="session")
def edge_models(conversions: "dict[str, converter.Conversion]") -> dict[str, str]:
    """The paths of `conversions`."""
    return {mode: conversion.path for mode, conversion in conversions.items()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs whole pipelines first: a process that began the longest file last would keep the others waiting."""
    items.sort(key=lambda item: item.get_closest_marker("pipeline") is None)
