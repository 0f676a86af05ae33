import numpy as np
import pytest
import torch

from evaluators.training import IGNORED, TaskData, evaluate, prepare_task
from evaluators.training.data import Array
from evaluators.training.tasks.mqar import recall
from space.errors import InvalidInputError


@pytest.fixture(scope="module")
def data() -> TaskData:
    return prepare_task("sequence", "mqar")


@pytest.mark.parametrize(("length", "pairs"), [(64, 4), (128, 8), (16, 1)])
def test_every_key_is_asked_once_and_its_value_is_the_answer(length: int, pairs: int) -> None:
    inputs, targets = recall(50, length, pairs, np.random.default_rng(0))
    for row, answers in zip(inputs, targets, strict=True):
        known = dict(zip(row[: 2 * pairs : 2], row[1 : 2 * pairs : 2], strict=True))
        assert len(known) == len(set(known.values())) == pairs
        asked = np.flatnonzero(answers != IGNORED)
        assert sorted(row[asked]) == sorted(known)
        assert [known[row[place]] for place in asked] == answers[asked].tolist()
        assert all(place >= 2 * pairs and place % 2 == 0 for place in asked)
        assert all(1 <= key <= 127 and 128 <= value <= 255 for key, value in known.items())


def test_short_gaps_are_likelier() -> None:
    _, targets = recall(500, 64, 4, np.random.default_rng(0))
    places = (targets != IGNORED).sum(0)[8::2]
    assert places[0] > 2 * places[len(places) // 2] > 0


def test_causal_models_answer_it(data: TaskData) -> None:
    assert (data.model, data.is_per_token, data.quality) == ("decoder", True, "loss")
    assert data.interface().outputs == 256
    assert data.describe()["part_unit"]["test"] == "examples"


def test_only_what_is_asked_counts(data: TaskData) -> None:
    """An oracle that is right where something is asked and wrong everywhere else."""
    answers = iter(np.array_split(data.validation.targets, 5))  # type: ignore[arg-type]  # not None here

    def oracle(inputs: Array) -> Array:
        wanted = next(answers)
        return np.where(wanted[..., None] == np.arange(256), np.float32(100), np.float32(0))

    metrics = evaluate(oracle, data, "validation", max_batch=200)
    assert metrics.values["error"] == 0
    assert metrics.values["loss"] == pytest.approx(0, abs=1e-6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary(data: TaskData) -> None:
    metrics = evaluate(lambda x: np.zeros((*x.shape, 256), np.float32), data, "test")
    assert metrics.values["loss"] == pytest.approx(np.log(256), rel=1e-6)
    assert metrics.values["error"] == 1  # token 0 is no value


def test_lengths_decide_how_many_pairs_there_are() -> None:
    assert prepare_task("sequence", "mqar", 128).source["pairs"] == 8
    with pytest.raises(InvalidInputError, match=r"task.length=100 .* a multiple of 16 .* try 64, 128 or 256"):
        prepare_task("sequence", "mqar", 100)


def test_targets_reach_a_model_as_integers_it_can_be_trained_on(data: TaskData) -> None:
    inputs, targets = data.examples("train", np.arange(3))
    assert inputs.dtype == targets.dtype == np.int64
    loss = torch.nn.functional.cross_entropy(
        torch.zeros(3 * 64, 256), torch.from_numpy(targets).flatten(), ignore_index=IGNORED
    )
    assert torch.isfinite(loss)
