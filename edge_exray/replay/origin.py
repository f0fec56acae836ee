"""How an edge model was made, from the record that its conversion left beside it."""

import json
import pathlib
from typing import Any

from edge_exray.models.tflite import EdgeModel

_RECORD = "conversion.json"
_COPIED = ("quantization", "quantizer", "recipe", "kept_layers", "left_float", "notes", "versions")
_KEYS = {*_COPIED, "calibration", "fingerprint"}


def origin(model: EdgeModel) -> dict[str, Any] | None:
    """Returns `conversion` of a model in `schemas/report.schema.json`.

    Args:
        model: An edge model. Its record is a `conversion.json` in its folder that names the fingerprint of the model;
            one that names another is a neighbour's, or older than the model.

    Returns:
        What the record says; None without one, as where the model comes from another converter, and where an earlier
        version of the product wrote less into it.
    """
    path = pathlib.Path(model.path).with_name(_RECORD)
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or not record.keys() >= _KEYS or record["fingerprint"] != model.fingerprint:
        return None
    calibration = record["calibration"]
    return {name: record[name] for name in _COPIED} | {"calibration_frames": calibration and calibration["frames"]}
