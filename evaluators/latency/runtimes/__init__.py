"""Ways to run a model: ONNX Runtime and compiled torch in fresh processes, eager torch in this one."""

from .compiled import Subject, compiled_process
from .fresh_process import Failure
from .onnxruntime import (
    InputShape,
    TimedFile,
    TimingTask,
    predictor,
    resident_bytes,
    run_file,
    time_files,
)

__all__ = [
    "Failure",
    "InputShape",
    "Subject",
    "TimedFile",
    "TimingTask",
    "compiled_process",
    "predictor",
    "resident_bytes",
    "run_file",
    "time_files",
]
