"""Figures: one pure function each, records in, `go.Figure` out. SVG traces only."""

from .anatomy import blocks_figure, memory_figure
from .curves import Curve, compared_curves, curve_figure, learning_curves
from .front import front_figure
from .funnel import Stage, funnel, funnel_figure
from .latency import LatencyPair, latency_figure, latency_pairs
from .progress import Growth, growth, progress_figure

__all__ = [
    "Curve",
    "Growth",
    "LatencyPair",
    "Stage",
    "blocks_figure",
    "compared_curves",
    "curve_figure",
    "front_figure",
    "funnel",
    "funnel_figure",
    "growth",
    "latency_figure",
    "latency_pairs",
    "learning_curves",
    "memory_figure",
    "progress_figure",
]
