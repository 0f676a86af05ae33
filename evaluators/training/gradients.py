"""The gradients of one training step's batch, in as few parts as fit into memory.

    grad loss(batch) = sum over parts of share(part) grad loss(part),   share: of the batch's targets

A batch that runs out of memory is run again in parts of half the size, and so are all that follow. The sum is
that of the whole batch up to rounding, unless a module looks at the batch as a whole (batch statistics, the
balance of experts): those see one part at a time.
"""

import logging
import math

import torch
from torch import Tensor

from space.choice import Granular
from space.model import Model

from .distillation import Distiller
from .linear import fast_linear
from .losses import num_asked
from .out_of_memory import give_back, is_out_of_memory
from .task import Recipe

log = logging.getLogger(__name__)


class Gradients:
    """Sets gradients of a model's parameters. `part_size`: most examples at a time; None: the whole batch."""

    def __init__(self, model: Model, recipe: Recipe, distiller: Distiller | None = None) -> None:
        self.part_size: int | None = None
        self._model, self._recipe, self._distiller = model, recipe, distiller
        self._nested = [module for module in model.modules() if isinstance(module, Granular)]
        self._granularities = sorted({divisor for module in self._nested for divisor in module.granularities})
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self._buffers = [name for name in model.state_dict() if name not in parameters]

    def add(self, inputs: Tensor, targets: Tensor, progress: float) -> float:
        """Sets the gradients of the batch and returns its mean loss.

        Raises:
            MemoryError, RuntimeError: one example at a time does not fit either.
        """
        while True:
            before = self._statistics()
            self._model.zero_grad(set_to_none=True)
            value = self._tried(inputs, targets, progress)
            if value is not None:
                return value
            self._model.zero_grad(set_to_none=True)
            self._restore(before)
            give_back()
            self.part_size = max(1, (self.part_size or len(inputs)) // 2)
            log.warning("batch does not fit into memory", extra={"part_size": self.part_size})

    def _tried(self, inputs: Tensor, targets: Tensor, progress: float) -> float | None:
        """None when memory ran out and smaller parts may fit; the error's frames are gone by then."""
        try:
            return self._in_parts(inputs, targets, progress)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self.part_size == 1 or len(inputs) == 1:
                raise
            return None

    def _in_parts(self, inputs: Tensor, targets: Tensor, progress: float) -> float:
        size = self.part_size or len(inputs)
        total = num_asked(targets)
        values = []
        for first in range(0, len(inputs), size):
            x, y = inputs[first : first + size], targets[first : first + size]
            asked = num_asked(y)
            if asked:
                values.append(asked / total * self._of_part(x, y, asked / total, progress))
        return math.fsum(values)

    def _of_part(self, inputs: Tensor, targets: Tensor, weight: float, progress: float) -> float:
        """Mean loss of a part, at every granularity of nested feed-forwards."""
        if not self._granularities:
            return self._backward(inputs, targets, weight, progress)
        values = []
        for divisor in self._granularities:
            for module in self._nested:
                module.set_granularity(divisor)
            share = weight / len(self._granularities)
            values.append(self._backward(inputs, targets, share, progress))
        return math.fsum(values) / len(values)

    def _backward(self, inputs: Tensor, targets: Tensor, weight: float, progress: float) -> float:
        with fast_linear():
            loss = self._recipe.loss(self._model, inputs, targets, progress=progress)
        added = self._model.auxiliary_loss()
        aim = loss if self._distiller is None else self._distiller(loss, targets)
        optimised = weight * (aim if added is None else aim + added)
        optimised.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss.item()

    def _statistics(self) -> dict[str, Tensor]:
        """What a forward pass in training mode may change."""
        if not self._buffers:
            return {}
        kept = self._model.state_dict(keep_vars=True)
        return {name: kept[name].detach().clone() for name in self._buffers}

    def _restore(self, statistics: dict[str, Tensor]) -> None:
        if statistics:
            with torch.no_grad():
                self._model.load_state_dict(statistics, strict=False)
