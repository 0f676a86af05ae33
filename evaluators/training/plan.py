"""How an architecture is trained, in numbers: what makes two trainings comparable.

    rate(t) = 0.003 sqrt(64 / d_model) min(1, (t + 1) / w, (S - t) / D),    t = 0 .. S - 1

Warm-up w = 5 % and decay D = 20 % of the S steps; between them the rate is constant, so that rungs before the
decay compare at equal steps. AdamW: Loshchilov & Hutter 2017, arXiv:1711.05101. A budget may also be given in
tokens: as many steps as see at least so many.
"""

import math
from dataclasses import asdict, dataclass

import torch

from ..protocol import fingerprint
from .data import TaskData

TRAINING_VERSION = 1
"""Raised whenever the same plan gives other numbers."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """One schedule. `steps` is its total; a training may end at any step before."""

    steps: int
    batch_size: int
    learning_rate: float = 0.003
    """At width 64; others get sqrt(64 / d_model) of it."""
    weight_decay: float = 0.05
    """Of matrices and kernels; gains and biases have none."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""
    warmup: float = 0.05
    """Fraction of the steps."""
    decay: float = 0.2
    """Fraction of the steps, at the end."""
    beta1: float = 0.9
    beta2: float = 0.95
    teacher: str = ""
    """Which trained checkpoint teaches beside the targets (its folder's name); empty: none."""
    distillation: float = 0.5
    """Weight of the teacher's term."""
    temperature: float = 2.0
    """Of the softmax that teacher and student are compared by."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps={self.steps} and batch_size={self.batch_size} must be at least 1")

    def rate(self, step: int, d_model: int) -> float:
        """Learning rate of step `step` (from 0)."""
        warm = max(1, round(self.warmup * self.steps))
        down = max(1, round(self.decay * self.steps))
        factor = min(1.0, (step + 1) / warm, (self.steps - step) / down)
        return self.learning_rate * math.sqrt(64 / d_model) * factor


def steps_of_tokens(tokens: int, data: TaskData, batch_size: int) -> int:
    """Steps that see at least so many tokens; an image counts its patches at the default size."""
    return max(1, math.ceil(tokens / (batch_size * data.length)))


def training_fingerprint(data: TaskData, plan: TrainingPlan) -> str:
    """Key under which the results of this plan on these data compare (32 hex characters)."""
    numbers = asdict(plan)
    if not plan.teacher:  # trainings without a teacher keep the keys from before there were teachers
        for name in ("teacher", "distillation", "temperature"):
            del numbers[name]
    conditions = {"data": data.digest, "plan": numbers, "torch": torch.__version__}
    return fingerprint("training", TRAINING_VERSION, **conditions)
