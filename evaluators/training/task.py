"""What a task is: a data set by name, the batches models are trained on, and the loss that trains them.

A built-in task is a file in `tasks/`. A task of your own is a class in an installed package, named by an
entry point of the group `paretoformer.tasks`; the same class, the same methods (see docs/tasks.md and
examples/own_task).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from space.errors import InvalidInputError
from space.model import Model

from .data import Batch, TaskData, TaskKind, TrainingBatches
from .losses import mean_loss, mean_wrong


class Recipe:
    """How models learn from a task's data; every method may be replaced by one of your own.

    What a training does must follow from (data, seed, step) alone, so that one that was interrupted ends as
    one that ran through: no clock, no generator that is kept, no state in the object.
    """

    def batches(self, data: TaskData, *, seed: int, batch_size: int) -> Callable[[int], Batch]:
        """The data pipeline: step (from 0) -> inputs and targets. A pure function of seed and step."""
        return TrainingBatches(data, seed=seed, batch_size=batch_size)

    def loss(self, model: Model, inputs: Tensor, targets: Tensor, *, progress: float) -> Tensor:
        """The training step's loss, a mean over the targets that are not IGNORED (-100): a batch that does
        not fit into memory is run in parts, which are weighted by their targets. The caller does the rest:
        backward pass, clipping, optimiser, checkpoints. `progress`: fraction of the steps done.
        """
        return mean_loss(model(inputs), targets)

    def per_example(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (nats) and error (0 to 1) of each example, float64; their means are what the search ranks."""
        return mean_loss(logits, targets, per_example=True), mean_wrong(logits, targets)


class Task(Recipe, ABC):
    """A named data set. `version` is raised whenever the same name gives other data or another training."""

    kind: ClassVar[TaskKind]
    summary: ClassVar[str]
    """One line: what goes in, what is asked."""
    source: ClassVar[str]
    """Where it comes from."""
    version: ClassVar[int] = 1
    is_costly: ClassVar[bool] = False
    """Whether preparing takes so long that the data are kept in a file where there is a folder for it."""
    lengths: ClassVar[str] = ""
    """Which `task.length` it takes, in words; empty: none, the data decide."""

    @abstractmethod
    def prepare(self, length: int | None) -> TaskData:
        """All data, already split; equal for equal `length` on every machine.

        Raises:
            InvalidInputError: a length the task does not have, or data that are not there.
        """

    def prepared(self, length: int | None) -> TaskData:
        """`prepare`, once it is sure that the task takes a length.

        Raises:
            InvalidInputError: see `prepare`.
        """
        if length is not None and not self.lengths:
            raise InvalidInputError(
                f"task.length={length} is for text; leave it out for '{self.kind}', the data decide"
            )
        return self.prepare(length)


def owned(data: TaskData, name: str, task: Task) -> TaskData:
    """The data of a plug-in's task: trainings find its recipe by `name`, and its version is in the digest."""
    return replace(data, name=name, recipe=name, recipe_version=task.version)
