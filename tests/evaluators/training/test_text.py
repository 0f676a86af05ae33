from pathlib import Path

import numpy as np
import pytest

from evaluators.training.tasks.python_stdlib import PythonStdlib
from evaluators.training.text import text_path
from space.errors import InvalidInputError


def test_the_standard_library_is_split_by_file_without_tests() -> None:
    data = PythonStdlib().prepare(None)
    assert data.source["bytes"] > 5_000_000
    assert len(data.validation) == len(data.test) == 512
    assert 0.7 * data.source["bytes"] < len(data.train) < 0.9 * data.source["bytes"]
    assert data.length == 128
    assert PythonStdlib().prepare(None).digest == data.digest


def test_floors_fall_with_the_order() -> None:
    floors = PythonStdlib().prepare(64).source["floors"]
    assert 5 > floors["order0"] > floors["order1"] > floors["order2"] > 1.5


def test_a_file_is_cut_into_three_stretches_that_share_nothing(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_bytes("".join(f"{number:06d}\n" for number in range(5000)).encode())
    data = text_path(path, 16)
    seen = [
        set(np.unique(_numbers(part)))
        for part in (data.train.inputs, data.validation.inputs, data.test.inputs)
    ]
    assert max(seen[0]) <= min(seen[1]) < max(seen[1]) <= min(seen[2])


def _numbers(array: np.ndarray) -> list[int]:
    rows = array if array.ndim == 2 else array[None]
    words = [word for row in rows for word in bytes(row).split(b"\n")]
    return [int(word) for word in words if len(word) == 6]


def test_windows_do_not_overlap(tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_bytes(bytes(range(1, 256)) * 200)
    data = text_path(path, 64)
    assert len(data.validation) == len(path.read_bytes()) // 10 // 65


def test_a_folder_leaves_out_hidden_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(b"visible " * 3000)
    (tmp_path / "b.bin").write_bytes(b"\0" * 30_000)
    (tmp_path / ".hidden").write_bytes(b"hidden " * 3000)
    data = text_path(tmp_path, 32)
    assert data.source["files"] == 1
    assert b"visible" in bytes(data.train.inputs)
    assert not {b"hidden", b"\0"} & {bytes(data.train.inputs)[:6], bytes(data.train.inputs)[:1]}


def test_many_files_are_split_by_their_path(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_bytes(f"{number:02d}|".encode() * 400)
    data = text_path(tmp_path, 32)
    assert "of the files" in data.source["split"]
    parts = [{bytes(row)[:40].split(b"|")[1] for row in part.inputs} for part in (data.validation, data.test)]
    assert not parts[0] & parts[1]


def test_ten_bytes_are_too_few(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_bytes(b"0123456789")
    with pytest.raises(InvalidInputError, match=r"has 10 bytes; windows of 128 need at least 10,320"):
        text_path(path, None)


def test_the_minimum_it_names_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_bytes(b"a" * 10_320)
    assert len(text_path(path, None).validation) == 8


@pytest.mark.parametrize("content", [b"", b"\x89PNG\0\0"])
def test_empty_and_binary_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"has 0 bytes|is not text: byte 4 is 0"):
        text_path(path, None)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has no text file"):
        text_path(tmp_path, None)
