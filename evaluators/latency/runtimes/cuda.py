"""Latency of one callable on a CUDA device: device events around every run, a cold L2 cache, graphs.

    warm-up     10 runs and 200 ms of the device, at most 1000 runs
    cycle       candidate, reference, reference, candidate; before each run a buffer of twice the L2 cache is
                written, so that weights come from memory as they do between two requests
    value       median(candidate) / median(reference) * long-run median of the reference on this device
    repeat      when the clock of the multiprocessors changed by over 3 % between the first and the last tenth

Runtime `eager` measures what Python launches, `cudagraph` one captured graph of the same operators: at batch
1 the first is mostly launching. The clock is read, stored, and never changed.

Written against the documentation of CUDA events and graphs and tested with a clock of its own: it has not run
on a device yet.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from space.errors import UnsupportedError

from ..estimator import POSTPONED, QUANTILES, RESAMPLES, Estimate, EstimatorLimits, Times

WARM_UP_RUNS = (10, 1000)
"""Least and most: of a graph of 10 us the time alone would ask for 20,000, each behind a flushed cache."""
WARM_UP_S = 0.2
RUNS = (50, 200)
DRIFT = 0.03
"""Relative change of the clock above which a measurement is made again."""


@runtime_checkable
class Events(Protocol):
    """What times a run; tests bring their own."""

    def seconds(self, run: Callable[[], object]) -> float:
        """Device time of one run on a cold cache."""
        ...

    def clock_hz(self) -> float | None:
        """Of the multiprocessors; None where nobody says."""
        ...


class DeviceEvents:
    """Those of the current CUDA device."""

    def __init__(self) -> None:
        require_cuda()
        l2_bytes = torch.cuda.get_device_properties().L2_cache_size
        self.flushed = torch.empty(2 * max(l2_bytes, 1), dtype=torch.int8, device="cuda")

    def seconds(self, run: Callable[[], object]) -> float:
        start, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here
            for _ in range(2)
        )
        self.flushed.zero_()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def clock_hz(self) -> float | None:
        return clock_hz(torch.cuda.clock_rate)


def clock_hz(ask_mhz: Callable[[], int]) -> float | None:
    """The clock, or None without nvidia-ml-py, without the right to ask, or on a part of a device."""
    try:
        return 1e6 * ask_mhz()
    except Exception:  # nvidia-ml-py's own errors have no base in common with torch's
        return None


@runtime_checkable
class Memory(Protocol):
    """What counts bytes; tests bring their own."""

    def allocated(self) -> int:
        """Bytes of tensors now."""
        ...

    def reset_peak(self) -> None:
        """The peak begins again, at what is allocated now."""
        ...

    def peak(self) -> int:
        """Most bytes at once since then."""
        ...


class DeviceMemory:
    """That of torch's allocator on the current CUDA device: what tensors take, not what the driver and loaded
    kernels do."""

    def __init__(self) -> None:
        require_cuda()

    def allocated(self) -> int:
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()


def allocated_bytes(
    place: Callable[[], Callable[[], object]], memory: Memory | None = None
) -> dict[str, int]:
    """What `place` leaves on the device (`session_bytes`: weights and input), and the most that one call of
    what it returns adds (`run_bytes`). Workspaces that libraries keep after a first call are in neither."""
    memory = memory or DeviceMemory()
    before = memory.allocated()
    run = place()
    session = memory.allocated() - before
    run()
    held = memory.allocated()
    memory.reset_peak()
    run()
    return {"session_bytes": session, "run_bytes": memory.peak() - held}


def require_cuda() -> None:
    """
    Raises:
        UnsupportedError: torch sees no CUDA device.
    """
    if not torch.cuda.is_available():
        raise UnsupportedError(f"torch {torch.__version__} sees no CUDA device; choose target.device=cpu")


def placed(module: nn.Module, values: Tensor) -> tuple[nn.Module, Tensor]:
    """Both on the device."""
    require_cuda()
    return module.to("cuda"), values.to("cuda")


@dataclass(frozen=True, slots=True)
class Graphed:
    """A captured run. It reads the tensors of `run` and writes those of `result`, so both stay alive."""

    graph: torch.cuda.CUDAGraph
    run: Callable[[], object]
    result: object

    def __call__(self) -> object:
        self.graph.replay()
        return self.result


def graphed(run: Callable[[], object]) -> Graphed:
    """The run captured once as a graph and replayed; warmed up on a side stream, as capturing demands.

    Raises:
        UnsupportedError: no CUDA device, or the run waits for the device on its way.
    """
    require_cuda()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types here
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
        with _no_waiting():
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = run()
    except RuntimeError as problem:
        raise uncaptured(problem) from problem
    return Graphed(graph, run, result)


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    """Inside, waiting for the device is an error, found before a capture, which it would leave broken."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode may overlook some
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        except RuntimeError as problem:
            raise uncaptured(problem) from problem
        finally:
            torch.cuda.set_sync_debug_mode(before)


def uncaptured(problem: RuntimeError) -> Exception:
    """What a failed capture means: operators that wait cannot be in a graph; anything else is what it is."""
    said = str(problem).lower()
    if isinstance(problem, torch.OutOfMemoryError) or ("synchroniz" not in said and "captur" not in said):
        return problem
    return UnsupportedError(
        "the model waits for the device on its way, which no CUDA graph can hold; choose target.runtime=eager"
    )


def estimate_on_device(
    candidate: Callable[[], object],
    reference: Callable[[], object],
    *,
    limits: EstimatorLimits,
    long_run_s: float | None = None,
    events: Events | None = None,
) -> Estimate:
    """One attempt. `contention` is 1, or over 2 when the clock drifted: then the attempt is made again."""
    events = events or DeviceEvents()
    warm_up_runs = _warm_up(candidate, events)
    _warm_up(reference, events)
    own: list[float] = []
    other: list[float] = []
    clocks: list[float] = []
    least, most = min(RUNS[0], limits.max_runs), min(RUNS[1], limits.max_runs)
    spent = 0.0
    while len(own) < least or (len(own) < most and spent < limits.max_seconds):
        for run, times in ((candidate, own), (reference, other), (reference, other), (candidate, own)):
            times.append(events.seconds(run))
        spent = sum(own) + sum(other)
        if (clock := events.clock_hz()) is not None:
            clocks.append(clock)
        if len(own) >= least and _half_width(np.array(own), np.array(other)) <= limits.target_half_width:
            break
    runs, references = np.array(own), np.array(other)
    scale = (long_run_s or float(np.median(references))) / float(np.median(references))
    median = float(np.median(runs))
    return Estimate(
        value_s=scale * median,
        p50_s=scale * median,
        p95_s=scale * float(np.percentile(runs, 95)),
        half_width=_half_width(runs, references),
        contention=2 * POSTPONED if _drift(clocks) > DRIFT else 1.0,
        scale=scale,
        quantiles_s={str(q): float(np.percentile(runs, q)) for q in QUANTILES},
        reference_p10_s=float(np.median(references)),
        cpu_p50_s=0.0,
        runs=len(own),
        warm_up_runs=warm_up_runs,
        seconds=spent,
        clock_hz=float(np.median(clocks)) if clocks else None,
    )


def _warm_up(run: Callable[[], object], events: Events) -> int:
    runs, spent = 0, 0.0
    least, most = WARM_UP_RUNS
    while runs < least or (runs < most and spent < WARM_UP_S):
        spent += max(events.seconds(run), 1e-6)
        runs += 1
    return runs


def _half_width(runs: Times, references: Times) -> float:
    """Half of the 95 % interval of the ratio of medians, as a fraction, by bootstrap."""
    drawn = np.random.default_rng(0).integers(0, len(runs), size=(RESAMPLES, len(runs)))
    ratios = np.median(runs[drawn], axis=1) / np.median(references[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float((high - low) / 2 / (np.median(runs) / np.median(references)))


def _drift(clocks: list[float]) -> float:
    """Relative change between the first and the last tenth; 0 where nobody says."""
    if not clocks:
        return 0.0
    tenth = max(1, len(clocks) // 10)
    first, last = float(np.mean(clocks[:tenth])), float(np.mean(clocks[-tenth:]))
    return abs(last - first) / first
