"""Ready-made variants of a picture, as devices prepare it, for `edge_variants_fn`:

    def edge_variants_fn(example):
        image = decode(example["image/encoded"][0])
        return {f"jpeg {q}": {"image": app.preprocess(variants.jpeg(image, q))} for q in (90, 50)}

All take and return pictures as uint8 [height, width, 3], or [height, width] in grey, and need Pillow (extra `[demo]`).
"""

import io

import numpy as np

from edge_exray import errors

KERNELS = ("nearest", "bilinear", "bicubic", "lanczos", "area")
"""Resize kernels; all but nearest are widened when they make a picture smaller, as Pillow does."""


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Returns a picture after JPEG compression.

    Args:
        image: The picture.
        quality: Of libjpeg, from 1 to 95.

    Raises:
        DataError: The picture is not uint8.
    """
    stream = io.BytesIO()
    _picture(image).save(stream, "JPEG", quality=quality)
    from PIL import Image

    return np.asarray(Image.open(stream))


def resize(image: np.ndarray, size: tuple[int, int], kernel: str) -> np.ndarray:
    """Returns a picture in another size.

    Args:
        image: The picture.
        size: New height and width in pixels.
        kernel: One of `KERNELS`.

    Raises:
        DataError: The picture is not uint8, or there is no such kernel.
    """
    from PIL import Image

    if kernel not in KERNELS:
        raise errors.DataError(f"there is no resize kernel {kernel!r}: choose from {', '.join(KERNELS)}")
    height, width = size
    resampling = Image.Resampling.BOX if kernel == "area" else Image.Resampling[kernel.upper()]
    return np.asarray(_picture(image).resize((width, height), resampling))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Returns a picture whose values are a multiple of what they were, rounded and cut at 255.

    Args:
        image: The picture.
        factor: 1 leaves it as it is.

    Raises:
        DataError: The picture is not uint8.
    """
    _require_bytes(image)
    return np.clip(np.rint(image * float(factor)), 0, 255).astype(np.uint8)


def _picture(image: np.ndarray):  # type: ignore[no-untyped-def]  # Pillow is imported where it is needed
    from PIL import Image

    _require_bytes(image)
    return Image.fromarray(image)


def _require_bytes(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise errors.DataError(
            f"variants are made of uint8 pictures [height, width, 3], this is {image.dtype} {list(image.shape)}: make "
            "them before the picture is normalised"
        )
