"""Figures: one pure function each, records in, `go.Figure` out. SVG traces only.

pandas, where it is installed, is imported before any figure: plotly looks into `sys.modules` for it at every
value, and fails on a module that another thread is still importing.
"""

import contextlib
import importlib

from .anatomy import blocks_figure, memory_figure
from .calibration import calibration_figure, kernels_of
from .curves import Curve, compared_curves, curve_figure, learning_curves
from .front import front_figure
from .funnel import Stage, funnel, funnel_figure
from .importance import importance_figure
from .latency import LatencyPair, latency_figure, latency_pairs
from .learning import LearningLine, learning_figure, learning_lines
from .progress import Growth, growth, growth_inside, progress_figure

with contextlib.suppress(ImportError):
    importlib.import_module("pandas")

__all__ = [
    "Curve",
    "Growth",
    "LatencyPair",
    "LearningLine",
    "Stage",
    "blocks_figure",
    "calibration_figure",
    "compared_curves",
    "curve_figure",
    "front_figure",
    "funnel",
    "funnel_figure",
    "growth",
    "growth_inside",
    "importance_figure",
    "kernels_of",
    "latency_figure",
    "latency_pairs",
    "learning_curves",
    "learning_figure",
    "learning_lines",
    "memory_figure",
    "progress_figure",
]
