"""Tells which photograph a tile was cut from: `python -m edge_exray.pipelines.apps.plain MODEL PHOTOGRAPHS`.

Its author comes from OpenCV, where images are BGR, and training was RGB.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def main(argv: Sequence[str] | None = None) -> None:
    """Classifies the photographs of a folder."""
    parser = argparse.ArgumentParser(description="Tell which photograph a tile was cut from.")
    parser.add_argument("model", help="the .tflite")
    parser.add_argument("photographs", type=pathlib.Path, help="folder of CLASS/*.png")
    args = parser.parse_args(argv)
    interpreter = Interpreter(args.model)
    interpreter.allocate_tensors()
    for photograph in sorted(args.photographs.rglob("*.png")):
        print(photograph.stem, classify(interpreter, photograph))


def classify(interpreter: Interpreter, photograph: pathlib.Path) -> int:
    """Returns the index of the class with the highest score."""
    (details,) = interpreter.get_input_details()
    image = prepare(photograph, details)
    scores = run(interpreter, {details["name"]: image})
    return int(np.argmax(scores))


def prepare(photograph: pathlib.Path, details: dict[str, Any]) -> np.ndarray:
    """Returns the model's input of a photograph, with batch axis, stored as the model stores it."""
    _, height, width, _ = details["shape"]
    with Image.open(photograph) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    image = pixels[np.newaxis, ..., ::-1].astype(np.float32) / 127.5 - 1
    scale, zero_point = details["quantization"]
    if scale:
        limits = np.iinfo(details["dtype"])
        image = np.clip(np.round(image / scale + zero_point), limits.min, limits.max)
    return image.astype(details["dtype"])


def run(interpreter: Interpreter, feed: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the model's only output."""
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], feed[details["name"]])
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    return interpreter.get_tensor(output["index"])


if __name__ == "__main__":
    main()
