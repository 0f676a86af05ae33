"""Ways to run a model: ONNX Runtime in fresh processes, eager torch in this one."""

from .onnxruntime import (
    Failure,
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
    "TimedFile",
    "TimingTask",
    "predictor",
    "resident_bytes",
    "run_file",
    "time_files",
]
