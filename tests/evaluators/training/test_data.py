import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from evaluators.training.data import Part, TaskData, TrainingBatches, default_patch_size, probe_batch
from space.architecture import BytesInterface, ImageInterface
from space.errors import InvalidInputError


def test_a_text_predicts_the_next_byte_of_the_same_window(text_data: TaskData) -> None:
    inputs, targets = text_data.examples("train", np.array([0, 5]))
    stream = text_data.train.inputs
    assert inputs[1].tolist() == stream[5:37].tolist()
    assert targets[1].tolist() == stream[6:38].tolist()
    assert inputs.dtype == targets.dtype == np.int64


def test_read_only_arrays_give_writable_batches(digits_data: TaskData) -> None:
    for part in (digits_data.train, digits_data.validation):
        part.inputs.flags.writeable = False
    inputs, targets = digits_data.examples("validation", np.arange(3))
    assert inputs.flags.writeable
    assert targets.flags.writeable


def test_an_epoch_shows_every_example_once(digits_data: TaskData) -> None:
    count = len(digits_data.train)
    batches = TrainingBatches(digits_data, seed=3, batch_size=count // 5)
    shown = np.concatenate([batches._indices(step) for step in range(5)])
    assert len(np.unique(shown)) == len(shown)


@pytest.mark.parametrize("batch_size", [1, 64, 3000])
def test_a_batch_depends_on_seed_and_step_alone(digits_data: TaskData, batch_size: int) -> None:
    one, other = (TrainingBatches(digits_data, seed=1, batch_size=batch_size) for _ in range(2))
    for step in (0, 1, 40):
        one(step)
    np.testing.assert_array_equal(one(7)[1], other(7)[1])
    assert not np.array_equal(TrainingBatches(digits_data, seed=2, batch_size=64)(0)[1], one(0)[1])


def test_random_windows_reach_the_last_byte(text_data: TaskData) -> None:
    short = replace(text_data, train=Part(text_data.train.inputs[:40]))
    last = max(TrainingBatches(short, seed=0, batch_size=64)._indices(0))
    assert last == 40 - 33


def test_f57_the_digest_knows_every_byte_and_every_part(digits_data: TaskData) -> None:
    changed = digits_data.test.inputs.copy()
    changed[-1, 0, 0, 0] += 1
    others = [
        replace(digits_data, test=Part(changed, digits_data.test.targets)),
        replace(digits_data, validation=digits_data.test, test=digits_data.validation),
        replace(digits_data, kind="sequence"),
    ]
    assert len({digits_data.digest, *(other.digest for other in others)}) == 4


def test_a_task_survives_pickling_with_its_digest(text_data: TaskData) -> None:
    assert pickle.loads(pickle.dumps(text_data)).digest == text_data.digest


def test_a_description_is_json_and_names_the_parts(text_data: TaskData, digits_data: TaskData) -> None:
    for data in (text_data, digits_data):
        described = json.loads(json.dumps(data.describe(), allow_nan=False))
        assert described["digest"] == data.digest
        assert described["parts"]["validation"] == len(data.validation)
        assert described["quality"] in described["metrics"]


def test_the_interface_fits_the_arrays(text_data: TaskData, digits_data: TaskData) -> None:
    assert text_data.interface() == BytesInterface(context_length=32, outputs=256)
    assert digits_data.interface() == ImageInterface(height=8, width=8, patch_size=2, outputs=10)
    assert digits_data.interface(patch_size=4).tokens == 4
    assert (text_data.model, digits_data.model) == ("decoder", "vision")


def test_the_probe_batch_is_the_same_for_equal_data(text_data: TaskData) -> None:
    one, other = probe_batch(text_data), probe_batch(pickle.loads(pickle.dumps(text_data)))
    np.testing.assert_array_equal(one[0], other[0])
    assert one[0].shape == one[1].shape == (16, 32)


@pytest.mark.parametrize(("sides", "patch"), [((8, 8), 2), ((28, 28), 7), ((32, 32), 8), ((7, 11), 1)])
def test_default_patches_divide_the_image(sides: tuple[int, int], patch: int) -> None:
    assert default_patch_size(*sides) == patch


def test_an_image_that_no_patch_divides_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"97x89 are cut into 8633 patches.*resize"):
        default_patch_size(97, 89)
