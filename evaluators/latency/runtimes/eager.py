"""Eager torch in this long-lived process: models in their number formats, timed under set conditions.

`inference_mode`, T intra-op threads, T cores. One thread: the calling thread is pinned. Several: every thread
of the process is, since the pool's threads are among them. All is put back afterwards. On a GPU the work is
the device's, and so is the clock (`cuda`).
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from space.model import Model

from ..estimator import Estimate, EstimatorLimits, estimate
from ..target import Target, timing_cores
from . import cuda

DECODE_STEPS = 32
"""Consecutive steps that a decode latency is the mean of."""


def timed_call(module: nn.Module, values: Tensor) -> Callable[[], object]:
    """One forward pass on fixed inputs."""
    module.eval()

    def run() -> object:
        return module(values)

    return run


def decode_call(model: Model, tokens: Tensor) -> tuple[Callable[[], object], int]:
    """The last `DECODE_STEPS` tokens of every sequence one after the other, with the state before them, and
    how many steps that are. Every call begins with the same state."""
    model.eval()
    length = tokens.shape[1]
    start = max(0, length - DECODE_STEPS)
    with torch.inference_mode():
        before = model.prefill(tokens[:, :start])[1] if start else model.init_state(tokens.shape[0])
        steps = [
            (tokens[:, position].contiguous(), torch.tensor(position, device=tokens.device))
            for position in range(start, length)
        ]

    def run() -> object:
        states = before
        for token, position in steps:
            logits, states = model.step(token, states, position)
        return logits

    return run, len(steps)


def placed(module: nn.Module, values: Tensor, target: Target) -> tuple[nn.Module, Tensor]:
    """Both where the target computes."""
    return (module, values) if target.device == "cpu" else cuda.placed(module, values)


def estimate_on(
    target: Target,
    candidate: Callable[[], object],
    reference: Callable[[], object],
    *,
    limits: EstimatorLimits,
    long_run_s: float | None,
) -> Estimate:
    """One attempt on the target's device; `cudagraph` replays what one run launched."""
    if target.device == "cpu":
        with conditions(target.threads):
            return estimate(
                candidate, reference, limits=limits, long_run_s=long_run_s, threads=target.threads
            )
    with conditions(target.threads):
        if target.runtime == "cudagraph":
            candidate, reference = cuda.graphed(candidate), cuda.graphed(reference)
        return cuda.estimate_on_device(candidate, reference, limits=limits, long_run_s=long_run_s)


@contextlib.contextmanager
def conditions(threads: int) -> Iterator[None]:
    """Inside: no gradients, `threads` intra-op threads, pinned to as many cores."""
    before = torch.get_num_threads()
    with _pinned(threads), torch.inference_mode():
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextlib.contextmanager
def _pinned(threads: int) -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    before = _affinities() if threads > 1 else {0: own}  # 0 is the calling thread
    _set_affinities({thread: set(timing_cores(threads)) for thread in before})
    try:
        yield
    finally:
        started_inside = {thread: set(own) for thread in _affinities()} if threads > 1 else {}
        _set_affinities({**started_inside, **before})


def _affinities() -> dict[int, set[int]]:
    """Cores of every thread of this process (Linux)."""
    found = {}
    for entry in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that ended meanwhile
            found[int(entry.name)] = os.sched_getaffinity(int(entry.name))
    return found


def _set_affinities(wanted: dict[int, set[int]]) -> None:
    for thread, cores in wanted.items():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores)
