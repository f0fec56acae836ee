"""The app reads frames from a camera API that delivers BGR and feeds them as they come."""

from collections.abc import Mapping

import numpy as np

from edge_exray.pipelines.demo_module import frame_id_fn, label_fn, reference_inputs_fn

__all__ = ["edge_inputs_fn", "frame_id_fn", "label_fn", "reference_inputs_fn"]


def edge_inputs_fn(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """BGR in [-1, 1] where the model was trained on RGB: float32, shape [32, 32, 3]."""
    return {"image": np.ascontiguousarray(reference_inputs_fn(example)["image"][..., ::-1])}
