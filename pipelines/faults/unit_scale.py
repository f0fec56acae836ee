"""The app scales pixels to [0, 1] where the model was trained on [-1, 1]."""

from collections.abc import Mapping

import numpy as np

from edge_exray.pipelines.demo_module import decode_tile, frame_id_fn, label_fn, reference_inputs_fn

__all__ = ["edge_inputs_fn", "frame_id_fn", "label_fn", "reference_inputs_fn"]


def edge_inputs_fn(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """RGB in [0, 1]: float32, shape [32, 32, 3]."""
    return {"image": decode_tile(example).astype(np.float32) / 255.0}
