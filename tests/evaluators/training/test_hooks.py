"""What the training loop does for modules that change, add a loss, or run at several granularities."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluators.training import TaskData, TrainingPlan, TrainingResult, loop, train
from evaluators.training.checkpoints import load_checkpoint
from evaluators.training.data import TrainingBatches
from evaluators.training.losses import mean_loss
from space.architecture import Architecture, parse_architecture
from space.choice import Scheduled
from space.feedforward.nested import Nested
from space.model import Model, build_model

PLAN = TrainingPlan(steps=12, batch_size=8)
NESTED = {"kind": "nested", "d_ff": 64, "granularity": 4}
MOE = {"kind": "moe", "d_ff": 16, "num_experts": 4, "top_k": 2}


def with_feed_forwards(architecture: Architecture, *feed_forwards: Mapping[str, Any]) -> Architecture:
    """One layer for each of them."""
    data = architecture.model_dump()
    return parse_architecture(
        {**data, "layers": [{**data["layers"][0], "feed_forward": own} for own in feed_forwards]}
    )


def step_by_hand(
    architecture: Architecture, data: TaskData, losses: Callable[[Model, Tensor, Tensor], list[Tensor]]
) -> tuple[Model, list[Tensor]]:
    """The model after the first step of a training on the mean of these losses, and the losses."""
    model = build_model(architecture, seed=loop.init_seed(architecture.training_id, 0)).train()
    inputs, targets = (torch.from_numpy(a) for a in TrainingBatches(data, seed=0, batch_size=8)(0))
    parameters = dict(model.named_parameters())
    optimizer = loop._optimizer(parameters, PLAN)
    values = losses(model, inputs, targets)
    torch.stack(values).mean().backward()  # type: ignore[no-untyped-call]  # untyped in torch
    nn.utils.clip_grad_norm_(parameters.values(), PLAN.clip)
    for group in optimizer.param_groups:
        group["lr"] = PLAN.rate(0, architecture.d_model)
    optimizer.step()
    return model, values


def assert_same_weights(model: Model, result: TrainingResult) -> None:
    assert result.checkpoint is not None
    checkpoint = load_checkpoint(result.checkpoint)
    assert checkpoint is not None
    pairs = [
        (parameter.detach().flatten(), checkpoint.weights[name].flatten())
        for name, parameter in model.named_parameters()
        if name in checkpoint.weights
    ]
    expected, found = (torch.cat(column) for column in zip(*pairs, strict=True))
    # Adam's first step is the sign of a gradient, about 0.006; the loop's products go through oneDNN, so that
    # a gradient that is all round-off may get another sign
    assert float(((found - expected).abs() > 2e-4).float().mean()) < 1e-3


def test_one_step_runs_every_granularity_and_optimises_the_mean_of_the_losses(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture
) -> None:
    architecture = with_feed_forwards(text_architecture, NESTED, {**NESTED, "d_ff": 32, "granularity": 1})

    def losses(model: Model, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        found = []
        for divisor in (1, 2, 4, 8):
            for module in model.modules():
                if isinstance(module, Nested):
                    module.set_granularity(divisor)
            found.append(mean_loss(model(inputs), targets))
        return found

    model, values = step_by_hand(architecture, text_data, losses)
    result = train(architecture, text_data, PLAN, seed=0, until=1, folder=tmp_path)
    assert_same_weights(model, result)
    expected = math.fsum(value.item() for value in values) / 4
    assert result.train_curve[0][1] == pytest.approx(expected, rel=1e-5)


def test_an_added_loss_is_optimised_and_not_reported(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture
) -> None:
    architecture = with_feed_forwards(text_architecture, MOE)
    seen: list[float] = []

    def losses(model: Model, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        loss = mean_loss(model(inputs), targets)
        added = model.auxiliary_loss()
        assert added is not None
        seen.append(loss.item())
        return [loss + added]

    model, values = step_by_hand(architecture, text_data, losses)
    result = train(architecture, text_data, PLAN, seed=0, until=1, folder=tmp_path)
    assert_same_weights(model, result)
    assert result.train_curve[0][1] == pytest.approx(seen[0], rel=1e-6)
    assert values[0].item() > seen[0] + 0.009


@pytest.mark.parametrize("feed_forward", [NESTED, MOE, {"kind": "mlp", "d_ff": 16, "activation": "polynorm"}])
def test_these_trainings_resume_in_the_same_bits_too(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, feed_forward: Mapping[str, Any]
) -> None:
    architecture = with_feed_forwards(text_architecture, feed_forward)
    whole = train(architecture, text_data, PLAN, seed=1, until=12, folder=tmp_path / "whole")
    train(architecture, text_data, PLAN, seed=1, until=5, folder=tmp_path / "parts")
    parts = train(architecture, text_data, PLAN, seed=1, until=12, folder=tmp_path / "parts")
    assert (whole.metrics, whole.train_curve) == (parts.metrics, parts.train_curve)


class _Told(nn.Module):
    """Remembers how far it was told that the training is."""

    def __init__(self) -> None:
        super().__init__()
        self.fractions: list[float] = []

    def set_progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_modules_are_told_before_every_step_and_the_evaluation_how_far_it_is(
    text_data: TaskData, text_architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _Told()
    assert isinstance(told, Scheduled)

    def with_it(architecture: Architecture, *, seed: int | None = None) -> Model:
        model = build_model(architecture, seed=seed)
        model._scheduled.append(told)
        return model

    monkeypatch.setattr(loop, "build_model", with_it)
    train(text_architecture, text_data, PLAN, seed=0, until=6, folder=None)
    assert told.fractions == [0, 1 / 12, 2 / 12, 3 / 12, 4 / 12, 5 / 12, 6 / 12]
