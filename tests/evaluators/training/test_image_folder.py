from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators.training.image_folder import image_folder
from space.errors import InvalidInputError


def _images(
    folder: Path, *, count: int = 12, size: tuple[int, int] = (8, 6), mode: str = "L", seed: int = 0
) -> None:
    """`count` images of two classes, the second one brighter; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        place = folder / ("dark", "light")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (size[1], size[0])) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(place / f"{number:03}.png")


def test_images_of_one_size_keep_it(tmp_path: Path) -> None:
    _images(tmp_path, count=24)
    data = image_folder(tmp_path, None)
    assert data.train.inputs.shape[1:] == (1, 6, 8)
    assert data.preprocessing["classes"] == ["dark", "light"]
    assert data.preprocessing["image"] == {
        "mode": "L", "resize": [6, 8], "filter": "bilinear", "range": [0, 255]
    }  # fmt: skip
    assert image_folder(tmp_path, None).digest == data.digest


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    _images(tmp_path, count=24)
    data = image_folder(tmp_path, None)
    moments = data.preprocessing["normalisation"]
    raw = data.train.inputs[0, 0] * moments["std"][0] + moments["mean"][0]
    files = [np.asarray(Image.open(path), np.float32) for path in tmp_path.glob("*/*.png")]
    assert any(np.allclose(raw, file, atol=1e-3) for file in files)


def test_other_sizes_become_one_square_and_colour_is_kept(tmp_path: Path) -> None:
    _images(tmp_path, count=20)
    _images(tmp_path / "more", count=2)
    Image.new("RGB", (80, 90), (255, 0, 0)).save(tmp_path / "light" / "red.png")
    Image.new("P", (40, 40)).save(tmp_path / "dark" / "table.gif")
    (tmp_path / "more").rename(tmp_path / ".hidden")
    data = image_folder(tmp_path, None)
    assert data.train.inputs.shape[1:] == (3, 8, 8)
    assert sum(data.describe()["parts"].values()) == 22


def test_a_folder_may_be_split_already(tmp_path: Path) -> None:
    _images(tmp_path / "train", count=30)
    _images(tmp_path / "test", count=8, seed=1)
    parts = image_folder(tmp_path, None).describe()["parts"]
    assert parts == {"train": 24, "validation": 6, "test": 8}


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    _images(tmp_path)
    (tmp_path / "dark" / "notes.txt").write_text("not an image")
    with pytest.raises(InvalidInputError, match=r"notes.txt' is not an image .* convert it to PNG or JPEG"):
        image_folder(tmp_path, None)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    _images(tmp_path)
    path = tmp_path / "dark" / "000.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InvalidInputError, match=r"000.png' is (damaged|not an image)"):
        image_folder(tmp_path, None)


@pytest.mark.parametrize("inside", ["", "empty"])
def test_a_folder_without_classes_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    with pytest.raises(InvalidInputError, match=r"has no file in \d folders below it; put"):
        image_folder(tmp_path, None)


def test_too_few_images_are_refused_with_their_number(tmp_path: Path) -> None:
    _images(tmp_path, count=12)
    with pytest.raises(InvalidInputError, match="x has 12 examples; at least 20 are needed"):
        image_folder(tmp_path, None)
