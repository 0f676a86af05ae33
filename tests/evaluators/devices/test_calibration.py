"""Calibration: the kernels are the operators they say, and the fit finds a known machine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.devices import Device, calibrate
from evaluators.devices.calibration import LEAST_S, _timed_onnx, fit
from evaluators.devices.micro_kernels import micro_kernels
from evaluators.devices.roofline import operator_s
from evaluators.devices.table import Quoted, Usage
from evaluators.latency import EstimatorLimits, Target
from evaluators.latency.timed_input import random_input

QUICK = EstimatorLimits(max_seconds=0.05, max_runs=16, noisy_half_width=10.0, attempts=1)


def machine(flops: float, int8: float, bandwidth: float, launch_s: float) -> Device:
    return Device(
        name="known",
        title="Known",
        kind="cpu",
        dense=True,
        peaks={"fp32": Quoted(value=flops, source="x"), "int8": Quoted(value=int8, source="x")},
        bandwidth=Quoted(value=bandwidth, source="x"),
        usage=Usage(compute=1, memory=1, launch_s=launch_s, full_rows=8, tile=8),
    )


def test_there_are_twelve_kernels_and_each_runs() -> None:
    kernels = micro_kernels()
    assert len(kernels) == 12
    for name, kernel in kernels.items():
        x = random_input(kernel.input)
        with torch.inference_mode():
            y = kernel.build()(x)
        assert torch.isfinite(y).all(), name
        assert kernel.operator.bytes >= 4 * x.numel()


@pytest.mark.parametrize(
    "known", [(2e11, 8e11, 3e10, 2e-6), (5e9, 1e10, 4e9, 2e-5)], ids=["server", "small board"]
)
def test_a_known_machine_is_found_from_noisy_times(known: tuple[float, float, float, float]) -> None:
    device = machine(*known)
    rng = np.random.default_rng(0)
    seconds = {
        name: operator_s(kernel.operator, device)[0] * float(np.exp(0.03 * rng.standard_normal()))
        for name, kernel in micro_kernels().items()
    }
    seconds["running sum"] *= 8  # one that the runtime does badly
    found = fit(seconds, Target())
    assert found.device.is_calibrated
    assert found.device.peak("fp32") == pytest.approx(known[0], rel=0.1)
    assert found.device.peak("int8") == pytest.approx(known[1], rel=0.3)
    assert found.device.bandwidth.value == pytest.approx(known[2], rel=0.2)
    assert found.device.efficiency.launch_s == pytest.approx(known[3], rel=0.3)
    assert Device.model_validate(found.described()["device"]) == found.device


@pytest.mark.slow
def test_kernels_are_timed_in_onnx_runtime(tmp_path: Path) -> None:
    few = {name: micro_kernels()[name] for name in ("square 256", "int8", "attention of one query")}
    found = _timed_onnx(few, Target(), QUICK, tmp_path)
    assert set(found) == set(few)
    assert all(seconds >= LEAST_S for seconds in found.values())


@pytest.mark.slow
def test_this_machine_is_calibrated(tmp_path: Path) -> None:
    found = calibrate(Target(runtime="eager"), limits=QUICK, scratch=tmp_path)
    assert set(found.measured_s) == set(micro_kernels())
    assert all(seconds > 0 for seconds in found.measured_s.values())
    assert 1e8 < found.device.peak("fp32") < 1e14
