"""Analytic latency: every operator is as slow as its arithmetic or its bytes, plus a launch.

    t = max(FLOPs / (u_c fill P), bytes / (u_m BW)) + t_launch          network = sum over operators
    fill = min(1, rows / full rows) * outputs / (outputs rounded up to tiles)

P: dense peak of the units that compute the number format, BW: bandwidth, u: usage of both, from a
calibration or else a default of the device's kind. An uncalibrated prediction is right to a factor of 2 at
best and says so; its order is worth more than its level.

Source: Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785 (roofline).
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.costs import costs

from .microcontroller import microcontroller_plan
from .operators import Operator, Phase, operators_of
from .table import Device

LABEL = "analytic, not measured"
BAND = 2.0
"""A prediction is shown with this factor both ways; small models on a CPU, whose time is calls rather than
arithmetic, may take longer still (docs/log.md)."""

Bound = Literal["compute", "memory", "launch"]


@dataclass(frozen=True, slots=True)
class Analytic:
    """Seconds of a pass, and where they go."""

    seconds: float
    by_role: Mapping[str, float]
    by_bound: Mapping[Bound, float]
    flops: float
    bytes: float


def operator_s(operator: Operator, device: Device, threads: int | None = None) -> tuple[float, Bound]:
    """Seconds of one operator and what bounds them."""
    usage = device.efficiency
    compute = operator.flops / (
        usage.compute * _fill(operator, device) * device.peak(operator.number, threads)
    )
    memory = operator.bytes / (usage.memory * device.bandwidth.value)
    launch = usage.launch_s * operator.calls
    longest = max(compute, memory, launch)
    bound: Bound = "launch" if longest == launch else "compute" if longest == compute else "memory"
    return max(compute, memory) + launch, bound


def _fill(operator: Operator, device: Device) -> float:
    """How much of the units a matrix product of few rows or odd width keeps busy."""
    if operator.rows == 0:
        return 1.0
    usage = device.efficiency
    tiles = math.ceil(operator.outputs / usage.tile)
    return min(1.0, operator.rows / usage.full_rows) * operator.outputs / (tiles * usage.tile)


def analytic(
    architecture: Architecture,
    device: Device,
    *,
    batch_size: int = 1,
    tokens: int | None = None,
    phase: Phase = "prefill",
    threads: int | None = None,
) -> Analytic:
    """Latency of one forward pass, or of one more token after `tokens` tokens."""
    operators = operators_of(architecture, batch_size=batch_size, tokens=tokens, phase=phase)
    by_role: dict[str, float] = defaultdict(float)
    by_bound: dict[Bound, float] = defaultdict(float)
    for operator in operators:
        seconds, bound = operator_s(operator, device, threads)
        by_role[operator.role] += seconds
        by_bound[bound] += seconds
    return Analytic(
        seconds=math.fsum(by_role.values()),
        by_role=dict(by_role),
        by_bound=dict(by_bound),
        flops=math.fsum(operator.flops for operator in operators),
        bytes=math.fsum(operator.bytes for operator in operators),
    )


def _memory(
    architecture: Architecture, device: Device, batch_size: int, tokens: int | None
) -> tuple[int, bool]:
    """Bytes that a run needs, and whether the device has them."""
    if device.kind == "mcu":
        plan = microcontroller_plan(architecture, device, tokens=tokens)
        return plan.peak_bytes, plan.fits
    needed = costs(architecture, batch_size=batch_size, tokens=tokens).memory_bytes
    return needed, device.memory is None or needed <= device.memory.value


def predict_on(
    architecture: Architecture,
    device: Device,
    *,
    batch_size: int = 1,
    tokens: int | None = None,
    phase: Phase = "prefill",
    threads: int | None = None,
) -> Measurement:
    """Latency on a device that is not at hand: of kind `predicted`, labelled, with its band in `detail`."""
    found = analytic(architecture, device, batch_size=batch_size, tokens=tokens, phase=phase, threads=threads)
    memory, fits = _memory(architecture, device, batch_size, tokens)
    return Measurement(
        quantity="latency_s",
        value=found.seconds,
        unit="s",
        kind="predicted",
        spread=found.seconds * (BAND - 1 / BAND) / 2,
        flags=frozenset() if device.is_calibrated else frozenset({"extrapolated"}),
        detail={
            "label": LABEL,
            "low_s": found.seconds / BAND,
            "high_s": found.seconds * BAND,
            "device": device.name,
            "calibrated": device.is_calibrated,
            "by_role_s": dict(found.by_role),
            "by_bound_s": dict(found.by_bound),
            "flops": found.flops,
            "bytes": found.bytes,
            "memory_bytes": memory,
            "fits": fits,
            "conditions": {"batch_size": batch_size, "tokens": tokens, "phase": phase, "threads": threads},
        },
    )
