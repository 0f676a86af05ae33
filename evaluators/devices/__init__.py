"""Device models: a table of devices, analytic latency and energy on them, and this machine's calibration."""

from .calibration import Calibration, calibrate
from .energy import EnergyModel, energy_counter, fit_energy
from .liveness import Buffer, arena_bytes, packed, peak_bytes
from .microcontroller import MicrocontrollerPlan, microcontroller_plan
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
    "load_devices",
    "microcontroller_plan",
    "operators_of",
    "packed",
    "peak_bytes",
    "predict_on",
    "swap_s",
]
