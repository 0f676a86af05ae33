"""Image classification from a folder of images by class.

All images become one size: their own where they share it and no side exceeds 64, else a square whose side is
the largest of 8, 16, 32 and 64 that the median shorter side reaches. They are grey where every file is, else
red, green and blue; transparency is dropped.
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from space.errors import InvalidInputError

from .arrays import MAX_BYTES, array_task
from .class_folders import Examples, class_files
from .data import Array, TaskData

SIDES = (8, 16, 32, 64)
MAX_PIXELS = 2**26
GREY_MODES = frozenset({"1", "L", "LA"})


def image_folder(path: Path, length: int | None) -> TaskData:
    """The folder as an image task.

    Raises:
        InvalidInputError: a file that is no image, or too many of them.
    """
    del length  # images have none of their own
    found = class_files(path)
    seen = {file: _looked_at(file) for examples in found.values() for file, _ in examples}
    height, width = common_size([size for size, _ in seen.values()])
    mode = "L" if {form for _, form in seen.values()} <= GREY_MODES else "RGB"
    needed = 4 * len(seen) * height * width * len(mode)
    if needed > MAX_BYTES:
        raise InvalidInputError(
            f"'{path}' has {len(seen):,} images, {needed:,} bytes at {height}x{width}; "
            f"at most {MAX_BYTES:,}: leave some out"
        )
    arrays: dict[str, Array] = {}
    for suffix, examples in found.items():
        arrays[f"x{suffix}"] = _read(examples, height, width, mode)
        arrays[f"y{suffix}"] = np.array([label for _, label in examples])
    data = array_task(path.name, "image", arrays, where=f"'{path}'")
    return replace(data, preprocessing={**data.preprocessing, **_preparation(height, width, mode)})


def common_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of all images.

    >>> common_size([(28, 28), (28, 28)]), common_size([(300, 200), (90, 70)]), common_size([(5, 9), (9, 5)])
    ((28, 28), (64, 64), (8, 8))
    """
    if len(set(sizes)) == 1 and max(sizes[0]) <= SIDES[-1]:
        return sizes[0]
    typical = statistics.median(min(size) for size in sizes)
    side = max((side for side in SIDES if side <= typical), default=SIDES[0])
    return side, side


def _looked_at(file: Path) -> tuple[tuple[int, int], str]:
    """(height, width) and colour mode, without decoding."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            mode = image.mode
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInputError(
            f"'{file}' is not an image ({type(error).__name__}); convert it to PNG or JPEG, or move it away"
        ) from error
    if width * height > MAX_PIXELS:
        raise InvalidInputError(
            f"'{file}' is an image of {width}x{height}; at most {MAX_PIXELS:,} pixels: resize it"
        )
    return (height, width), mode


def _read(examples: Examples, height: int, width: int, mode: str) -> Array:
    """[examples, height, width] or [examples, height, width, 3], 0 to 255."""
    return np.stack([_pixels(file, height, width, mode) for file, _ in examples])


def _pixels(file: Path, height: int, width: int, mode: str) -> Array:
    try:
        with Image.open(file) as image:
            whole = image.convert("RGBA") if image.mode == "P" else image
            plain = whole.convert(mode)
            if plain.size != (width, height):
                plain = plain.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(plain, dtype=np.float32)
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidInputError(f"'{file}' is damaged: {error}; replace it or move it away") from error


def _preparation(height: int, width: int, mode: str) -> Mapping[str, object]:
    """How a new image becomes an input, before it is normalised."""
    return {"image": {"mode": mode, "resize": [height, width], "filter": "bilinear", "range": [0, 255]}}
