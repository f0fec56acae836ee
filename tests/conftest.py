"""Fixtures that several test modules share."""

import os
import pathlib

import models_zoo
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def conv_net(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SavedModel of `models_zoo.save_conv_net`."""
    return models_zoo.save_conv_net(tmp_path_factory.mktemp("zoo") / "conv_net")


@pytest.fixture(scope="session")
def eval_examples(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`.npz` with 60 frames of the features `image` and `label`."""
    path = tmp_path_factory.mktemp("examples") / "eval.npz"
    image, label = models_zoo.make_frames(60, seed=2)
    np.savez(path, image=image, label=label)
    return path
