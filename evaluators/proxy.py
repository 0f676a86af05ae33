"""The base of every training-free proxy, and the harness that runs them on shared passes.

A proxy reads a `Passes` record and returns the raw number, NaN included. The harness alone builds the model,
decides what a number that is not finite means, and restores the random state. Proxies that read only the
architecture cost no model.
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

from space.architecture import Architecture, BytesInterface
from space.costs import num_params
from space.errors import InvalidInputError, UnsupportedError
from space.model import Model, build_model

from .passes import (
    GRADIENT_EXAMPLES,
    GROUPS,
    MAX_TOKENS,
    MICRO_BATCHES,
    Group,
    Loss,
    Need,
    Passes,
    ProbeInput,
    collect,
    points_of,
)
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
    num_seeds: ClassVar[int] = 1
    """Initialisations whose mean is the number; one where two of them rank alike."""

    @property
    def groups(self) -> frozenset[Group]:
        """The passes it stands on; A is none."""
        return frozenset(GROUPS[need] for need in self.needs) or frozenset({"A"})

    @abstractmethod
    def score(self, passes: Passes) -> Score:
        """The raw number of one initialisation."""


class StaticProxy(Proxy):
    """A closed form of the architecture; no model is built for it."""

    needs = frozenset()

    @abstractmethod
    def value(self, architecture: Architecture) -> Score:
        """Its number."""

    def score(self, passes: Passes) -> Score:
        if passes.architecture is None:
            raise UnsupportedError(
                f"{self.id}: the network is not of the space; its measures have no closed form"
            )
        return self.value(passes.architecture)


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """How a probe runs; another setting gives another number, under another fingerprint."""

    loss: Loss = "task"
    """What groups C, F and H take gradients of; `projection` needs no labels."""
    probe: ProbeInput = "real"


DEFAULT_PROBE = ProbeOptions()


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
    num_seeds: int | None = None,
    options: ProbeOptions = DEFAULT_PROBE,
) -> dict[str, Measurement]:
    """Proxy id -> measurement, the mean over initialisations, each with one shared run.

    `num_seeds` None: as many as each proxy asks for. Only proxies that name number formats in what they read
    depend on them. `wall_s` is the proxy's own time, `detail["passes_s"]` that of building and shared passes.
    """
    if num_seeds is not None and not 1 <= num_seeds <= MAX_SEEDS:
        raise InvalidInputError(f"num_seeds={num_seeds} is outside 1 to {MAX_SEEDS}")
    outcomes: dict[str, list[_Outcome]] = {proxy.id: [] for proxy in proxies}
    passes_s: dict[str, float] = dict.fromkeys(outcomes, 0.0)
    for index in range(max((seeds_of(proxy, num_seeds) for proxy in proxies), default=0)):
        start = time.perf_counter()
        due = [proxy for proxy in proxies if index < seeds_of(proxy, num_seeds)]
        needs = frozenset[Need]().union(*(proxy.needs for proxy in due))
        passes = _passes(architecture, inputs, targets, needs, options, seed=seed, index=index)
        spent = time.perf_counter() - start
        for proxy in due:
            passes_s[proxy.id] += spent
            outcomes[proxy.id].append(_run(proxy, passes))
    conditions = {
        "batch": min(len(inputs), GRADIENT_EXAMPLES),
        "micro_batches": min(len(inputs), MICRO_BATCHES),
        "loss": options.loss,
        "probe": options.probe,
    }
    return {
        proxy.id: _measurement(
            proxy, outcomes[proxy.id], {**conditions, "passes_s": passes_s[proxy.id]} if proxy.needs else {}
        )
        for proxy in proxies
    }


def seeds_of(proxy: Proxy, num_seeds: int | None) -> int:
    """Initialisations of a proxy; a closed form has nothing to initialise."""
    return (num_seeds or proxy.num_seeds) if proxy.needs else 1


def _passes(
    architecture: Architecture,
    inputs: np.ndarray,
    targets: np.ndarray,
    needs: frozenset[Need],
    options: ProbeOptions,
    *,
    seed: int,
    index: int,
) -> Passes:
    """One initialisation's passes; without needs nothing is built."""
    if not needs:
        return Passes(architecture=architecture, num_params=num_params(architecture))
    own = initialisation_seed(architecture, seed, index)
    model = build_model(architecture.with_number_format("fp32"), seed=own)
    if options.probe == "uniform_tokens":
        inputs = _random_tokens(architecture, inputs, own)
    return model_passes(model, inputs, targets, needs, architecture=architecture, options=options, seed=own)


def _random_tokens(architecture: Architecture, inputs: np.ndarray, seed: int) -> np.ndarray:
    if not isinstance(architecture.interface, BytesInterface):
        raise UnsupportedError(
            f"probe input 'uniform_tokens': an architecture on '{architecture.interface.input}' reads no "
            "tokens; choose 'real' or 'gaussian_embedding'"
        )
    size = architecture.interface.vocab_size
    return np.random.default_rng(seed).integers(0, size, inputs.shape, dtype=np.int64)


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


def proxy_fingerprint(
    proxy: Proxy, *, digest: str, num_seeds: int | None = None, options: ProbeOptions = DEFAULT_PROBE
) -> str:
    """Every condition a proxy's number depends on beside architecture and seed; `digest`: `probe_digest`.

    A closed form depends on nothing else.
    """
    if not proxy.needs:
        return fingerprint(f"proxy:{proxy.id}", proxy.version)
    return fingerprint(
        f"proxy:{proxy.id}",
        proxy.version,
        probe=digest,
        max_tokens=MAX_TOKENS,
        micro_batches=MICRO_BATCHES,
        num_seeds=seeds_of(proxy, num_seeds),
        loss=options.loss,
        input=options.probe,
        torch=torch.__version__,
    )


def model_passes(
    model: Model,
    inputs: Shaped[np.ndarray, "examples ..."],
    targets: Shaped[np.ndarray, "labels ..."],
    needs: frozenset[Need],
    *,
    architecture: Architecture | None = None,
    options: ProbeOptions = DEFAULT_PROBE,
    seed: int = 0,
) -> Passes:
    """One shared run of a model, untrained or trained, with the roles and hook points the space gives it.

    `architecture`: what it is a model of, for closed forms and number formats. `seed`: of random directions.
    """
    return collect(
        model, inputs, targets, points=points_of(model), needs=needs, seed=seed, loss=options.loss,
        probe=options.probe, architecture=architecture,
    )  # fmt: skip


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
    proxy: Proxy, outcomes: Sequence[_Outcome], conditions: Mapping[str, int | float | str]
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
