"""Energy of a pass: a model that needs calibration, and the counter of this machine where it has one.

    E = t P_static + FLOPs e_flop + bytes e_mem

Without a calibration there is no number, only order: `UnsupportedError`. The counter is RAPL, through Linux'
powercap files; where they cannot be read energy is unsupported, never estimated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from space.errors import InvalidInputError, UnsupportedError

from .roofline import Analytic

POWERCAP = Path("/sys/class/powercap")
ENOUGH_RUNS = 4
"""Three coefficients and one to spare."""


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Fitted coefficients; none of them is negative."""

    static_w: float
    joules_per_flop: float
    joules_per_byte: float

    def joules(self, found: Analytic, seconds: float | None = None) -> float:
        """Of one pass; `seconds` measured, or else the analytic ones."""
        duration = found.seconds if seconds is None else seconds
        return (
            duration * self.static_w + found.flops * self.joules_per_flop + found.bytes * self.joules_per_byte
        )


def fit_energy(runs: Sequence[tuple[Analytic, float, float]]) -> EnergyModel:
    """From (analytic work, measured seconds, measured joules) of several passes.

    Each is weighed by its inverse joules, so that relative errors count.

    Raises:
        UnsupportedError: too few measured runs; there is no default.
        InvalidInputError: a measured energy that is not positive.
    """
    if len(runs) < ENOUGH_RUNS:
        raise UnsupportedError(
            f"energy: {len(runs)} measured runs; {ENOUGH_RUNS} calibrate the model, and "
            "without a calibration it says nothing"
        )
    for _, _, joules in runs:
        if not joules > 0:
            raise InvalidInputError(f"energy: {joules:g} J is not positive; measure over 2 s or more")
    rows = np.array([[seconds, found.flops, found.bytes] for found, seconds, _ in runs])
    measured = np.array([joules for _, _, joules in runs])
    scale = rows.max(axis=0)
    weights, _ = nnls(rows / scale / measured[:, None], np.ones(len(runs)))
    static_w, per_flop, per_byte = (float(weight) for weight in weights / np.where(scale > 0, scale, 1.0))
    return EnergyModel(static_w, per_flop, per_byte)


def energy_counter(folder: Path = POWERCAP) -> Callable[[], float]:
    """Joules that the processor packages have used so far, as a function to call before and after.

    Raises:
        UnsupportedError: this machine has no counter that may be read.
    """
    files = sorted(folder.glob("intel-rapl:*/energy_uj"))
    packages = [file for file in files if file.parent.name.count(":") == 1]
    try:
        for file in packages:
            int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        packages = []
    if not packages:
        raise UnsupportedError(f"no energy counter under {folder} may be read; energy is not measured here")

    def joules() -> float:
        return sum(int(file.read_text(encoding="ascii")) for file in packages) / 1e6

    return joules
