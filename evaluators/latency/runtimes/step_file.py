"""An exported decode step as a function, in this process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
StepState = Mapping[str, Array]
StepFunction = Callable[[Array, int, StepState], tuple[Array, StepState]]


def step_function(path: Path, threads: int = 1) -> StepFunction:
    """(tokens [batch], position, state) -> logits [batch, outputs] and the state after them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def step(tokens: Array, position: int, state: StepState) -> tuple[Array, StepState]:
        feed = {"token": tokens, "position": np.array(position, np.int64), **state}
        logits, *after = session.run(None, feed)
        return logits, dict(zip(state, after, strict=True))

    return step
