import sysconfig
from pathlib import Path

import numpy as np
import pytest

from evaluators.training import TaskData, prepare_task
from evaluators.training.tasks.python_packages import PACKAGES
from space.errors import InvalidInputError


@pytest.fixture(scope="module")
def data() -> TaskData:
    return prepare_task("text-classification", "python-packages")


def test_every_window_stands_in_the_source_of_its_class(data: TaskData) -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = {name: sorted((root / name).rglob("*.py")) for name in PACKAGES}
    sources = [b"".join(file.read_bytes() for file in files[name]) for name in PACKAGES]
    assert data.test.targets is not None
    for window, label in zip(data.test.inputs[:100], data.test.targets[:100], strict=True):
        half = window.astype(np.uint8).tobytes()[:32]  # a whole one may reach into the next file
        assert half in sources[label]


def test_parts_are_disjoint_and_every_class_is_as_frequent(data: TaskData) -> None:
    parts = [data.train, data.validation, data.test]
    windows = [{window.tobytes() for window in part.inputs} for part in parts]
    assert len(windows[0] & windows[1]) < 5  # a licence stands in several files
    assert len(windows[0] & windows[2]) < 5
    assert len(windows[1] & windows[2]) < 5
    for part in parts:
        assert part.targets is not None
        assert len(set(np.bincount(part.targets, minlength=10).tolist())) == 1


def test_a_length_is_taken_and_one_that_leaves_nothing_is_refused() -> None:
    assert prepare_task("text-classification", "python-packages", 256).length == 256
    with pytest.raises(InvalidInputError, match="leaves less than 100 windows of a package"):
        prepare_task("text-classification", "python-packages", 8192)
