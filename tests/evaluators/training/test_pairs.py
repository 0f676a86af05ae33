from pathlib import Path

import numpy as np
import pytest

from evaluators.training import TaskData, TrainingPlan, train
from evaluators.training.pairs import load_losses, paired_difference, save_losses
from space.architecture import Architecture
from space.errors import InvalidInputError


def test_pairing_takes_out_what_examples_have_in_common() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(2, 1, 400)
    one, other = hard + rng.normal(0, 0.05, 400), hard - 0.03 + rng.normal(0, 0.05, 400)
    found = paired_difference(one, other)
    assert found.mean == pytest.approx((one - other).mean())
    assert found.standard_error == pytest.approx((one - other).std(ddof=1) / 20)
    assert found.standard_error < 0.1 * np.hypot(one.std(), other.std()) / 20
    assert not found.is_tied
    assert paired_difference(one, one).is_tied


@pytest.mark.parametrize("sizes", [(3, 4), (1, 1)])
def test_only_the_same_examples_are_paired(sizes: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be paired; evaluate both on the same"):
        paired_difference(*(np.zeros(size) for size in sizes))


def test_a_training_keeps_the_losses_of_its_validation_examples(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture
) -> None:
    plan = TrainingPlan(steps=4, batch_size=4)
    result = train(text_architecture, text_data, plan, seed=0, until=4, folder=tmp_path)
    assert result.checkpoint is not None
    assert result.losses is not None
    assert result.losses.mean() == pytest.approx(result.metrics["loss"])
    kept = load_losses(result.checkpoint)
    assert kept is not None
    np.testing.assert_allclose(kept, result.losses, rtol=1e-6)
    assert [path.name for path in result.checkpoint.glob(".*")] == []


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    assert load_losses(tmp_path) is None
    save_losses(tmp_path, np.arange(3.0))
    (tmp_path / "losses.safetensors").write_bytes(b"short")
    assert load_losses(tmp_path) is None
