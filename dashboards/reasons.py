"""Why a trial is on the front, or what keeps it off: one sentence from the numbers, never a guess."""

from collections.abc import Sequence

from search.objectives import minimised
from search.pareto import dominates
from search.records import JobRecord, TrialRecord

from .wording import REASON_WORDS, label, shown


def front_reason(job: JobRecord, trial: TrialRecord, trials: Sequence[TrialRecord]) -> str:
    """`trials`: the others of its group; this trial among them does no harm."""
    if trial.state != "completed":
        return _unfinished(trial)
    if "infeasible" in trial.flags:
        return "Measured, it breaks a constraint of the job, so it cannot stand on the front."
    if any(key not in trial.effective for key in job.objectives):
        return "Not every objective is known, so it cannot stand on the front."
    others = [
        other
        for other in trials
        if other.number != trial.number
        and other.on_front
        and all(k in other.effective for k in job.objectives)
    ]
    return _on_front(job, trial, others) if trial.on_front else _dominated(job, trial, others)


def front_rival(job: JobRecord, trial: TrialRecord, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The front member that keeps a completed trial off the front; None where nothing does."""
    if trial.state != "completed" or trial.on_front or any(k not in trial.effective for k in job.objectives):
        return None
    others = [
        one
        for one in trials
        if one.number != trial.number and one.on_front and all(k in one.effective for k in job.objectives)
    ]
    return _best_of(job, trial, others)


def _unfinished(trial: TrialRecord) -> str:
    if trial.state == "failed":
        return f"It failed: {REASON_WORDS.get(trial.reason or '', trial.reason or 'no reason is stored')}."
    if trial.state == "pruned":
        return f"Stopped after {trial.steps:,} steps: others were better by then in every respect."
    if trial.state == "cancelled":
        return "Cancelled with the job."
    return "Not finished yet."


def _on_front(job: JobRecord, trial: TrialRecord, others: Sequence[TrialRecord]) -> str:
    """The neighbours on the front in the first cost: what one would gain and pay."""
    cost, quality = job.objectives[1], job.objectives[0]
    sentence = "On the front: no counted trial is at least as good in everything and better in something."
    cheaper = [other for other in others if other.effective[cost] < trial.effective[cost]]
    dearer = [other for other in others if other.effective[cost] > trial.effective[cost]]
    if cheaper:
        sentence += _compared("lower", max(cheaper, key=lambda o: o.effective[cost]), cost, quality)
    if dearer:
        sentence += _compared("higher", min(dearer, key=lambda o: o.effective[cost]), cost, quality)
    return sentence


def _compared(word: str, other: TrialRecord, cost: str, quality: str) -> str:
    return (
        f" Next {word} in {label(cost)}: trial {other.label} with {shown(cost, other.effective[cost])} "
        f"and {shown(quality, other.effective[quality])}."
    )


def _dominated(job: JobRecord, trial: TrialRecord, others: Sequence[TrialRecord]) -> str:
    best = _best_of(job, trial, others)
    if best is None:
        unmeasured = [key for key in job.objectives if trial.kinds.get(key) == "predicted"]
        if unmeasured:
            return f"Not on the front: its {label(unmeasured[0])} is predicted, not measured."
        return "Not on the front."
    numbers = ", ".join(f"{label(key)} {shown(key, best.effective[key])}" for key in job.objectives)
    return f"Not on the front: trial {best.label} is at least as good in everything ({numbers})."


def _best_of(job: JobRecord, trial: TrialRecord, others: Sequence[TrialRecord]) -> TrialRecord | None:
    """Of those that dominate it the one with the best quality."""
    own = minimised(trial.effective, job.objectives)
    better = [other for other in others if dominates(minimised(other.effective, job.objectives), own)]
    return min(better, key=lambda other: minimised(other.effective, job.objectives), default=None)
