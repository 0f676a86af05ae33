"""Device models: a table of devices, analytic latency and energy on them, and this machine's calibration."""

from space.liveness import Buffer, arena_bytes, packed, peak_bytes
from space.microcontroller import MicrocontrollerPlan

from .calibration import Calibration, calibrate
from .energy import (
    Energy,
    EnergyModel,
    energy_counter,
    fit_energy,
    gpu_energy_counter,
    measure_energy,
)
from .microcontroller import microcontroller_plan
from .operators import Operator, Phase, operators_of
from .quantities import TransformerSize, balance_tokens, concurrency, swap_s
from .roofline import LABEL, Analytic, analytic, predict_on
from .table import Device, DeviceTable, load_devices

__all__ = [
    "LABEL",
    "Analytic",
    "Buffer",
    "Calibration",
    "Device",
    "DeviceTable",
    "Energy",
    "EnergyModel",
    "MicrocontrollerPlan",
    "Operator",
    "Phase",
    "TransformerSize",
    "analytic",
    "arena_bytes",
    "balance_tokens",
    "calibrate",
    "concurrency",
    "energy_counter",
    "fit_energy",
    "gpu_energy_counter",
    "load_devices",
    "measure_energy",
    "microcontroller_plan",
    "operators_of",
    "packed",
    "peak_bytes",
    "predict_on",
    "swap_s",
]
