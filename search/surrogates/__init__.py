"""Surrogates: what an architecture is expected to be worth, learned from the trials of the job."""

from .fidelity import finished_labels
from .rows import Encoder, Rows
from .stack import FEWEST_ROWS, Evidence, Surrogate, fit_surrogate

__all__ = [
    "FEWEST_ROWS",
    "Encoder",
    "Evidence",
    "Rows",
    "Surrogate",
    "finished_labels",
    "fit_surrogate",
]
