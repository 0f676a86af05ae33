"""Learning curves continued: `extrapolate` one, `corrected` by the finished ones of its mixer family."""

from .calibration import Correction, Finished, corrected, correction
from .extrapolation import Extrapolation, extrapolate, may_extrapolate
from .forms import FORMS, Form
from .mixer_families import mixer_family

__all__ = [
    "FORMS",
    "Correction",
    "Extrapolation",
    "Finished",
    "Form",
    "corrected",
    "correction",
    "extrapolate",
    "may_extrapolate",
    "mixer_family",
]
