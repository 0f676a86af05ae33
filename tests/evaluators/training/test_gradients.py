"""Parts of a batch add up to the batch, and a training that ran short of memory is the one that did not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluators.training import Recipe, TaskData, TrainingPlan, TrainingResult, loop, train
from evaluators.training.gradients import Gradients
from evaluators.training.out_of_memory import is_out_of_memory
from space.architecture import Architecture
from space.errors import EvaluationError
from space.model import Model, build_model

PLAN = TrainingPlan(steps=12, batch_size=8)


def _fails_above(limit: int) -> Callable[[nn.Module, Any], None]:
    """A hook: a forward pass of more examples does not fit into memory."""

    def hook(module: nn.Module, arguments: Any) -> None:
        if len(arguments[0]) > limit:
            raise torch.OutOfMemoryError("no room")

    return hook


def _gradients(model: Model) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("limit", [1, 3, 4])
def test_parts_add_up_to_the_gradients_of_the_batch(
    text_data: TaskData, text_architecture: Architecture, limit: int
) -> None:
    inputs, targets = (
        torch.from_numpy(array) for array in text_data.examples("validation", torch.arange(7).numpy())
    )
    targets[0, :20] = -100  # parts with unequal numbers of targets
    model = build_model(text_architecture, seed=0).double().train()
    value = Gradients(model, Recipe()).add(inputs, targets, 0.0)
    whole = _gradients(model)
    parts = Gradients(model, Recipe())
    handle = model.register_forward_pre_hook(_fails_above(limit))
    again = parts.add(inputs, targets, 0.0)
    handle.remove()
    assert parts.part_size is not None
    assert parts.part_size <= limit
    assert again == pytest.approx(value, rel=1e-12)
    for name, gradient in _gradients(model).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-12)


def test_one_example_that_does_not_fit_ends_it(text_data: TaskData, text_architecture: Architecture) -> None:
    model = build_model(text_architecture, seed=0).train()
    model.register_forward_pre_hook(_fails_above(0))
    inputs, targets = (
        torch.from_numpy(array) for array in text_data.examples("validation", torch.arange(4).numpy())
    )
    with pytest.raises(torch.OutOfMemoryError):
        Gradients(model, Recipe()).add(inputs, targets, 0.0)


def test_a_failed_attempt_leaves_batch_statistics_alone(
    text_data: TaskData, text_architecture: Architecture
) -> None:
    """What the attempt that ran out of memory saw is not seen twice."""

    class Counted(nn.Module):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            self.seen += len(x)
            return x

    model = build_model(text_architecture, seed=0).train()
    counted = Counted()
    model.final_norm = counted  # type: ignore[assignment]  # any module with a buffer
    model.head.register_forward_pre_hook(_fails_above(3))
    inputs, targets = (
        torch.from_numpy(array) for array in text_data.examples("validation", torch.arange(8).numpy())
    )
    Gradients(model, Recipe()).add(inputs, targets, 0.0)
    assert counted.seen.item() == 8


class _Room:
    """While it is entered, every model that a training builds has room for so many examples."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        def build(architecture: Architecture, *, seed: int) -> Model:
            model = build_model(architecture, seed=seed)
            model.register_forward_pre_hook(_fails_above(limit))
            return model

        monkeypatch.setattr(loop, "build_model", build)


def _trained(data: TaskData, architecture: Architecture, folder: Path, **options: Any) -> TrainingResult:
    return train(architecture, data, PLAN, seed=3, until=12, folder=folder, **options)


def test_f15_a_training_short_of_memory_goes_the_same_way(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _trained(text_data, text_architecture, tmp_path / "whole")
    _Room(monkeypatch, 3)
    short = _trained(text_data, text_architecture, tmp_path / "short")
    # float32 sums in another order, and twelve steps of Adam on top of them
    assert short.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-3)
    asked = iter(range(1000))
    parts = tmp_path / "parts"
    _trained(text_data, text_architecture, parts, should_stop=lambda: next(asked) == 5)
    resumed = _trained(text_data, text_architecture, parts)
    assert (resumed.metrics, resumed.train_curve) == (short.metrics, short.train_curve)


def test_no_room_for_one_example_is_a_reason(
    text_data: TaskData, text_architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Room(monkeypatch, 0)
    with pytest.raises(EvaluationError, match="out of memory even with one example") as caught:
        train(text_architecture, text_data, PLAN, seed=0, until=2, folder=None)
    assert caught.value.reason == "out_of_memory"


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
    )
    with pytest.raises(RuntimeError) as refused:  # what torch itself says on this system
        torch.empty(2**60)
    assert is_out_of_memory(refused.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
