"""Short training on a task: `prepare_task`, `TrainingPlan`, `train`, `evaluate`."""

from .checkpoints import load_weights
from .data import TaskData, TrainingBatches, calibration_batch, probe_batch
from .evaluation import Metrics, evaluate, module_predictor
from .loop import TrainingResult, train
from .plan import TrainingPlan, training_fingerprint
from .tasks import BUILT_IN, TASK_KINDS, prepare_task

__all__ = [
    "BUILT_IN",
    "TASK_KINDS",
    "Metrics",
    "TaskData",
    "TrainingBatches",
    "TrainingPlan",
    "TrainingResult",
    "calibration_batch",
    "evaluate",
    "load_weights",
    "module_predictor",
    "prepare_task",
    "probe_batch",
    "train",
    "training_fingerprint",
]
