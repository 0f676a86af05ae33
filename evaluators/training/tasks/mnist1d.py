"""`mnist1d`: ten stroke-like signals of 40 points, distorted so that only their order tells the class.

A template of 12 points is padded with 36 to 60 zeros, resampled to 72 points, scaled, shifted around, filled
with smooth noise where it is zero, given white noise and a random slope, and resampled to 40 points.
Source: Greydanus & Kobak 2024, arXiv:2011.14439 (the procedure). Deliberately different: the templates are
drawn here, so published accuracies (logistic regression 32 %, perceptron 68 %, GRU 91 %, convolutions 94 %)
are only near.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import array_task
from ..data import Array, TaskData, TaskKind
from ..task import Task

TRAIN, TEST = 4000, 1000
SEED = 42
POINTS, PADDED, LENGTH = 12, 72, 40
TEMPLATES = (
    (0.0, 2.6, 4.1, 4.8, 5.1, 5.2, 5.2, 5.1, 4.8, 4.1, 2.6, 0.0),
    (0.0, 1.5, 3.0, 3.2, 3.2, 3.2, 3.2, 3.2, 3.2, 3.2, 3.2, 3.2),
    (0.0, 2.0, 3.5, 4.0, 3.6, 2.6, 1.3, 0.0, -1.2, -1.4, 0.8, 3.6),
    (0.0, 2.4, 3.4, 3.0, 1.6, 0.6, 1.6, 3.2, 3.9, 3.4, 2.0, 0.0),
    (0.0, -1.2, -2.4, -3.6, -3.2, -0.4, 2.2, 1.0, 1.0, 1.0, 1.0, 1.0),
    (0.0, -3.0, -3.2, -3.2, -2.2, -0.4, 0.8, 1.2, 1.0, 0.2, -1.4, -3.0),
    (0.0, -1.8, -3.2, -4.1, -4.6, -4.4, -2.2, -0.7, -0.5, -1.2, -2.6, -4.0),
    (0.0, 1.6, 3.2, 4.4, 3.8, 3.0, 2.2, 1.4, 0.7, 0.0, -0.7, -1.4),
    (0.0, 1.6, 1.9, 1.3, 0.2, -1.2, -0.3, 1.5, 2.3, 2.2, 1.2, -0.4),
    (0.0, 1.6, 2.4, 2.0, 0.8, -0.2, 1.4, 2.5, 2.4, 2.2, 2.0, 1.8),
)
"""How far to the side the pen is at twelve heights of a digit."""

Signal = NDArray[np.float64]


class Mnist1d(Task):
    """40 values -> one of ten classes."""

    kind: ClassVar[TaskKind] = "sequence"
    summary: ClassVar[str] = "stroke-like signals of 40 points; does a model mix tokens?"
    source: ClassVar[str] = "generated (Greydanus & Kobak 2024, arXiv:2011.14439)"

    def prepare(self, length: int | None) -> TaskData:
        inputs, labels = signals(TRAIN + TEST, np.random.default_rng(SEED))
        arrays: dict[str, Array] = {"x_train": inputs[:TRAIN], "y_train": labels[:TRAIN]}
        arrays |= {"x_test": inputs[TRAIN:], "y_test": labels[TRAIN:]}
        return array_task("mnist1d", "sequence", arrays, where="mnist1d")


def signals(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Signals [count, 40] and their classes, every class equally often, in random order."""
    templates = standard_templates()
    labels = rng.permutation(np.arange(count) % len(templates))
    inputs = np.stack([distorted(templates[label], rng) for label in labels])
    return inputs.astype(np.float32), labels.astype(np.int64)


def standard_templates() -> Signal:
    """[10, 12]: deviation 1, starting at 0, divided by 6."""
    drawn = np.array(TEMPLATES)
    standard: Signal = (drawn - drawn.mean(1, keepdims=True)) / drawn.std(1, keepdims=True)
    return (standard - standard[:, :1]) / 6


def distorted(template: Signal, rng: np.random.Generator) -> Signal:
    """One example [40] of a template [12]."""
    padding = int(rng.integers(36, 61))
    padded = np.concatenate(
        [template + 1e-8, np.zeros(padding)]
    )  # a point of the stroke is never exactly zero
    signal = resampled(padded, PADDED) * (1 + 0.4 * (rng.random() - 0.5))
    signal = np.roll(signal, int(rng.integers(0, 48)))
    signal = np.where(signal == 0, 0.25 * smooth(rng.standard_normal(PADDED)), signal)
    signal = signal + 0.02 * rng.standard_normal(PADDED)
    ramp = np.linspace(-0.5, 0.5, PADDED)
    return resampled(signal - 0.75 * (rng.random() - 0.5) * ramp, LENGTH)


def resampled(signal: Signal, points: int) -> Signal:
    """The signal read linearly at evenly spaced places."""
    places = np.linspace(0, len(signal) - 1, points)
    return np.interp(places, np.arange(len(signal)), signal)


def smooth(noise: Signal) -> Signal:
    """Convolved with a Gaussian of deviation 2, reflected at the ends."""
    width = 8
    kernel = np.exp(-(np.arange(-width, width + 1) ** 2) / 8)
    padded = np.pad(noise, width, mode="symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
