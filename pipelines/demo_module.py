"""The demo's user module: what the components need to know about the tiles, and an app that does it right."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image


def decode_tile(example: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the pixels of one example: uint8, shape [32, 32, 3], RGB."""
    with Image.open(io.BytesIO(example["image/encoded"][0])) as image:
        return np.asarray(image.convert("RGB"))


def reference_inputs_fn(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model was trained on: RGB in [-1, 1], float32, shape [32, 32, 3]."""
    return {"image": decode_tile(example).astype(np.float32) / 127.5 - 1.0}


def label_fn(example: Mapping[str, np.ndarray]) -> int | None:
    """Index of the photograph that the tile was cut from; None in the log of an app, which does not know."""
    return int(example["image/class/label"][0]) if "image/class/label" in example else None


def frame_id_fn(example: Mapping[str, np.ndarray]) -> str:
    """The tile's id, for example `"coffee-r03-c11"`."""
    return example["image/id"][0].decode()
