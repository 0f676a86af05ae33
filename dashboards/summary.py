"""What a job page says in words and single numbers: progress, gain, speed-up, suggestions, failures.

Prepared once as frozen records, used by the page and the offline report alike.
"""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.objectives import OBJECTIVES, PROXY_SCORE
from search.records import JobRecord, TrialRecord
from search.tally import FailedTrial, Tally, rungs_of, tally_of

from .points import cell
from .wording import (
    FINALISTS_TRAIN,
    REASON_WORDS,
    STATE_MEANING,
    describe,
    duration,
    elapsed_s,
    factor,
    is_over,
    label,
    trains_finalists,
)

CLAIM_STEPS = 1000
"""Finalists trained for fewer steps make a demonstration, not a claim."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a job stands."""

    state: str
    meaning: str
    reason: str
    message: str
    percent: int
    done: int
    budget: int
    references_done: int
    references_total: int
    finalists: str
    """How many have their means, until then how many of their trainings have ended; empty before them."""
    elapsed: str
    left: str
    demonstration: str
    """Why the numbers are a demonstration; empty when they are a claim."""


@dataclass(frozen=True, slots=True)
class Stat:
    """One large number with its remark."""

    name: str
    value: str
    remark: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A trial of the front worth taking, with the reason."""

    number: int
    label: str
    kind: str
    what: str
    numbers: str
    reason: str
    architecture: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A cause of failed trials, how often, and what the workers said."""

    reason: str
    words: str
    count: int
    cases: tuple["Case", ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One message of a worker, and the trials that ended with it: (number, label)."""

    message: str
    count: int
    trials: tuple[tuple[int, str], ...]


def status(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    now: dt.datetime,
    tally: Tally | None = None,
) -> Status:
    """Progress of a job at `now`: of its search, and after that of its finalists' trainings. `tally`: of all
    trials, where `trials` are only some of them."""
    tally = tally or tally_of((*trials, *references), rungs_of(job))
    budget = int(job.spec["budget"]["trials"])
    done = tally.done
    seconds = elapsed_s(job, now)
    ended, trainings = job.context.get("finalist_trainings") or (0, 1)
    is_final = trains_finalists(job)
    share = ended / trainings if is_final else min(1.0, done / budget)
    searches = job.state == "running" and not is_final
    left = seconds * (budget - done) / done if seconds and done >= 3 and searches else 0.0
    return Status(
        state=job.state,
        meaning=FINALISTS_TRAIN if is_final else STATE_MEANING.get(job.state, job.state),
        reason=REASON_WORDS.get(job.reason or "", job.reason or ""),
        message=job.message or "",
        percent=100 if job.state == "completed" else round(100 * share),
        done=done,
        budget=budget,
        references_done=tally.references_done,
        references_total=tally.references,
        finalists=_finalists(job, tally.retrained),
        elapsed="" if seconds is None else f"{'took' if is_over(job) else 'for'} {duration(seconds)}",
        left=duration(left) if left else "",
        demonstration=demonstration(job, (*trials, *references)),
    )


def _finalists(job: JobRecord, retrained: int) -> str:
    total = len(job.context.get("finalists") or ())
    done, trainings = job.context.get("finalist_trainings") or (0, 0)
    if retrained or not trainings:
        return f"{retrained} of {total}" if total else ""
    return f"{done} of {trainings} trainings of {total}"


def demonstration(job: JobRecord, trials: Sequence[TrialRecord]) -> str:
    """Why the numbers claim nothing yet, or an empty text."""
    if PROXY_SCORE in job.objectives:
        return (
            "Unvalidated: nothing was trained. The proxy score stands for quality, and on public tables such "
            "scores say little about architectures of equal size."
        )
    steps = {trial.final.steps for trial in trials if trial.final}
    planned = int(job.spec["finalists"]["steps"])
    count = int(job.spec["finalists"]["count"])
    if count == 0:
        return "This job retrains no finalists: every number is of one short training."
    least = min(steps, default=planned)
    if least >= CLAIM_STEPS:
        return ""
    return (
        f"The finalists train for {least:,} steps; below {CLAIM_STEPS:,} steps the order of architectures "
        "may still change, and short trainings favour local mixers."
    )


def stats(job: JobRecord, trials: Sequence[TrialRecord]) -> list[Stat]:
    """The large numbers of a job."""
    front = [trial for trial in trials if trial.on_front]
    kept = "with finalists' numbers" if job.stage == "final" else "measured whole"
    found = [Stat("architectures on the front", str(len(front)), f"{kept}; nothing beats them")]
    found.append(_hypervolume(job))
    found.append(_speedup(job))
    found += [_best(front, key) for key in job.objectives[:2]]
    return found


def speedup_words(found: Mapping[str, Any]) -> str:
    """Trial, interval and what the number means.

    >>> speedup_words({"value": 2.0, "low": 1.8, "high": 2.2, "trial": 7, "lower_bound": True})
    'trial 7, 95 % interval 1.8× to 2.2×; at least, as it is better than every reference'
    """
    words = f"trial {found['trial']}"
    if found.get("low") is not None and found.get("high") is not None:
        words += f", 95 % interval {factor(found['low'])} to {factor(found['high'])}"
    if found.get("lower_bound"):
        words += "; at least, as it is better than every reference"
    elif found.get("quality") == "worse":
        words += "; less accurate than every reference, so compared with the fastest"
    return words


def bounded(found: Mapping[str, Any]) -> str:
    """The factor, marked where it is only a lower bound.

    >>> bounded({"value": 2.0, "lower_bound": True})
    '≥ 2×'
    """
    return ("≥ " if found.get("lower_bound") else "") + factor(found["value"])


def speedup_lines(job: JobRecord) -> list[tuple[str, str, str]]:
    """(against what, factor, remark) of the speed-up at equal quality: the largest, then narrower ones."""
    found = job.indicators.get("speedup_at_equal_quality") or {}
    earlier = job.indicators.get("speedup_at_equal_quality_search")
    named = [
        ("all references", found),
        ("fp32 references", found.get("against_fp32")),
        ("int8 references", found.get("against_int8")),
        ("all references, by points worse than all of them too", _other(found)),
        ("all references, before the finalists' training", earlier),
    ]
    return [
        (name, bounded(one), speedup_words(one))
        for name, one in named
        if one and one.get("value") is not None
    ]


def _other(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The reading that counts points worse than every reference, where it is another one."""
    wider = found.get("including_worse")
    return wider if wider and wider["trial"] != found["trial"] else None


def suggestions(job: JobRecord, trials: Sequence[TrialRecord]) -> list[Suggestion]:
    """The suggested trials that are there, in the order of the indicators."""
    by_number = {trial.number: trial for trial in trials}
    return [
        _suggestion(job, by_number[int(item["trial"])], item)
        for item in job.indicators.get("suggestions") or ()
        if int(item["trial"]) in by_number
    ]


def outcomes(job: JobRecord, tally: Tally) -> list[tuple[str, int]]:
    """How many trials ended how, then the counters of the search."""
    counters = [(name.replace("_", " "), int(count)) for name, count in sorted(job.counters.items()) if count]
    return [*sorted(tally.states.items()), *counters]


def failures(failed: Sequence[FailedTrial]) -> list[Failure]:
    """Failed trials by reason, most frequent first, each with the workers' messages."""
    found = []
    for reason, count in Counter(trial.reason for trial in failed).most_common():
        ended = [trial for trial in failed if trial.reason == reason]
        found.append(Failure(reason, REASON_WORDS.get(reason, reason), count, _cases(ended)))
    return found


MAX_CASES, MAX_NAMED = 5, 8
"""Messages of a cause, and trials of a message, that a page names."""


def _cases(failed: Sequence[FailedTrial]) -> tuple[Case, ...]:
    """The most frequent messages; many trials of one worker's fault are one line."""
    messages = Counter(trial.message for trial in failed).most_common(MAX_CASES)
    return tuple(
        Case(
            message,
            count,
            tuple((one.number, one.label) for one in failed if one.message == message)[:MAX_NAMED],
        )
        for message, count in messages
    )


def facts(job: JobRecord) -> list[tuple[str, str]]:
    """The job in a line: task, target, strategy, budget."""
    spec = job.spec
    return [
        ("task", f"{spec['task']['kind']}, {spec['task']['dataset']}"),
        ("target", target_words(job)),
        ("strategy", f"{spec['strategy']['kind']}, seed {spec['strategy']['seed']}"),
        ("objectives", ", ".join(label(key) for key in job.objectives)),
    ]


def target_words(job: JobRecord) -> str:
    """Device, runtime, threads, batch and length in a line."""
    target = {**job.spec["target"], **(job.context.get("target") or {})}
    threads = int(target["threads"])
    words = [
        f"{target['runtime']} on {target['device']}",
        f"{threads} thread{'s' if threads != 1 else ''}",
        f"batch {target['batch_size']}",
    ]
    if target.get("length"):
        words.append(f"length {target['length']}")
    if target.get("phase") == "decode":
        words.append("one more token per sequence")
    return ", ".join(words)


def conditions(job: JobRecord) -> list[tuple[str, str]]:
    """Everything the numbers depend on, for the page and the report."""
    context = job.context
    task = context.get("task") or {}
    rows = [
        ("target", target_words(job)),
        ("device and versions", str(context.get("device_key", "not known before the job starts"))),
        ("task", f"{job.spec['task']['kind']}, {job.spec['task']['dataset']}"),
    ]
    if task.get("parts"):
        unit = task.get("part_unit") or {}
        parts = ", ".join(
            f"{name} {count:,} {unit.get(name, '')}".rstrip() for name, count in task["parts"].items()
        )
        rows.append(("data", parts))
    if task.get("floors"):
        floors = ", ".join(f"{name} {value:.3f}" for name, value in task["floors"].items())
        rows.append(("floors of the data", floors))
    if context.get("data_digest"):
        rows.append(("data digest (SHA-256)", str(context["data_digest"])))
    if context.get("space_size"):
        rows.append(("architectures in the space", count_words(context["space_size"])))
    training, finalists = job.spec["training"], job.spec["finalists"]
    rungs = ", ".join(str(step) for step in context.get("rung_steps") or (training["steps"],))
    if job.objectives[0] == PROXY_SCORE:
        rows.append(("training", "none"))
    else:
        rows.append(("training of a trial", f"{rungs} steps, 1 seed"))
        if finalists["count"]:
            words = f"{finalists['steps']:,} steps, {finalists['seeds']} seeds"
            rows.append(("training of a finalist", words))
    return [*rows, ("seed", str(job.spec["strategy"]["seed"])), ("job", job.id)]


def count_words(text: object) -> str:
    """
    >>> count_words("1234567"), count_words("123456789012345678")
    ('1,234,567', 'about 1.2e+17')
    """
    digits = str(text)
    if not digits.isdigit():
        return digits
    if len(digits) < 13:
        return f"{int(digits):,}"
    return f"about {int(digits):.1e}" if len(digits) < 300 else f"about 1e+{len(digits) - 1}"


def gain_words(gain: float) -> str:
    """A gain over the references as a person reads it; `gain` is a fraction of theirs.

    >>> gain_words(0.123), gain_words(10.5)
    ('gain +12.3 %', '11.5 times theirs')
    """
    return f"gain {100 * gain:+.1f} %" if gain < 1 else f"{1 + gain:.1f} times theirs"


def _hypervolume(job: JobRecord) -> Stat:
    volume = job.indicators.get("hypervolume")
    reference, gain = job.indicators.get("reference_hypervolume"), job.indicators.get("hypervolume_gain")
    if volume is None:
        return Stat("hypervolume", "–", "known once the references are measured")
    remark = f"references {reference:.3f}" if reference is not None else ""
    if not job.indicators.get("hypervolume_history"):
        return Stat("hypervolume", "–", f"{remark}; no trial is counted yet".lstrip("; "))
    if gain is not None:
        remark += f", {gain_words(gain)}"
    return Stat("hypervolume", f"{volume:.3f}", remark.lstrip(", "), "good" if gain and gain > 0 else "")


def _speedup(job: JobRecord) -> Stat:
    lines = speedup_lines(job)
    if not lines:
        return Stat("speed-up at equal quality", "–", "against the reference front, once there is one")
    _, value, words = lines[0]
    found = job.indicators["speedup_at_equal_quality"]
    return Stat(
        "speed-up at equal quality",
        value,
        words,
        "" if found.get("quality") == "worse" or (found.get("low") or found["value"]) <= 1 else "good",
    )


def _best(front: Sequence[TrialRecord], key: str) -> Stat:
    known = [trial for trial in front if key in trial.effective]
    if not known:
        return Stat(f"best {label(key)}", "–")
    best = min(known, key=lambda trial: (OBJECTIVES[key].minimised(trial.effective[key]), trial.number))
    number = cell(best, key)
    return Stat(f"best {label(key)}", number.text, f"trial {best.label} {number.spread}".strip())


def _suggestion(job: JobRecord, trial: TrialRecord, item: Mapping[str, Any]) -> Suggestion:
    numbers = [f"{label(key)} {cell(trial, key).text}" for key in (*job.objectives, "params")]
    return Suggestion(
        number=trial.number,
        label=trial.label,
        kind=str(item["kind"]).replace("_", " ").replace("-", " "),
        what=describe(trial.architecture),
        numbers=", ".join(numbers),
        reason=str(item.get("reason", "")),
        architecture=trial.architecture,
    )
