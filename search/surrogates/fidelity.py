"""Results of unfinished trainings, moved to where they would end.

    y = f(a) + sum over fidelities q < 1 of [q_a = q] (o_q + g_q log params)

f is a line on the statistics, fitted with the offsets o and slopes g by ridge; an unfinished result minus its
offset is a label beside those of finished trainings. The slope is there because large models are further from
their end at every step.
"""

import numpy as np

from .ridge import fit_ridge
from .rows import Rows

FEWEST_FINISHED = 3
"""Finished trainings that an offset needs; with fewer, unfinished results are compared as they are."""


def finished_labels(rows: Rows, y: np.ndarray, fidelity: np.ndarray) -> np.ndarray:
    """The labels, unfinished ones corrected; unchanged where nothing says what the end is like."""
    levels = sorted({float(level) for level in fidelity if level < 1.0})
    if not levels or (fidelity >= 1.0).sum() < FEWEST_FINISHED:
        return y
    size = rows.log_params[:, 0] - rows.log_params.mean()
    marks = np.stack([fidelity == level for level in levels], axis=1).astype(float)
    extra = np.column_stack([marks, marks * size[:, None]])
    line = fit_ridge(np.column_stack([rows.statistics, extra]), y)
    correction = (extra / line.scale[-extra.shape[1] :]) @ line.weights[-extra.shape[1] :]
    return np.asarray(y - correction)
