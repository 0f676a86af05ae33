"""Short training of one architecture, which can be interrupted, resumed and continued at a later rung.

The fp32 form is trained, whatever number formats the architecture has: formats are applied to its checkpoint
afterwards. Weights start from a seed derived from (training id, seed), the data order from the seed: a
resumed training ends in the same bits as one that ran through, on the same machine and threads.

Modules that change over a training are told before every step how far it is. What modules add to the loss is
optimised and not reported, nor is a teacher's term. A step of a model with nested feed-forwards runs its
batch once at every granularity, and optimises and reports the mean of the losses. A training whose loss goes
to twice that of guessing and stays there is stopped as diverged.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from space.architecture import Architecture
from space.errors import EvaluationError
from space.model import Model, build_model

from .checkpoints import (
    Checkpoint,
    copy_weights,
    model_tensors,
    newest_checkpoint,
    remove_drafts,
    save_checkpoint,
    training_folder,
)
from .data import Array, TaskData
from .distillation import Distiller, Teacher, build_teacher
from .evaluation import EVALUATION_BATCH, Metrics, evaluate, module_predictor
from .gradients import Gradients
from .out_of_memory import give_back, is_out_of_memory, out_of_memory_named
from .pairs import save_losses
from .plan import TrainingPlan, training_fingerprint
from .tasks import recipe_of

CHECKPOINT_EVERY_S = 10.0
CURVE_POINTS = 60
"""Points of a full training curve, each the mean loss of the steps since the last."""
DIVERGED_FACTOR, DIVERGED_POINTS = 2.0, 3
"""A training has diverged when so many points in a row are above so many times the loss of guessing, or of
its first point where that is more."""
FIRST_WATCHED = 0.04
"""Fraction of the steps before the first point of a validation curve."""
WATCHED_EXAMPLES = 128
WATCHED_WINDOWS = 32
"""What a point of a validation curve is read from: the same examples, or windows of text, for every point."""

StepGuard = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What `train` reached. `stopped`: told to stop before `until`; then there are no metrics."""

    step: int
    metrics: Mapping[str, float]
    """On the validation part: `loss` (nats) and `bits_per_byte` (text) or `error` (classes)."""
    standard_error: Mapping[str, float]
    """Of the metrics, over the validation examples."""
    train_curve: tuple[tuple[int, float], ...]
    """(steps done, mean training loss since the point before)."""
    validation_curve: tuple[tuple[int, float], ...]
    """(steps done, loss in nats on a fixed slice of the validation part), where it was asked for."""
    losses: NDArray[np.float64] | None = field(compare=False, repr=False)
    """Of every validation example, in nats: two architectures compare by their differences."""
    checkpoint: Path | None
    wall_s: float
    """Of this call, which may have continued an earlier one."""
    cpu_s: float
    stopped: bool = False


@dataclass
class _Curve:
    """Mean loss of every stretch of `every` steps."""

    every: int
    points: list[tuple[int, float]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)

    def add(self, step: int, loss: float) -> bool:
        """True when a point was added. `step`: steps done."""
        self.pending.append(loss)
        if len(self.pending) < self.every:
            return False
        self.points.append((step, math.fsum(self.pending) / len(self.pending)))
        self.pending.clear()
        return True


def train(
    architecture: Architecture,
    data: TaskData,
    plan: TrainingPlan,
    *,
    seed: int,
    until: int,
    folder: Path | None,
    step_guard: StepGuard = nullcontext,
    should_stop: Callable[[], bool] | None = None,
    on_progress: Callable[[int, float], None] | None = None,
    teacher: Teacher | None = None,
    watched: int = 0,
) -> TrainingResult:
    """Trains to `until` steps from the newest checkpoint in `folder`, then evaluates on the validation part.

    Every step, and every batch of the evaluation, runs inside `step_guard()`. `should_stop` is asked before
    every step; a stopped training leaves a checkpoint. `on_progress(steps, loss)` is called about 60 times
    per full training. `teacher`: the one that the plan names. `watched`: points of a validation curve over
    the whole plan, evenly spaced in the logarithm of the steps.

    Raises:
        EvaluationError: `diverged` with the step, or `out_of_memory`.
        OSError: a checkpoint could not be written (a full disk).
    """
    if not 1 <= until <= plan.steps:
        raise ValueError(f"until={until} must be from 1 to the plan's {plan.steps} steps")
    if bool(plan.teacher) != (teacher is not None):
        raise ValueError(
            f"the plan names the teacher '{plan.teacher}', the call {teacher}; give both or none"
        )
    wall, cpu = time.perf_counter(), time.process_time()
    place = None
    if folder is not None:
        place = training_folder(folder, architecture.training_id, training_fingerprint(data, plan), seed)
    with out_of_memory_named():
        training = _Training(architecture, data, plan, seed, place, teacher)
        training.watched = watched_steps(plan.steps, watched)
        training.resume(until)
        done = training.run(until, step_guard, should_stop, on_progress)
        path = training.save(keep=done)
        metrics = training.evaluate(step_guard) if done else None
        if metrics and path:
            save_losses(path, metrics.losses)
    return TrainingResult(
        step=training.step,
        metrics=metrics.values if metrics else {},
        standard_error=metrics.standard_error if metrics else {},
        train_curve=tuple(training.curve.points),
        validation_curve=tuple(training.seen),
        losses=metrics.losses if metrics else None,
        checkpoint=path,
        wall_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu,
        stopped=not done,
    )


def init_seed(training_id: str, seed: int) -> int:
    """63 bits of SHA-256 for the initial weights: seeds of two architectures have nothing in common.

    >>> 0 <= init_seed("a", 0) < 2**63 and init_seed("a", 0) != init_seed("b", 0)
    True
    """
    return int.from_bytes(hashlib.sha256(f"init/{training_id}/{seed}".encode()).digest()[:8]) >> 1


def watched_steps(steps: int, points: int) -> frozenset[int]:
    """After which steps the points of a validation curve lie.

    >>> sorted(watched_steps(100, 4))
    [4, 12, 34, 100]
    """
    if points < 1:
        return frozenset()
    spread = np.geomspace(max(1.0, FIRST_WATCHED * steps), steps, points)
    return frozenset(int(step) for step in np.round(spread))


class _Training:
    """Model, optimizer and position of one training."""

    def __init__(
        self,
        architecture: Architecture,
        data: TaskData,
        plan: TrainingPlan,
        seed: int,
        place: Path | None,
        teacher: Teacher | None = None,
    ) -> None:
        self.data, self.plan, self.seed, self.place = data, plan, seed, place
        self.d_model = architecture.d_model
        recipe = recipe_of(data)
        self.batches = recipe.batches(data, seed=seed, batch_size=plan.batch_size)
        plain = architecture.with_number_format("fp32")
        self.model: Model = build_model(plain, seed=init_seed(architecture.training_id, seed))
        self.model.train()
        distiller = None
        if teacher is not None:
            distiller = Distiller(
                build_teacher(teacher, architecture),
                self.model,
                weight=plan.distillation,
                temperature=plan.temperature,
            )
        self.gradients = Gradients(self.model, recipe, distiller)
        self.watched: frozenset[int] = frozenset()
        self.seen: list[tuple[int, float]] = []
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = _optimizer(self.parameters, plan)
        self.step = 0
        self.saved_at = -1
        self.saved_keep = False
        self.curve = _Curve(max(1, round(plan.steps / CURVE_POINTS)))

    def resume(self, until: int) -> None:
        """Takes over the newest intact checkpoint, if there is one."""
        if self.place is None:
            return
        remove_drafts(self.place)
        found = newest_checkpoint(self.place, until)
        if found is None:
            return
        copy_weights(found.weights, self.model)
        if found.optimizer:
            self._restore_optimizer(found.optimizer)
        self.step = self.saved_at = found.step
        self.saved_keep = bool(found.state["keep"])
        curve = found.state["curve"]
        self.curve.points = [(int(step), float(loss)) for step, loss in curve["points"]]
        self.curve.pending = [float(loss) for loss in curve["pending"]]
        self.seen = [(int(step), float(loss)) for step, loss in curve.get("validation", ())]
        self.gradients.part_size = found.state.get("part_size")

    def run(
        self,
        until: int,
        step_guard: StepGuard,
        should_stop: Callable[[], bool] | None,
        on_progress: Callable[[int, float], None] | None,
    ) -> bool:
        """Steps to `until`; False when stopped before."""
        saved = time.monotonic()
        while self.step < until:
            if should_stop is not None and should_stop():
                return False
            with step_guard():
                loss = self._one_step()
            self.step += 1
            if self.curve.add(self.step, loss):
                self._check_divergence()
                if on_progress is not None:
                    on_progress(*self.curve.points[-1])
            if self.step in self.watched:
                self._watch(step_guard)
            if time.monotonic() - saved > CHECKPOINT_EVERY_S and self.step < until:
                self.save(keep=False)
                saved = time.monotonic()
        return True

    def save(self, *, keep: bool) -> Path | None:
        """Writes a checkpoint, unless this one is there or nothing was trained."""
        if self.place is None or self.step == 0:
            return None
        if self.saved_at == self.step and (self.saved_keep or not keep):
            return self.place / str(self.step)
        finished = self.step == self.plan.steps
        checkpoint = Checkpoint(
            step=self.step,
            weights=model_tensors(self.model),
            optimizer={} if finished else self._optimizer_tensors(),
            state={
                "seed": self.seed,
                "data_cursor": self.step * self.plan.batch_size,
                "curve": {
                    "points": self.curve.points,
                    "pending": self.curve.pending,
                    "validation": self.seen,
                },
                "part_size": self.gradients.part_size,
            },
        )
        path = save_checkpoint(self.place, checkpoint, keep=keep)
        self.saved_at, self.saved_keep = self.step, keep
        return path

    def evaluate(self, step_guard: StepGuard) -> Metrics:
        """On the validation part, in batches as large as fit."""
        size = EVALUATION_BATCH[self.data.input]
        while True:
            try:
                return self._evaluated(step_guard, self.data, size)
            except (MemoryError, RuntimeError) as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            give_back()
            size //= 2

    def _watch(self, step_guard: StepGuard) -> None:
        """A point of the validation curve; it changes nothing in the training."""
        count = WATCHED_WINDOWS if self.data.is_language_model else WATCHED_EXAMPLES
        few = self.data.thinned(count)
        metrics = self._evaluated(step_guard, few, self.gradients.part_size or EVALUATION_BATCH[few.input])
        self.seen.append((self.step, metrics.values["loss"]))

    def _evaluated(self, step_guard: StepGuard, data: TaskData, size: int) -> Metrics:
        self.model.set_progress(self.step / self.plan.steps)
        predict = module_predictor(self.model)

        def guarded(inputs: Array) -> Array:
            with step_guard():
                return predict(inputs)

        try:
            return evaluate(guarded, data, "validation", max_batch=size)
        except EvaluationError as error:
            raise EvaluationError(
                f"training diverged by step {self.step}: {error.message}", reason="diverged"
            ) from error

    def _one_step(self) -> float:
        inputs, targets = (torch.from_numpy(array) for array in self.batches(self.step))
        progress = self.step / self.plan.steps
        self.model.set_progress(progress)
        value = self.gradients.add(inputs, targets, progress)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.plan.clip)
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise EvaluationError(
                f"training diverged at step {self.step + 1}: loss {value:g}, gradient norm {norm.item():g}",
                reason="diverged",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step, self.d_model)
        self.optimizer.step()
        return value

    def _check_divergence(self) -> None:
        """Raises EvaluationError when the last points are all far worse than guessing."""
        points = self.curve.points
        limit = DIVERGED_FACTOR * max(math.log(self.data.outputs), points[0][1])
        if len(points) > DIVERGED_POINTS and min(loss for _, loss in points[-DIVERGED_POINTS:]) > limit:
            raise EvaluationError(
                f"training diverged by step {self.step}: its mean loss of {points[-1][1]:.4g} is more than "
                f"{limit:.4g}, {DIVERGED_FACTOR:g} times that of guessing",
                reason="diverged",
            )

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state[parameter].items()
        }

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        for path, tensor in tensors.items():
            name, _, key = path.rpartition("/")
            self.optimizer.state[self.parameters[name]][key] = tensor


def _optimizer(parameters: Mapping[str, Tensor], plan: TrainingPlan) -> torch.optim.AdamW:
    decayed = [parameter for parameter in parameters.values() if parameter.ndim >= 2]
    others = [parameter for parameter in parameters.values() if parameter.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": plan.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=plan.learning_rate,
        betas=(plan.beta1, plan.beta2),
        fused=True,
    )
