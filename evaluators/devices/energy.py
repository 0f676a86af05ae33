"""Energy of a pass: a model that needs calibration, and the counter of this machine where it has one.

    E = t P_static + FLOPs e_flop + bytes e_mem                         (a model, fitted to measured passes)
    E = (counter after - counter before - idle power * time) / passes   (a measurement, over 2 s or more)

Without a calibration there is no number, only order: `UnsupportedError`. Counters are RAPL's, through Linux'
powercap files, and NVML's of an NVIDIA device (package nvidia-ml-py); both count the whole package or board,
whoever uses it. Where neither can be read energy is unsupported, never estimated.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

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
    weights, _ = scipy.optimize.nnls(rows / scale / measured[:, None], np.ones(len(runs)))
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
    wraps = [_range_uj(file) for file in packages]
    last = [0] * len(packages)
    turns = [0] * len(packages)

    def joules() -> float:
        for index, file in enumerate(packages):
            now = int(file.read_text(encoding="ascii"))
            turns[index] += now < last[index]
            last[index] = now
        return sum(now + wrap * turn for now, wrap, turn in zip(last, wraps, turns, strict=True)) / 1e6

    return joules


def gpu_energy_counter(index: int = 0) -> Callable[[], float]:
    """Joules that an NVIDIA device has used since its driver was loaded. Has not run on a device yet.

    Raises:
        UnsupportedError: nvidia-ml-py or a device with such a counter is missing.
    """
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError as error:
        raise UnsupportedError(
            "the energy of a GPU is read through nvidia-ml-py, which is not installed; energy is not measured"
        ) from error
    except Exception as error:  # the library has its own errors, and no base that is typed
        raise UnsupportedError(f"GPU {index} has no energy counter: {error}") from error
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3


@dataclass(frozen=True, slots=True)
class Energy:
    """What passes used beyond an idle machine."""

    joules_per_pass: float
    idle_w: float
    passes: int
    seconds: float


def measure_energy(
    run: Callable[[], object],
    counter: Callable[[], float],
    *,
    seconds: float = 2.0,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Runs for `seconds`, after as long idle. The caller holds the host: counters do not know processes.

    Raises:
        UnsupportedError: the difference to an idle machine is not above 0.
    """
    run()
    began, before = now(), counter()
    sleep(seconds)
    idle_w = (counter() - before) / (now() - began)
    began, before, passes = now(), counter(), 0
    while now() - began < seconds:
        run()
        passes += 1
    spent = now() - began
    joules = (counter() - before - idle_w * spent) / passes
    if not joules > 0:
        raise UnsupportedError(
            f"{passes} passes used {joules:g} J each beyond an idle machine, which cannot be told from 0; "
            "measure a larger batch or on a quieter machine"
        )
    return Energy(joules, idle_w, passes, spent)


def _range_uj(file: Path) -> int:
    """Where the counter begins anew; 0 where the system does not say."""
    try:
        return int(file.with_name("max_energy_range_uj").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
