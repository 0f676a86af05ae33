"""The estimator for CUDA devices with events of its own, and what a machine without one says."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch

from evaluators.devices import calibrate
from evaluators.latency import EstimatorLimits, Target, check_target
from evaluators.latency.estimator import is_calm
from evaluators.latency.runtimes.cuda import RUNS, DeviceEvents, estimate_on_device, graphed
from space.errors import InvalidInputError, UnsupportedError

LIMITS = EstimatorLimits()

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


class Played:
    """Every run takes what it returns, the clock reads what it is told."""

    def __init__(self, clocks: Iterator[float | None]) -> None:
        self.clocks, self.runs = clocks, 0

    def seconds(self, run: Callable[[], object]) -> float:
        self.runs += 1
        return float(str(run()))

    def clock_hz(self) -> float | None:
        return next(self.clocks)


def test_the_value_is_the_ratio_of_medians_in_units_of_the_reference() -> None:
    noise = chain.from_iterable(repeat([0.99, 1.0, 1.01, 5.0, 1.0]))
    events = Played(repeat(None))
    found = estimate_on_device(
        lambda: 3e-3 * next(noise), lambda: 2e-3, limits=LIMITS, long_run_s=1e-3, events=events
    )
    assert found.value_s == pytest.approx(1.5e-3, rel=1e-2)  # half of 3 ms: the reference is twice its usual
    assert RUNS[0] <= found.runs <= RUNS[1]
    assert found.warm_up_runs >= 10
    assert found.quantiles_s["25"] <= found.quantiles_s["50"] <= found.quantiles_s["75"]
    assert found.contention == 1.0
    assert is_calm(found, LIMITS)


@pytest.mark.parametrize(("last", "calm"), [(1.02e9, True), (0.9e9, False)])
def test_a_clock_that_drifts_asks_for_another_attempt(last: float, calm: bool) -> None:
    clocks = chain([1.0e9] * 12, repeat(last))
    found = estimate_on_device(lambda: 1e-3, lambda: 1e-3, limits=LIMITS, events=Played(clocks))
    assert is_calm(found, LIMITS) == calm


def test_runs_of_equal_length_end_at_the_fewest() -> None:
    found = estimate_on_device(lambda: 1e-3, lambda: 1e-3, limits=LIMITS, events=Played(repeat(None)))
    assert (found.runs, found.half_width) == (RUNS[0], 0.0)


@pytest.mark.parametrize(
    "target",
    [Target(device="cuda"), Target(device="cuda", runtime="torch-compile"), Target(runtime="cudagraph")],
)
def test_runtimes_of_the_other_device_are_refused(target: Target) -> None:
    with pytest.raises(InvalidInputError, match=r"does not run on target\.device="):
        check_target(target)


@without_cuda
def test_a_machine_without_a_device_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"choose target\.device=cpu"):
        check_target(Target(device="cuda", runtime="cudagraph"))
    with pytest.raises(UnsupportedError, match="sees no CUDA device"):
        DeviceEvents()
    with pytest.raises(UnsupportedError, match="sees no CUDA device"):
        graphed(lambda: None)


def test_only_runtimes_with_micro_kernels_are_calibrated(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="calibrating torch-compile on cpu"):
        calibrate(Target(runtime="torch-compile"), scratch=tmp_path)
