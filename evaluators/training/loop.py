"""Short training of one architecture, which can be interrupted, resumed and continued at a later rung.

The fp32 form is trained, whatever number formats the architecture has: formats are applied to its checkpoint
afterwards. Weights start from a seed derived from (training id, seed), the data order from the seed: a
resumed training ends in the same bits as one that ran through, on the same machine and threads.

Modules that change over a training are told before every step how far it is. What modules add to the loss is
optimised and not reported. A step of a model with nested feed-forwards runs its batch once at every
granularity, and optimises and reports the mean of the losses.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.choice import Granular
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
from .data import Array, TaskData, TrainingBatches
from .evaluation import Metrics, evaluate, mean_loss, module_predictor
from .linear import fast_linear
from .plan import TrainingPlan, training_fingerprint

CHECKPOINT_EVERY_S = 10.0
CURVE_POINTS = 60
"""Points of a full training curve, each the mean loss of the steps since the last."""

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
) -> TrainingResult:
    """Trains to `until` steps from the newest checkpoint in `folder`, then evaluates on the validation part.

    Every step, and every batch of the evaluation, runs inside `step_guard()`. `should_stop` is asked before
    every step; a stopped training leaves a checkpoint. `on_progress(steps, loss)` is called about 60 times
    per full training.

    Raises:
        EvaluationError: `diverged` with the step, or `out_of_memory`.
        OSError: a checkpoint could not be written (a full disk).
    """
    if not 1 <= until <= plan.steps:
        raise ValueError(f"until={until} must be from 1 to the plan's {plan.steps} steps")
    wall, cpu = time.perf_counter(), time.process_time()
    place = None
    if folder is not None:
        place = training_folder(folder, architecture.training_id, training_fingerprint(data, plan), seed)
    with _out_of_memory_named():
        training = _Training(architecture, data, plan, seed, place)
        training.resume(until)
        done = training.run(until, step_guard, should_stop, on_progress)
        path = training.save(keep=done)
        metrics = training.evaluate(step_guard) if done else None
    return TrainingResult(
        step=training.step,
        metrics=metrics.values if metrics else {},
        standard_error=metrics.standard_error if metrics else {},
        train_curve=tuple(training.curve.points),
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


class _Training:
    """Model, optimizer and position of one training."""

    def __init__(
        self, architecture: Architecture, data: TaskData, plan: TrainingPlan, seed: int, place: Path | None
    ) -> None:
        self.data, self.plan, self.seed, self.place = data, plan, seed, place
        self.d_model = architecture.d_model
        self.batches = TrainingBatches(data, seed=seed, batch_size=plan.batch_size)
        plain = architecture.with_number_format("fp32")
        self.model: Model = build_model(plain, seed=init_seed(architecture.training_id, seed))
        self.nested = [module for module in self.model.modules() if isinstance(module, Granular)]
        self.granularities = sorted({divisor for module in self.nested for divisor in module.granularities})
        self.model.train()
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
            if self.curve.add(self.step, loss) and on_progress is not None:
                on_progress(*self.curve.points[-1])
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
                "curve": {"points": self.curve.points, "pending": self.curve.pending},
            },
        )
        path = save_checkpoint(self.place, checkpoint, keep=keep)
        self.saved_at, self.saved_keep = self.step, keep
        return path

    def evaluate(self, step_guard: StepGuard) -> Metrics:
        self.model.set_progress(self.step / self.plan.steps)
        predict = module_predictor(self.model)

        def guarded(inputs: Array) -> Array:
            with step_guard():
                return predict(inputs)

        try:
            return evaluate(guarded, self.data, "validation")
        except EvaluationError as error:
            raise EvaluationError(
                f"training diverged by step {self.step}: {error.message}", reason="diverged"
            ) from error

    def _one_step(self) -> float:
        inputs, targets = (torch.from_numpy(array) for array in self.batches(self.step))
        self.model.set_progress(self.step / self.plan.steps)
        self.optimizer.zero_grad(set_to_none=True)
        value = self._accumulate(inputs, targets)
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

    def _accumulate(self, inputs: Tensor, targets: Tensor) -> float:
        """Adds the gradients of the batch to the parameters and returns its mean loss."""
        if not self.granularities:
            return self._backward(inputs, targets, 1.0)
        values = []
        for divisor in self.granularities:
            for module in self.nested:
                module.set_granularity(divisor)
            values.append(self._backward(inputs, targets, 1 / len(self.granularities)))
        return math.fsum(values) / len(values)

    def _backward(self, inputs: Tensor, targets: Tensor, weight: float) -> float:
        with fast_linear():
            loss = mean_loss(self.model(inputs), targets)
        added = self.model.auxiliary_loss()
        optimised = weight * (loss if added is None else loss + added)
        optimised.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss.item()

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


@contextmanager
def _out_of_memory_named() -> Iterator[None]:
    """torch reports a failed allocation on the CPU as a bare RuntimeError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise EvaluationError(f"out of memory: {error}", reason="out_of_memory") from error
    except RuntimeError as error:
        if "not enough memory" not in str(error):
            raise
        raise EvaluationError(
            "out of memory; use a smaller batch or length", reason="out_of_memory"
        ) from error
