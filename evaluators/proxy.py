"""The base of every training-free proxy, and the harness that runs them on shared passes.

A proxy reads a `Passes` record and returns the raw number, NaN included. The harness alone builds the model,
decides what a number that is not finite means, and restores the random state.
"""

import hashlib
import math
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Shaped

from space.architecture import Architecture
from space.errors import InvalidInputError, UnsupportedError
from space.model import Model, build_model, parameter_roles

from .passes import GRADIENT_EXAMPLES, MICRO_BATCHES, Need, Passes, collect
from .protocol import Measurement, Status, fingerprint

MAX_SEEDS = 10
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Score:
    """A proxy's raw number, and numbers beside it that a report may show."""

    value: float
    detail: Mapping[str, float] = field(default_factory=dict)


class Proxy(ABC):
    """A cheap stand-in for trained quality.

    `score` only reads `passes`. It raises UnsupportedError where the architecture has nothing the proxy
    reads, and returns NaN where the score is undefined; it never puts a constant in its place.
    """

    id: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the number changes."""
    direction: ClassVar[Literal["max", "min"]]
    """Which way is better, as published."""
    needs: ClassVar[frozenset[Need]]
    summary: ClassVar[str]
    """One line for a person."""

    @abstractmethod
    def score(self, passes: Passes) -> Score:
        """The raw number of one initialisation."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: Status
    score: Score
    reason: str
    wall_s: float


def measure_proxies(
    architecture: Architecture,
    inputs: Shaped[np.ndarray, "examples ..."],
    targets: Shaped[np.ndarray, "labels ..."],
    proxies: Sequence[Proxy],
    *,
    seed: int,
    num_seeds: int = 1,
) -> dict[str, Measurement]:
    """Proxy id -> measurement, the mean over `num_seeds` initialisations, each with one shared run.

    One initialisation is enough to screen: `benchmarks/proxy_passes.py` compares the ranks of two. Number
    formats do not matter here. `wall_s` is the proxy's own time, `detail["passes_s"]` the shared one.
    """
    if not 1 <= num_seeds <= MAX_SEEDS:
        raise InvalidInputError(f"num_seeds={num_seeds} is outside 1 to {MAX_SEEDS}")
    if not proxies:
        return {}
    needs = frozenset[Need]().union(*(proxy.needs for proxy in proxies))
    outcomes: dict[str, list[_Outcome]] = {proxy.id: [] for proxy in proxies}
    plain, passes_s = architecture.with_number_format("fp32"), 0.0
    for index in range(num_seeds):
        start = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            model = build_model(plain, seed=initialisation_seed(architecture, seed, index))
        passes = model_passes(model, inputs, targets, needs)
        passes_s += time.perf_counter() - start
        for proxy in proxies:
            outcomes[proxy.id].append(_run(proxy, passes))
    conditions = {
        "batch": min(len(inputs), GRADIENT_EXAMPLES),
        "micro_batches": passes.num_micro_batches,
        "passes_s": passes_s,
    }
    return {proxy.id: _measurement(proxy, outcomes[proxy.id], conditions) for proxy in proxies}


def initialisation_seed(architecture: Architecture, seed: int, index: int) -> int:
    """63 bits that depend on the job's seed, the architecture without its number formats, and the repeat."""
    text = f"{seed}/{architecture.training_id}/proxy/{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def probe_digest(
    inputs: Shaped[np.ndarray, "examples ..."], targets: Shaped[np.ndarray, "labels ..."]
) -> str:
    """SHA-256 (hex) over a probe batch: values, shapes and types."""
    digest = hashlib.sha256()
    for array in (inputs, targets):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def proxy_fingerprint(proxy: Proxy, *, digest: str, num_seeds: int = 1) -> str:
    """Every condition a proxy's number depends on beside architecture and seed; `digest`: `probe_digest`."""
    return fingerprint(
        f"proxy:{proxy.id}",
        proxy.version,
        probe=digest,
        micro_batches=MICRO_BATCHES,
        num_seeds=num_seeds,
        torch=torch.__version__,
    )


def model_passes(
    model: Model,
    inputs: Shaped[np.ndarray, "examples ..."],
    targets: Shaped[np.ndarray, "labels ..."],
    needs: frozenset[Need],
) -> Passes:
    """One shared run of a model, with the roles and hook points that the space gives it."""
    hidden = dict(enumerate(feed_forward.hidden for feed_forward in model.feed_forwards()))
    return collect(model, inputs, targets, roles=parameter_roles(model), hidden=hidden, needs=needs)


def _run(proxy: Proxy, passes: Passes) -> _Outcome:
    start = time.perf_counter()
    status: Status
    try:
        score, reason = proxy.score(passes), ""
        if math.isnan(score.value):
            status, reason = "nan", "the score is undefined for this initialisation"
        elif math.isinf(score.value):
            status, reason = "overflow", "the score is larger than a number can be"
        else:
            status = "ok"
    except UnsupportedError as error:
        score, status, reason = Score(math.nan), "unsupported", error.message
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing from torch's __all__
        score, status, reason = Score(math.nan), "nan", str(error)
    return _Outcome(status, score, reason, time.perf_counter() - start)


def _measurement(
    proxy: Proxy, outcomes: Sequence[_Outcome], conditions: Mapping[str, int | float]
) -> Measurement:
    """One row: the mean over seeds when every seed has a number, else the first failure."""
    wall_s = sum(outcome.wall_s for outcome in outcomes)
    base = {"version": proxy.version, "direction": proxy.direction, **conditions}
    failed = next((outcome for outcome in outcomes if outcome.status != "ok"), None)
    if failed is not None:
        return Measurement(
            proxy.id, None, "1", "computed", failed.status, repeats=len(outcomes), wall_s=wall_s,
            detail={**base, "reason": failed.reason},
        )  # fmt: skip
    values = [outcome.score.value for outcome in outcomes]
    extra = {
        name: statistics.fmean(outcome.score.detail[name] for outcome in outcomes)
        for name in outcomes[0].score.detail
    }
    return Measurement(
        proxy.id, statistics.fmean(values), "1", "computed", spread=_half_interval(values),
        repeats=len(values), wall_s=wall_s, detail={**base, **extra},
    )  # fmt: skip


def _half_interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean; unknown from one value."""
    if len(values) < 2:
        return None
    return _T95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
