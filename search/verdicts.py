"""What a job's own trainings say of its proxies.

    partial = Spearman's correlation of proxy and quality given log parameters and depth
    useful        the 95 % interval of `partial` (percentiles of bootstrap samples) lies on the published side
    wrong sign    it lies on the other side
    no evidence   it has 0 in it, or size explains the proxy wholly

from 15 finished trainings on, all at one rung: the highest that as many trials have reached. A proxy with the
wrong sign is left out of the standing; it is still computed, so that later trainings may clear it. Tau
stands beside it with that of parameter count, which any proxy has to beat.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from evaluators.proxies import proxy
from evaluators.rank_statistics import kendall, partial_spearman

Verdict = Literal["useful", "wrong sign", "no evidence"]
LEAST = 15
"""Finished trainings before anything is said."""
NEWEST = 500
"""Trainings that are looked at, the newest."""
SAMPLES = 500
KEY = "proxy_verdicts"
"""Of a job's context, where they are kept."""
LINE_KEY = "screen_line"
"""Of a job's context, where the line is described that the screen reads candidates by."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A training at the rung that is looked at."""

    number: int
    quality: float
    """Larger is better."""
    params: float
    depth: float
    scores: Mapping[str, float]
    """Proxy id -> value, those that have one."""


@dataclass(frozen=True, slots=True)
class ProxyVerdict:
    """What a job says of one proxy; signs are turned so that larger promises better."""

    proxy: str
    verdict: Verdict
    trainings: int
    tau: float | None
    """Kendall's tau of the proxy and quality; None where one of them does not vary."""
    params_tau: float | None
    """The same of parameter count, on the same trainings."""
    partial: float | None
    low: float | None
    high: float | None
    """95 % interval of `partial`."""


def verdicts(finished: Sequence[Finished], names: Iterable[str]) -> list[ProxyVerdict]:
    """Of every proxy that 15 finished trainings have; a pure function, whatever the order given."""
    rows = sorted(finished, key=lambda row: row.number)[-NEWEST:]
    found = []
    for name in names:
        own = [row for row in rows if name in row.scores]
        if len(own) >= LEAST:
            found.append(_verdict(name, own))
    return found


def _verdict(name: str, rows: Sequence[Finished]) -> ProxyVerdict:
    sign = 1.0 if proxy(name).direction == "max" else -1.0
    x = np.array([sign * row.scores[name] for row in rows])
    y = np.array([row.quality for row in rows])
    size = np.array([[math.log(row.params) for row in rows], [row.depth for row in rows]])
    low, high = _interval(name, x, y, size)
    verdict: Verdict = "no evidence"
    if low is not None and high is not None and (low > 0.0 or high < 0.0):
        verdict = "useful" if low > 0.0 else "wrong sign"
    return ProxyVerdict(
        proxy=name,
        verdict=verdict,
        trainings=len(rows),
        tau=_known(kendall(x, y)),
        params_tau=_known(kendall(size[0], y)),
        partial=_known(partial_spearman(x, y, list(size))),
        low=low,
        high=high,
    )


def _interval(name: str, x: Any, y: Any, size: Any) -> tuple[float | None, float | None]:
    """Percentiles over bootstrap samples, the same for equal rows; None where most have no correlation."""
    rng = np.random.default_rng([*name.encode(), len(x)])
    samples = rng.integers(0, len(x), (SAMPLES, len(x)))
    partials = [partial_spearman(x[chosen], y[chosen], list(size[:, chosen])) for chosen in samples]
    known = [value for value in partials if math.isfinite(value)]
    if len(known) < SAMPLES / 2:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def _known(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def is_due(trainings: int, judged: int) -> bool:
    """Whether there is enough new since `judged` trainings were looked at: 5 more, and a tenth more.

    >>> [n for n in range(40) if is_due(n, 0)][:2], is_due(19, 15), is_due(20, 15), is_due(109, 100)
    ([15, 16], False, True, False)
    """
    return trainings >= LEAST and trainings >= max(judged + 5, math.ceil(1.1 * judged))


def distrusted(found: Iterable[ProxyVerdict]) -> frozenset[str]:
    """Proxies that have no say."""
    return frozenset(one.proxy for one in found if one.verdict == "wrong sign")


def stored(context: Mapping[str, Any]) -> tuple[list[ProxyVerdict], int]:
    """Those that a job's context keeps, and how many trainings had finished when they were judged.

    A job stored before there were any has none.
    """
    kept = context.get(KEY) or {"trainings": 0, "proxies": []}
    return [ProxyVerdict(**row) for row in kept["proxies"]], int(kept["trainings"])


def storable(found: Iterable[ProxyVerdict], trainings: int) -> dict[str, Any]:
    """What a job's context gets."""
    return {KEY: {"trainings": trainings, "proxies": [asdict(one) for one in found]}}
