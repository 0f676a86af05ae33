"""Prepared data that are kept: the same as made anew, and made anew when the file is not whole."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.training.data import TaskData
from evaluators.training.kept import kept
from evaluators.training.tasks.listops import Size, listops

SMALL = Size(max_depth=4, max_args=3, shortest=7, longest=31, counts=(40, 10, 10), drawn=400)


class Made:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> TaskData:
        self.times += 1
        return listops("small", SMALL)


def test_data_are_made_once_and_read_as_they_were(tmp_path: Path) -> None:
    make = Made()
    first, second = (kept(tmp_path / "prepared", "small", 1, None, make) for _ in range(2))
    assert make.times == 1
    assert first.digest == second.digest
    assert first.describe() == second.describe()
    np.testing.assert_array_equal(first.test.inputs, second.test.inputs)
    kept(tmp_path / "prepared", "small", 2, None, make)  # another version is another file
    assert make.times == 2
    assert len(list((tmp_path / "prepared").iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path) -> None:
    make = Made()
    kept(tmp_path, "small", 1, None, make)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    if damage == "changed":
        with np.load(file) as arrays:
            content = dict(arrays)
        content["test.inputs"][0, 0] += 1
        np.savez(file, **content)
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    again = kept(tmp_path, "small", 1, None, make)
    assert make.times == 2
    assert again.digest == listops("small", SMALL).digest
    kept(tmp_path, "small", 1, None, make)
    assert make.times == 2


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert kept(tmp_path / "taken", "small", 1, None, Made()).name == "small"
