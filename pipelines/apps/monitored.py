"""The app of `plain.py`, instrumented: `python -m edge_exray.pipelines.apps.monitored MODEL PHOTOGRAPHS LOG`.

Its author comes from OpenCV, where images are BGR, and training was RGB.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from edge_exray.monitor import EdgeMonitor, Frame


def main(argv: Sequence[str] | None = None) -> None:
    """Classifies the photographs of a folder."""
    parser = argparse.ArgumentParser(description="Tell which photograph a tile was cut from.")
    parser.add_argument("model", help="the .tflite")
    parser.add_argument("photographs", type=pathlib.Path, help="folder of CLASS/*.png")
    parser.add_argument("log", help="where to log")
    args = parser.parse_args(argv)
    interpreter = Interpreter(args.model, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    monitor = EdgeMonitor(args.log, level="layers", model=args.model, policy="block")
    for photograph in sorted(args.photographs.rglob("*.png")):
        with monitor.frame({"image/encoded": photograph.read_bytes()}, photograph.stem) as frame:
            print(photograph.stem, classify(interpreter, photograph, frame))
    monitor.close()


def classify(interpreter: Interpreter, photograph: pathlib.Path, frame: Frame) -> int:
    """Returns the index of the class with the highest score."""
    (details,) = interpreter.get_input_details()
    image = frame.stage("preprocess", prepare, photograph, details)
    (scores,) = frame.run(interpreter, {details["name"]: image}).values()
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


if __name__ == "__main__":
    main()
