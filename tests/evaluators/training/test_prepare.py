from pathlib import Path

import pytest

from evaluators.training import FORMATS, TASK_KINDS, prepare_task
from space.errors import InvalidInputError


def test_a_path_may_hold_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"some text " * 2000)
    assert prepare_task("language-model", str(tmp_path / "a.txt"), 64).length == 64
    assert prepare_task("language-model", str(tmp_path), 64).length == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("langage-model", "x", None), "unknown task kind 'langage-model'; did you mean 'language-model'"),
        (("language-model", "python-stdlb", None), "did you mean 'python-stdlib'"),
        (("image", "python-stdlib", None), "is of kind 'language-model', not 'image'"),
        (
            ("image", "missing.npz", None),
            r"'missing.npz' does not exist; give an .npz file or a folder of .* digits",
        ),
        (("image", "digits", 16), "task.length=16 is for text"),
        (("language-model", "python-stdlib", 4), "task.length=4 must be from 8 to 8192"),
        (("sequence", ".", None), r"'\.' is a folder; task kind 'sequence' needs an .npz file or a .csv"),
        (("text-classification", "pyproject.toml", None), "is of format '.toml'"),
    ],
)
def test_a_mistake_gets_one_line_with_the_way_out(
    arguments: tuple[str, str, int | None], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        prepare_task(*arguments)
    assert "\n" not in caught.value.message


def test_every_kind_has_a_form_of_its_own() -> None:
    assert set(FORMATS) == set(TASK_KINDS)


def test_arrays_are_not_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK" * 20_000)
    with pytest.raises(InvalidInputError, match="is not text; task kind 'language-model' needs"):
        prepare_task("language-model", str(tmp_path / "a.npz"))
