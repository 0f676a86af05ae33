"""`digits`: scikit-learn's 1,797 handwritten digits of 8x8 pixels.

A smoke test and not a benchmark: a model without any token mixing does as well as attention. Source: Alpaydin
& Kaynak 1998, UCI Optical Recognition of Handwritten Digits (its test part).
"""

from typing import ClassVar

import numpy as np

from ..arrays import array_task
from ..data import TaskData, TaskKind
from ..task import Task


class Digits(Task):
    """8x8 pixels -> one of ten digits."""

    kind: ClassVar[TaskKind] = "image"
    summary: ClassVar[str] = "handwritten digits of 8x8 pixels; a smoke test"
    source: ClassVar[str] = "scikit-learn (Alpaydin & Kaynak 1998, UCI)"

    def prepare(self, length: int | None) -> TaskData:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        arrays = {"x": images.reshape(-1, 8, 8).astype(np.float32), "y": labels.astype(np.int64)}
        return array_task("digits", "image", arrays, where="digits")
