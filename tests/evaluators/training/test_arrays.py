import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.training.arrays import held_out, npz_path
from evaluators.training.data import Array, TaskData, TaskKind
from evaluators.training.tasks.digits import Digits
from space.errors import InvalidInputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 6, 6), dtype=np.uint8)
LABELS = np.arange(60) % 3


def _task(tmp_path: Path, kind: TaskKind = "image", **arrays: Any) -> TaskData:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return npz_path(path, kind)


def test_digits_have_all_classes_in_every_part() -> None:
    data = Digits().prepare(None)
    assert (len(data.train), len(data.validation), len(data.test)) == (1079, 359, 359)
    for part in (data.train, data.validation, data.test):
        assert part.targets is not None
        assert set(part.targets.tolist()) == set(range(10))
    assert abs(float(data.train.inputs.mean())) < 1e-4
    assert float(data.train.inputs.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((60, 6, 6), 1), ((60, 3, 6, 6), 3), ((60, 6, 6, 3), 3), ((60, 1, 6, 6), 1), ((60, 5, 6, 6), 5)],
)
def test_images_come_with_channels_first_last_or_none(
    tmp_path: Path, shape: tuple[int, ...], channels: int
) -> None:
    data = _task(tmp_path, x=RNG.random(shape), y=LABELS)
    assert data.validation.inputs.shape[1:] == (channels, 6, 6)
    assert data.train.inputs.dtype == np.float32


def test_sequences_of_values_and_of_tokens(tmp_path: Path) -> None:
    values = _task(tmp_path, "sequence", x=RNG.random((60, 12)), y=LABELS)
    assert values.interface().model_dump()["input"] == "values"
    assert values.examples("train", np.arange(2))[0].shape == (2, 12, 1)
    tokens = _task(tmp_path, "sequence", x=RNG.integers(0, 15, (60, 12)), y=LABELS)
    assert tokens.interface().model_dump()["vocab_size"] == tokens.vocab_size <= 15
    assert tokens.examples("train", np.arange(2))[0].dtype == np.int64
    assert tokens.model == "encoder"


def test_normalisation_is_learned_on_the_training_part_alone(tmp_path: Path) -> None:
    train, test = RNG.random((60, 8)), 100 + RNG.random((30, 8))
    data = _task(tmp_path, "sequence", x_train=train, y_train=LABELS, x_test=test, y_test=LABELS[:30])
    assert float(data.test.inputs.mean()) > 100
    assert data.preprocessing["normalisation"]["mean"][0] == pytest.approx(0.5, abs=0.1)


def test_a_constant_channel_is_only_shifted(tmp_path: Path) -> None:
    data = _task(tmp_path, "sequence", x=np.full((60, 8), 0.1), y=LABELS)
    assert not data.train.inputs.any()


def test_a_given_test_part_stays_whole_and_in_order(tmp_path: Path) -> None:
    data = _task(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:30], y_test=LABELS[:30])
    assert (len(data.train), len(data.validation), len(data.test)) == (48, 12, 30)
    assert data.test.targets is not None
    assert data.test.targets.tolist() == LABELS[:30].tolist()


def test_class_names_may_be_words(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "ant"])[LABELS]
    data = _task(tmp_path, x=IMAGES, y=names)
    assert data.preprocessing["classes"] == ["ant", "cat", "dog"]
    assert data.outputs == 3


def test_a_rare_class_stays_in_training() -> None:
    labels = np.array([0] * 50 + [1] * 49 + [2])
    chosen = held_out(labels, 0.2, np.arange(100))
    assert len(chosen) == 20
    assert 99 not in chosen


@pytest.mark.parametrize(
    ("kind", "arrays", "message"),
    [
        ("image", {"images": IMAGES, "labels": LABELS}, "holds the arrays images, labels; name them x and y"),
        ("image", {"x": IMAGES, "y": LABELS[:59]}, r"y has shape \[59\] and x \[60, 6, 6\]"),
        ("image", {"x": IMAGES[0, 0, 0], "y": LABELS[0]}, "give one class per example"),
        ("image", {"x": IMAGES[:, 0], "y": LABELS}, r"x has shape \[60, 6\]; image tasks need"),
        ("image", {"x": IMAGES.astype("U3"), "y": LABELS}, "x has type <U3; store numbers"),
        ("image", {"x": IMAGES, "y": LABELS / 2}, "y has type float64; classes are integers or strings"),
        ("image", {"x": IMAGES, "y": LABELS * 0}, "every example has the class 0; at least 2"),
        ("image", {"x": IMAGES, "y": np.arange(60)}, "60 classes in 60 examples; classes must repeat"),
        ("image", {"x": IMAGES[:9], "y": LABELS[:9]}, "x has 9 examples; at least 20"),
        ("image", {"x": IMAGES[:, :0], "y": LABELS}, r"x has shape \[60, 0, 6\]"),
        ("image", {"x": np.full((60, 4, 4), 1e300), "y": LABELS}, "example 0 is not finite in float32"),
        ("sequence", {"x": IMAGES[:, 0].astype(int) - 300, "y": LABELS}, "has token -"),
        ("sequence", {"x": np.zeros((60, 9000)), "y": LABELS}, "has 9000 tokens per example; at most 8192"),
    ],
)
def test_what_cannot_be_learned_from_is_named(
    tmp_path: Path, kind: TaskKind, arrays: dict[str, Array], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _task(tmp_path, kind, **arrays)


@pytest.mark.parametrize(
    ("test", "labels", "message"),
    [
        (IMAGES[:5], np.full(5, 7), "y_test has the class 7"),
        (IMAGES[:5], np.full(5, "a"), "mix numbers and strings"),
        (IMAGES[:5, :4], LABELS[:5], r"x_test has examples of shape \(4, 6\), x_train of \(6, 6\)"),
        (IMAGES[:0], LABELS[:0], "x_test has no example"),
    ],
)
def test_a_test_part_that_does_not_fit_is_named(
    tmp_path: Path, test: Array, labels: Array, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _task(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=test, y_test=labels)


def test_a_nan_is_named_with_its_example(tmp_path: Path) -> None:
    values = RNG.random((60, 8))
    values[41, 3] = np.nan
    with pytest.raises(InvalidInputError, match="x example 41 is not finite"):
        _task(tmp_path, "sequence", x=values, y=LABELS)


def test_python_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="allow_pickle=False; use plain arrays"):
        _task(tmp_path, x=np.array([{}] * 60, dtype=object), y=LABELS)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"hello")
    with pytest.raises(InvalidInputError, match=r"is not an \.npz file"):
        npz_path(path, "image")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"text")
        archive.writestr("y", b"text")
    with pytest.raises(InvalidInputError, match="holds something else than arrays"):
        npz_path(path, "image")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=IMAGES, y=LABELS)
    raw = bytearray(buffer.getvalue())
    raw[200:260] = b"\xff" * 60
    path = tmp_path / "data.npz"
    path.write_bytes(raw)
    with pytest.raises(InvalidInputError, match=r"data\.npz' (is not|cannot be read)"):
        npz_path(path, "image")
