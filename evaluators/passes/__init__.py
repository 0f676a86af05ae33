"""Shared passes: one instrumented run of a network, and everything proxies read of it."""

from .collecting import GRADIENT_EXAMPLES, MAX_TOKENS, MICRO_BATCHES, collect, probe_size
from .losses import task_loss
from .moments import GradientMoments, stacked_moments
from .noise import quantization_noise
from .points import FeedForwardPoint, Points, points_of
from .records import (
    GROUPS,
    Confidence,
    Group,
    Hidden,
    Isometry,
    Loss,
    Matrix,
    Need,
    Passes,
    ProbeInput,
    Signs,
)
from .rows import MAX_ROWS, ROWS_PER_UNIT, SAMPLED_UNITS

__all__ = [
    "GRADIENT_EXAMPLES",
    "GROUPS",
    "MAX_ROWS",
    "MAX_TOKENS",
    "MICRO_BATCHES",
    "ROWS_PER_UNIT",
    "SAMPLED_UNITS",
    "Confidence",
    "FeedForwardPoint",
    "GradientMoments",
    "Group",
    "Hidden",
    "Isometry",
    "Loss",
    "Matrix",
    "Need",
    "Passes",
    "Points",
    "ProbeInput",
    "Signs",
    "collect",
    "points_of",
    "probe_size",
    "quantization_noise",
    "stacked_moments",
    "task_loss",
]
