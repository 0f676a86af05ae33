"""Short training on a task: `prepare_task`, `TrainingPlan`, `train`, `evaluate`."""

from .checkpoints import load_weights
from .data import Array, Batch, Part, TaskData, TaskKind, TrainingBatches, calibration_batch, probe_batch
from .distillation import Teacher
from .evaluation import Metrics, evaluate, module_predictor
from .loop import TrainingResult, train
from .losses import IGNORED
from .pairs import Paired, load_losses, paired_difference
from .plan import TrainingPlan, steps_of_tokens, training_fingerprint
from .prepare import FORMATS, TASK_KINDS, prepare_task
from .task import Recipe, Task
from .tasks import BUILT_IN, recipe_of, tasks

__all__ = [
    "BUILT_IN",
    "FORMATS",
    "IGNORED",
    "TASK_KINDS",
    "Array",
    "Batch",
    "Metrics",
    "Paired",
    "Part",
    "Recipe",
    "Task",
    "TaskData",
    "TaskKind",
    "Teacher",
    "TrainingBatches",
    "TrainingPlan",
    "TrainingResult",
    "calibration_batch",
    "evaluate",
    "load_losses",
    "load_weights",
    "module_predictor",
    "paired_difference",
    "prepare_task",
    "probe_batch",
    "recipe_of",
    "steps_of_tokens",
    "tasks",
    "train",
    "training_fingerprint",
]
