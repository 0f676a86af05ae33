import math

import numpy as np
import pytest
from torch import nn

from evaluators.training import TaskData, evaluate, module_predictor
from evaluators.training.data import Array
from evaluators.training.loop import init_seed
from space.architecture import Architecture
from space.errors import EvaluationError
from space.model import build_model


@pytest.fixture
def model(text_architecture: Architecture) -> nn.Module:
    return build_model(text_architecture, seed=init_seed("test", 0))


def test_constant_logits_cost_the_logarithm_of_the_outputs(
    text_data: TaskData, digits_data: TaskData
) -> None:
    text = evaluate(lambda x: np.zeros((*x.shape, 256), np.float32), text_data, "validation")
    assert text.values["bits_per_byte"] == pytest.approx(8, rel=1e-6)
    assert text.values["loss"] == pytest.approx(8 * math.log(2), rel=1e-6)
    image = evaluate(lambda x: np.zeros((len(x), 10), np.float32), digits_data, "test")
    assert image.values["loss"] == pytest.approx(math.log(10), rel=1e-6)
    assert digits_data.test.targets is not None
    assert image.values["error"] == pytest.approx(float((digits_data.test.targets != 0).mean()))


def test_an_oracle_makes_no_error(digits_data: TaskData) -> None:
    answers = iter(np.array_split(digits_data.validation.targets, 3))  # type: ignore[arg-type]  # not None here

    def oracle(inputs: Array) -> Array:
        return np.where(next(answers)[:, None] == np.arange(10), np.float32(100), np.float32(0))

    metrics = evaluate(
        oracle, digits_data, "validation", max_batch=math.ceil(len(digits_data.validation) / 3)
    )
    assert metrics.values["error"] == 0
    assert metrics.values["loss"] == pytest.approx(0, abs=1e-6)


def test_numbers_equal_the_definition_in_float64(text_data: TaskData, model: nn.Module) -> None:
    predict = module_predictor(model)
    metrics = evaluate(predict, text_data, "validation")
    inputs, targets = text_data.examples("validation", np.arange(len(text_data.validation)))
    logits = predict(inputs).astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    losses = (np.log(np.exp(logits).sum(-1)) - chosen).mean(1)
    np.testing.assert_allclose(metrics.losses, losses, rtol=1e-5)
    assert metrics.standard_error["loss"] == pytest.approx(
        losses.std(ddof=1) / math.sqrt(len(losses)), rel=1e-4
    )


@pytest.mark.parametrize("max_batch", [1, 7, 1000])
def test_the_batch_size_does_not_change_a_float_result(
    text_data: TaskData, model: nn.Module, max_batch: int
) -> None:
    predict = module_predictor(model)
    one = evaluate(predict, text_data, "test")
    other = evaluate(predict, text_data, "test", max_batch=max_batch)
    # float32 sums in another order
    assert one.values["bits_per_byte"] == pytest.approx(other.values["bits_per_byte"], rel=1e-6)


def test_a_result_that_is_not_finite_is_an_error(digits_data: TaskData) -> None:
    def broken(inputs: Array) -> Array:
        return np.full((len(inputs), 10), np.nan, np.float32)

    with pytest.raises(EvaluationError, match="loss of validation example 0 is nan") as caught:
        evaluate(broken, digits_data, "validation")
    assert caught.value.reason == "invalid_result"


def test_predicting_leaves_the_model_in_its_mode(text_data: TaskData, model: nn.Module) -> None:
    model.train()
    module_predictor(model)(text_data.examples("validation", np.arange(2))[0])
    assert model.training
