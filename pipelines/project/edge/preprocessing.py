"""What training fed to the model, and what the app on the device feeds."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

Example = Mapping[str, np.ndarray]


def reference_inputs_fn(example: Example) -> dict[str, np.ndarray]:
    """Returns what training fed: RGB in [-1, 1]."""
    return {"image": decode(example) / 127.5 - 1.0}


def edge_inputs_fn(example: Example) -> dict[str, np.ndarray]:
    """Returns what the app feeds; best by calling the app's own code."""
    # A bug to try: return {"image": decode(example)[..., ::-1] / 127.5 - 1.0}
    return {"image": decode(example) / 127.5 - 1.0}


def label_fn(example: Example) -> int:
    """Returns the right answer."""
    return int(example["image/class/label"][0])


def decode(example: Example) -> np.ndarray:
    """Returns the pixels: float32, RGB, 0 to 255."""
    with Image.open(io.BytesIO(example["image/encoded"][0])) as image:
        return np.asarray(image.convert("RGB"), np.float32)
