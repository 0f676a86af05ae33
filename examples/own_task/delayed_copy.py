"""Delayed copy: at every place of a random sequence the token a few places before is asked.

    target_i = token_{i - delay},   i >= delay;     the places before ask nothing

An example of an own task: this file and one line in pyproject.toml. Its training never sees a sequence twice
(an own data pipeline) and smooths the targets (an own training step); the loss that the search ranks by is
the plain one.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evaluators.training import IGNORED, Batch, Part, Task, TaskData, TaskKind
from space.model import Model

VOCAB_SIZE, DELAY = 16, 5
SMOOTHING = 0.1


class DelayedCopy(Task):
    """A sequence of token ids -> at every place the token five places before."""

    kind: ClassVar[TaskKind] = "sequence"
    summary: ClassVar[str] = "the token five places before"
    source: ClassVar[str] = "generated"
    version: ClassVar[int] = 1
    lengths: ClassVar[str] = "32, or any from 8 to 8,192"

    def prepare(self, length: int | None) -> TaskData:
        """Fixed sequences to evaluate on. Nothing is trained on `train`; proxies look at it."""
        length = 32 if length is None else length
        parts = [Part(*sequences(count, length, seed)) for seed, count in enumerate((256, 256, 256))]
        return TaskData(
            name="delayed_copy",
            kind="sequence",
            train=parts[0],
            validation=parts[1],
            test=parts[2],
            input="bytes",
            outputs=VOCAB_SIZE,
            batch_size=32,
            vocab_size=VOCAB_SIZE,
        )

    def batches(self, data: TaskData, *, seed: int, batch_size: int) -> Callable[[int], Batch]:
        """New sequences for every step, from seed and step alone: a resumed training sees the same ones."""
        return lambda step: sequences(batch_size, data.length, (3, seed, step))

    def loss(self, model: Model, inputs: Tensor, targets: Tensor, *, progress: float) -> Tensor:
        """Smoothed at first, plain at the end; a mean over the targets that ask something."""
        logits = model(inputs).flatten(0, 1)
        smoothing = SMOOTHING * (1 - progress)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


def sequences(
    count: int, length: int, seed: int | tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and targets, both [count, length]."""
    tokens = np.random.default_rng(seed).integers(0, VOCAB_SIZE, (count, length))
    targets = np.full_like(tokens, IGNORED)
    targets[:, DELAY:] = tokens[:, :-DELAY]
    return tokens, targets
