"""Latency of one callable on a shared CPU: the 10th percentile of wall time, interleaved with a reference.

    cycle     candidate, reference, reference, candidate            (ABBA: linear drift cancels)
    value     p10(candidate) / p10(reference) * long-run p10 of the reference on this device
    kappa     median wall / median CPU time of the candidate (one thread),
              else median wall of the reference / its long-run p10
    flag      `contended` when kappa, or p10 of the reference / its long-run value, is over 1.15
    interval  95 % of the ratio by bootstrap over blocks of 8 cycles; measuring ends when its half is <= 2 %;
              of a candidate so slow that there are few cycles, Student's over them

On a machine of 2 cores at load 8-11 the median wall time varied by 40 % between repeats, the 10th percentile
by 4 %. The reference takes out slow drifts (frequency, co-tenants), not preemption: the percentile does that.

Imports the standard library and numpy only: the fresh process that times ONNX Runtime loads this file by its
path.
"""

import gc
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
"""Wall or CPU seconds, one per run."""

QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
CONTENDED = 1.15
"""Contention index, or slowness of the reference, above which a value is flagged `contended`."""
POSTPONED = 2.0
"""Contention index above which a measurement is postponed and made again."""
BLOCK_CYCLES = 8
MIN_BLOCKS = 4
"""Fewer blocks give bootstrap intervals that are too narrow."""
MIN_CYCLES = 2
"""Cycles of the slowest candidate: one has no interval."""
PATIENCE = 4
"""Times `max_seconds` after which fewer than `MIN_BLOCKS` cycles are enough."""
RESAMPLES = 200
WARM_UP_RUNS = (5, 50)
WARM_UP_S = 5.0
WARM_UP_TOLERANCE = 0.03
T_975 = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    8: 2.306,
    10: 2.228,
    15: 2.131,
    20: 2.086,
    30: 2.042,
}
"""Student's t at 97.5 % by degrees of freedom; between entries the smaller one is used."""


@runtime_checkable
class Clock(Protocol):
    """Seconds; tests inject their own."""

    def wall(self) -> float: ...

    def cpu(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class HostClock:
    """The real one. `threads`: CPU time of the calling thread for one, of the process for several."""

    threads: int = 1

    def wall(self) -> float:
        return time.perf_counter()

    def cpu(self) -> float:
        return time.thread_time() if self.threads == 1 else time.process_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class EstimatorLimits:
    """When to stop. `max_seconds` and `max_runs` (of the candidate) are of one attempt after warm-up."""

    max_seconds: float = 30.0
    max_runs: int = 400
    target_half_width: float = 0.02
    """Half of the 95 % interval, as a fraction of the value, at which measuring ends."""
    noisy_half_width: float = 0.05
    """Above this fraction the measurement is made again, and flagged `noisy` when no attempt got below."""
    attempts: int = 5
    backoff_s: float = 0.25
    """Pause before the second attempt; doubles with each."""
    rounds: int = 5
    """Whole measurements of a model, each in a fresh process on ONNX Runtime: one process repeats itself
    better than the next one repeats it."""


@dataclass(frozen=True)
class Estimate:
    """What one attempt gave. Times in seconds, as the clock read them except `value_s`, `p50_s`, `p95_s`."""

    value_s: float
    """10th percentile, in units of the reference's long-run value."""
    p50_s: float
    p95_s: float
    half_width: float
    """Half of the 95 % interval of `value_s`, as a fraction of it."""
    contention: float
    scale: float
    """Long-run value of the reference / its 10th percentile here: raw times were multiplied by this."""
    quantiles_s: Mapping[str, float]
    """Percent -> raw wall time of the candidate."""
    reference_p10_s: float
    cpu_p50_s: float
    runs: int
    warm_up_runs: int
    seconds: float
    """Wall time of the attempt, warm-up included; on a GPU that of the device in the timed runs."""
    clock_hz: float | None = None
    """Median clock of a GPU's multiprocessors; None on a CPU, or where nobody says."""
    kernels: Mapping[str, str] = field(default_factory=dict)
    """Kernel that was asked for -> `fused`, or why the plain form computed."""
    graph_break: str = ""
    """Why torch.compile could not take the network as one graph; empty where it did."""

    def per(self, count: int) -> "Estimate":
        """The same of one of `count` equal parts of the candidate."""
        return replace(
            self,
            value_s=self.value_s / count,
            p50_s=self.p50_s / count,
            p95_s=self.p95_s / count,
            quantiles_s={key: value / count for key, value in self.quantiles_s.items()},
            cpu_p50_s=self.cpu_p50_s / count,
        )

    @property
    def is_contended(self) -> bool:
        return self.contention > CONTENDED

    @property
    def is_slowed(self) -> bool:
        """The reference took longer than usual: caches or the clock, which CPU time does not show."""
        return self.scale * CONTENDED < 1


def estimate(
    candidate: Callable[[], object],
    reference: Callable[[], object],
    *,
    limits: EstimatorLimits,
    long_run_s: float | None = None,
    threads: int = 1,
    clock: Clock | None = None,
) -> Estimate:
    """One attempt at the latency of `candidate`. Without `long_run_s` its own reference stands for it."""
    clock = clock or HostClock(threads)
    started = clock.wall()
    with _collector_off():
        warm_up_runs = warm_up(candidate, clock, limits.max_seconds)
        warm_up(reference, clock, limits.max_seconds)
        samples = _cycles(candidate, reference, limits, clock)
    reference_p10 = _p10(samples.reference)
    scale = (long_run_s or reference_p10) / reference_p10
    quantiles = np.percentile(samples.candidate, QUANTILES)
    cpu_p50 = float(np.median(samples.candidate_cpu))
    if threads == 1:
        contention = float(np.median(samples.candidate)) / max(cpu_p50, 1e-9)
    else:
        contention = float(np.median(samples.reference)) / (long_run_s or reference_p10)
    return Estimate(
        value_s=scale * _p10(samples.candidate),
        p50_s=scale * float(np.percentile(samples.candidate, 50)),
        p95_s=scale * float(np.percentile(samples.candidate, 95)),
        half_width=ratio_half_width(samples.candidate, samples.reference),
        contention=contention,
        scale=scale,
        quantiles_s={str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        reference_p10_s=reference_p10,
        cpu_p50_s=cpu_p50,
        runs=samples.candidate.size,
        warm_up_runs=warm_up_runs,
        seconds=clock.wall() - started,
    )


def best_of(
    attempt: Callable[[], Estimate], *, limits: EstimatorLimits, sleep: Callable[[float], None] = time.sleep
) -> tuple[Estimate, frozenset[str], int]:
    """The first calm attempt, or else the one with the narrowest interval; its flags; how many were made.

    An attempt is made again, after a pause, when its contention index is over 2 or its interval too wide.
    """
    best: Estimate | None = None
    made = 0
    while made < limits.attempts:
        if made:
            sleep(limits.backoff_s * 2 ** (made - 1))
        result = attempt()
        made += 1
        best = result if best is None else calmer(best, result)
        if is_calm(result, limits):
            break
    if best is None:
        raise ValueError(f"attempts={limits.attempts} must be at least 1")
    return best, flags_of(best, limits), made


def between(results: Sequence[Estimate]) -> tuple[Estimate, float]:
    """The round with the median value, and half of the 95 % interval as a fraction of it.

    The wider of that round's own interval and of Student's over the rounds: a bootstrap inside one process
    does not see what changes from process to process (memory layout, caches, clock).
    """
    middle = sorted(results, key=lambda result: result.value_s)[(len(results) - 1) // 2]
    if len(results) < 2:
        return middle, middle.half_width
    deviation = statistics.stdev(result.value_s for result in results) / math.sqrt(len(results))
    return middle, max(middle.half_width, t_975(len(results) - 1) * deviation / middle.value_s)


def t_975(freedom: int) -> float:
    """Student's t at 97.5 % for 1 or more degrees of freedom."""
    return T_975[max(key for key in T_975 if key <= freedom)]


def is_calm(result: Estimate, limits: EstimatorLimits) -> bool:
    """Whether an attempt need not be made again."""
    return result.contention <= POSTPONED and result.half_width <= limits.noisy_half_width


def calmer(first: Estimate, second: Estimate) -> Estimate:
    """The one that was not crowded out, or else the one with the narrower interval."""
    return min(first, second, key=lambda result: (result.contention > POSTPONED, result.half_width))


def flags_of(result: Estimate, limits: EstimatorLimits) -> frozenset[str]:
    contended = {"contended"} if result.is_contended or result.is_slowed else set()
    noisy = {"noisy"} if result.half_width > limits.noisy_half_width else set()
    broken = {"graph_break"} if result.graph_break else set()
    return frozenset(contended | noisy | broken)


def flags_over(
    rounds: Sequence[frozenset[str]], half_width: float, limits: EstimatorLimits
) -> frozenset[str]:
    """Those of most rounds; `noisy` also where every round is sure of itself and they disagree."""
    counts = Counter(flag for flags in rounds for flag in flags)
    most = {flag for flag, count in counts.items() if 2 * count > len(rounds)}
    return frozenset(most | {"noisy"} if half_width > limits.noisy_half_width else most)


def warm_up(run: Callable[[], object], clock: Clock, max_seconds: float = WARM_UP_S) -> int:
    """Runs until the last five are no faster than what came before; returns the number of runs.

    At least 6 runs; ends when the minimum of the last 5 is within 3 % of the best of the earlier ones, after
    50 runs, or after 5 s.
    """
    window, most = WARM_UP_RUNS
    began = clock.wall()
    times: list[float] = []
    while len(times) < most and clock.wall() - began < min(WARM_UP_S, max_seconds):
        start = clock.wall()
        run()
        times.append(clock.wall() - start)
        if len(times) > window:
            best_before, latest = min(times[:-window]), min(times[-window:])
            if abs(latest - best_before) <= WARM_UP_TOLERANCE * best_before:
                break
    return len(times)


def ratio_half_width(candidate: Times, reference: Times) -> float:
    """Half of the 95 % interval of p10(candidate) / p10(reference), as a fraction, by block bootstrap.

    Runs that are neighbours in time are alike, so whole blocks of cycles are drawn: of 8 cycles, or of fewer
    when there are not 4 such blocks. Both arrays hold 2 runs per cycle. Below 4 cycles it is Student's over
    the cycles' ratios, which is wide.
    """
    cycles = candidate.size // 2
    if cycles < MIN_BLOCKS:
        sums = (runs.reshape(cycles, 2).sum(axis=1) for runs in (candidate, reference))
        ratios = np.divide(*sums)
        return t_975(cycles - 1) * float(ratios.std(ddof=1)) / math.sqrt(cycles) / float(ratios.mean())
    length = min(BLOCK_CYCLES, cycles // MIN_BLOCKS)
    blocks = cycles // length
    used = 2 * length * blocks
    drawn = np.random.default_rng(0).integers(0, blocks, size=(RESAMPLES, blocks))
    ratios = _resampled_p10(candidate[:used], blocks, drawn) / _resampled_p10(reference[:used], blocks, drawn)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float((high - low) / 2 / (_p10(candidate) / _p10(reference)))


@dataclass(frozen=True)
class _Samples:
    candidate: Times
    candidate_cpu: Times
    reference: Times


def _cycles(
    candidate: Callable[[], object], reference: Callable[[], object], limits: EstimatorLimits, clock: Clock
) -> _Samples:
    walls: list[float] = []
    cpus: list[float] = []
    references: list[float] = []
    began = clock.wall()
    while True:
        for run, wall, cpu in ((candidate, walls, cpus), (reference, references, None)):
            _timed(run, clock, wall, cpu)
        for run, wall, cpu in ((reference, references, None), (candidate, walls, cpus)):
            _timed(run, clock, wall, cpu)
        out_of_time = _is_over(len(walls), clock.wall() - began, limits)
        block_ends = len(walls) % (2 * BLOCK_CYCLES) == 0 and len(walls) >= 2 * BLOCK_CYCLES * MIN_BLOCKS
        if not (out_of_time or block_ends):
            continue
        samples = _Samples(np.array(walls), np.array(cpus), np.array(references))
        if out_of_time or ratio_half_width(samples.candidate, samples.reference) <= limits.target_half_width:
            return samples


def _is_over(runs: int, seconds: float, limits: EstimatorLimits) -> bool:
    """Whether no further cycle is begun, however wide the interval is."""
    if runs < 2 * MIN_CYCLES:
        return False
    is_few = runs < 2 * MIN_BLOCKS
    return seconds >= limits.max_seconds * (PATIENCE if is_few else 1) or runs + 2 > limits.max_runs


def _timed(run: Callable[[], object], clock: Clock, wall: list[float], cpu: list[float] | None) -> None:
    cpu_start, start = clock.cpu(), clock.wall()
    run()
    end, cpu_end = clock.wall(), clock.cpu()
    wall.append(end - start)
    if cpu is not None:
        cpu.append(cpu_end - cpu_start)


def _resampled_p10(runs: Times, blocks: int, drawn: NDArray[np.int64]) -> Times:
    by_block = runs.reshape(blocks, -1)
    return np.asarray(np.percentile(by_block[drawn].reshape(len(drawn), -1), 10, axis=1))


def _p10(runs: Times) -> float:
    return float(np.percentile(runs, 10))


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
