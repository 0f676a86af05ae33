"""How good a model is on a part of a task, whoever runs it: torch, or ONNX Runtime on the exported file.

loss = mean over examples of the mean over their targets of -ln p(target)
bits_per_byte = loss / ln 2              error = fraction of targets whose largest logit is another class

A task of an installed package may define loss and error of an example otherwise.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from space.errors import EvaluationError

from .data import Array, TaskData
from .linear import fast_linear
from .task import Recipe
from .tasks import recipe_of

Predict = Callable[[Array], Array]
"""Inputs as a model takes them -> float32 logits."""

EVALUATION_BATCH = {"bytes": 32, "values": 128, "image": 128}
"""Examples per call. Fixed: dynamic int8 scales activations per batch, so the size is part of the result."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Means over the examples of a part, and their standard errors (of one model: seeds vary beside it)."""

    values: Mapping[str, float]
    standard_error: Mapping[str, float]
    losses: NDArray[np.float64] = field(compare=False, repr=False)
    """Per example, in nats, for paired comparisons."""


def evaluate(
    predict: Predict, data: TaskData, part: Literal["validation", "test"], *, max_batch: int | None = None
) -> Metrics:
    """Quality on all examples of a part, in their fixed order.

    Raises:
        EvaluationError: a logit is not finite (`invalid_result`).
    """
    size = max_batch or EVALUATION_BATCH[data.input]
    count, recipe = len(data.part(part)), recipe_of(data)
    pieces = [
        _losses_and_errors(predict, data, recipe, part, np.arange(first, min(first + size, count)))
        for first in range(0, count, size)
    ]
    losses = np.concatenate([piece[0] for piece in pieces])
    errors = np.concatenate([piece[1] for piece in pieces])
    if not np.isfinite(losses).all():
        bad = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise EvaluationError(f"loss of {part} example {bad} is {losses[bad]}", reason="invalid_result")
    per_example = {"loss": losses, "bits_per_byte": losses / math.log(2), "error": errors}
    return Metrics(
        values={name: float(per_example[name].mean()) for name in data.metrics},
        standard_error={name: _standard_error(per_example[name]) for name in data.metrics},
        losses=losses,
    )


def _losses_and_errors(
    predict: Predict, data: TaskData, recipe: Recipe, part: Literal["validation", "test"], indices: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inputs, targets = data.examples(part, indices)
    logits = torch.from_numpy(np.array(predict(inputs), dtype=np.float32))
    losses, errors = recipe.per_example(logits, torch.from_numpy(targets))
    return losses.double().numpy(), errors.double().numpy()


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def module_predictor(model: nn.Module) -> Predict:
    """A torch model as a callable on arrays, without gradients; the model is in eval mode while it runs."""

    def predict(inputs: Array) -> Array:
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode(), fast_linear():
                logits: torch.Tensor = model(torch.from_numpy(np.array(inputs)))
                return logits.float().numpy()
        finally:
            model.train(was_training)

    return predict
