"""How good a model is on a part of a task, whoever runs it: torch, or ONNX Runtime on the exported file.

loss = mean over examples of the mean over their targets of -ln p(target)
bits_per_byte = loss / ln 2              error = fraction of examples whose largest logit is another class
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from space.errors import EvaluationError

from .data import Array, TaskData
from .linear import fast_linear

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
    count = len(data.part(part))
    pieces = [
        _losses_and_errors(predict, data, part, np.arange(first, min(first + size, count)))
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
    predict: Predict, data: TaskData, part: Literal["validation", "test"], indices: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inputs, targets = data.examples(part, indices)
    logits = torch.from_numpy(np.array(predict(inputs), dtype=np.float32))
    wanted = torch.from_numpy(targets)
    losses = mean_loss(logits, wanted, per_example=True)
    wrong = (logits.argmax(-1) != wanted).double().view(len(indices), -1).mean(1)
    return losses.numpy(), wrong.numpy()


def mean_loss(logits: torch.Tensor, targets: torch.Tensor, *, per_example: bool = False) -> torch.Tensor:
    """Mean cross-entropy in nats, over everything or (float64) per example."""
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    if not per_example:
        return F.cross_entropy(flat, wanted)
    return F.cross_entropy(flat, wanted, reduction="none").view(len(targets), -1).double().mean(1)


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
