"""One-click choices from the fronts: as good and faster, as fast and better, what fits a limit.

Everything is compared in the same numbers: a finalist with finalists at their full budget, any other trial
by the numbers of the search stage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord

from .wording import describe, factor, label, shown


@dataclass(frozen=True, slots=True)
class Pick:
    """A trial worth a look beside another one; `trial` is None where there is none, and `reason` says why."""

    title: str
    trial: TrialRecord | None
    what: str
    numbers: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Rival:
    """A trial in the numbers of the comparison, to be minimised; infinite where unknown."""

    trial: TrialRecord
    quality: float
    latency_s: float


def picks(
    job: JobRecord, anchor: TrialRecord, candidates: Sequence[TrialRecord], *, limit_s: float | None = None
) -> list[Pick]:
    """Choices relative to `anchor` among `candidates` (the fronts of the search and of the references)."""
    quality = job.objectives[0]
    own = _rival(anchor, quality, final=anchor.final is not None)
    rivals = [
        _rival(one, quality, final=anchor.final is not None)
        for one in candidates
        if one.number != anchor.number and (anchor.final is None or one.final is not None)
    ]
    found = [one for one in rivals if one.trial.number >= 0]
    made = [
        _as_good_and_faster(quality, own, found),
        _as_fast_and_better(quality, own, found),
        _reference(quality, own, [one for one in rivals if one.trial.number < 0]),
    ]
    return [*made, _fits(quality, limit_s, own, found)] if limit_s is not None else made


def limit_of(job: JobRecord) -> float | None:
    """The latency the job's own constraint allows, seconds."""
    limit = (job.spec.get("constraints") or {}).get("latency_s")
    return float(limit) if isinstance(limit, (int, float)) and math.isfinite(limit) else None


def _as_good_and_faster(quality: str, own: _Rival, rivals: Sequence[_Rival]) -> Pick:
    title = "same quality, fastest"
    fits = [one for one in rivals if one.quality <= own.quality and one.latency_s < own.latency_s]
    if not fits:
        return _none(
            title, f"nothing of at least this {label(quality)} is faster than trial {own.trial.label}"
        )
    best = min(fits, key=lambda one: (one.latency_s, one.trial.number))
    return _pick(title, quality, best, f"{_speed(own, best)}, at least as good")


def _as_fast_and_better(quality: str, own: _Rival, rivals: Sequence[_Rival]) -> Pick:
    title = "same latency, most accurate"
    fits = [one for one in rivals if one.latency_s <= own.latency_s and one.quality < own.quality]
    if not fits:
        return _none(title, f"nothing as fast as trial {own.trial.label} has a better {label(quality)}")
    best = min(fits, key=lambda one: (one.quality, one.trial.number))
    return _pick(title, quality, best, f"{shown(quality, own.quality - best.quality)} better, no slower")


def _reference(quality: str, own: _Rival, rivals: Sequence[_Rival]) -> Pick:
    title = "the reference of this quality"
    if not rivals:
        return _none(title, "no reference is known in comparable numbers")
    fits = [one for one in rivals if one.quality <= own.quality]
    if not fits:
        best = min(rivals, key=lambda one: (one.quality, -one.trial.number))
        return _pick(title, quality, best, "the most accurate reference; none is as good")
    best = min(fits, key=lambda one: (one.latency_s, -one.trial.number))
    compared = f"trial {own.trial.label} is {_speed(best, own)}"
    return _pick(title, quality, best, f"the fastest reference at least as good; {compared}")


def _fits(quality: str, limit_s: float, own: _Rival, rivals: Sequence[_Rival]) -> Pick:
    title = f"fits {shown('latency_s', limit_s)}"
    inside = [one for one in (own, *rivals) if one.latency_s <= limit_s]
    if not inside:
        return _none(title, "no trial of the front is that fast")
    best = min(inside, key=lambda one: (one.quality, one.latency_s, one.trial.number))
    if best is own:
        return _none(title, f"trial {own.trial.label} itself is the most accurate one that fits")
    return _pick(title, quality, best, "the most accurate one that fits")


def _pick(title: str, quality: str, best: _Rival, reason: str) -> Pick:
    numbers = f"{shown(quality, OBJECTIVES[quality].minimised(best.quality))}, {_latency(best)}"
    return Pick(title, best.trial, describe(best.trial.architecture), numbers, reason)


def _none(title: str, reason: str) -> Pick:
    return Pick(title, None, "", "", reason)


def _latency(one: _Rival) -> str:
    return shown("latency_s", one.latency_s) if math.isfinite(one.latency_s) else "latency unknown"


def _speed(before: _Rival, after: _Rival) -> str:
    """How much faster `after` is, or slower."""
    if not (math.isfinite(before.latency_s) and 0 < after.latency_s < math.inf and before.latency_s > 0):
        return "of unknown speed"
    ratio = before.latency_s / after.latency_s
    return f"{factor(ratio)} faster" if ratio >= 1 else f"{factor(1 / ratio)} slower"


def _rival(trial: TrialRecord, quality: str, *, final: bool) -> _Rival:
    values = trial.effective if final else trial.values
    return _Rival(
        trial, _minimised(values.get(quality), quality), _minimised(values.get("latency_s"), "latency_s")
    )


def _minimised(value: float | None, key: str) -> float:
    return math.inf if value is None or not math.isfinite(value) else OBJECTIVES[key].minimised(value)
