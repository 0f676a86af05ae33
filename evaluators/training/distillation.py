"""Learning from a trained teacher beside the targets.

    loss = (1 - w) task + w T^2 mean KL(softmax(teacher / T) || softmax(student / T))

w = 0.5, T = 2 by default (`TrainingPlan`). Source: Hinton et al. 2015, arXiv:1503.02531. The teacher sees the
inputs that the student was called with, so a recipe may change them; targets of IGNORED do not count.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from space.architecture import Architecture, ImageInterface
from space.errors import InvalidInputError
from space.model import Model, build_model

from .checkpoints import load_weights
from .linear import fast_linear
from .losses import IGNORED


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained architecture and the folder of its checkpoint; its fp32 form teaches."""

    architecture: Architecture
    checkpoint: Path


class Distiller:
    """Holds a teacher and watches a student's calls."""

    def __init__(self, teacher: Model, student: Model, *, weight: float, temperature: float) -> None:
        self.weight, self.temperature = weight, temperature
        self.teacher = teacher.eval()
        self._seen: tuple[Tensor, Tensor] | None = None
        student.register_forward_hook(self._watch)

    def __call__(self, loss: Tensor, targets: Tensor) -> Tensor:
        """The task's loss of the student's last call, with what the teacher adds to it."""
        assert self._seen is not None, "the recipe's loss calls the model"
        inputs, student = self._seen
        self._seen = None
        with torch.no_grad(), fast_linear():
            teacher: Tensor = self.teacher(inputs)
        added = distillation_loss(student, teacher, targets, temperature=self.temperature)
        return (1 - self.weight) * loss + self.weight * added

    def _watch(self, module: nn.Module, arguments: Any, output: Tensor) -> None:
        self._seen = arguments[0], output


def distillation_loss(student: Tensor, teacher: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """T^2 times the mean divergence of logits [..., classes] over the targets [...] that ask something."""
    wanted = F.log_softmax(teacher / temperature, dim=-1)
    given = F.log_softmax(student / temperature, dim=-1)
    divergence = F.kl_div(given, wanted, reduction="none", log_target=True).sum(-1)
    return temperature**2 * divergence[targets != IGNORED].mean()


def build_teacher(teacher: Teacher, student: Architecture) -> Model:
    """The teacher's fp32 form with its trained weights.

    Raises:
        InvalidInputError: it answers another question than the student, or its checkpoint is gone.
    """
    if _question(teacher.architecture) != _question(student):
        raise InvalidInputError(
            f"teacher {teacher.architecture.id[:12]} takes {_question(teacher.architecture)}, "
            f"the student {_question(student)}; choose a teacher of the same task"
        )
    model = build_model(teacher.architecture.with_number_format("fp32"), seed=0)
    load_weights(model, teacher.checkpoint)
    return model.requires_grad_(False)


def _question(architecture: Architecture) -> str:
    """Inputs and outputs, in words; how an image is cut into patches is the model's own."""
    interface = architecture.interface
    fields = interface.model_dump(exclude={"patch_size"} if isinstance(interface, ImageInterface) else None)
    return f"{architecture.model} {fields}"
