"""The invariants of a database, checked from what is stored: an empty list means that all hold.

    I1  an ended job has one end, no lease, and only ended trials
    I2  a completed job has its budget of trials, or says why not
    I3  a trial ends once; trial numbers have no gaps
    I4  trials run only under a lease, and no lease lasts for ever
    I5  Pareto flags equal the front computed anew from the values
    I7  a proposal saw only what was there: earlier events, earlier parents
    I8  a ready export has its folder
    I9  reasons come from the closed lists; messages name no place of this machine

A lease that ran out is no fault: the next coordinator takes it over. I6 and I10 cannot be seen in rows; they
are tested (`tests/search/test_gates.py`, `tests/api`). Safe beside a search that runs: one consistent state
is read.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from ..records import FINAL_JOB_STATES, FINAL_TRIAL_STATES, TRIAL_REASONS, JobReason
from .database import Database
from .details import PRUNED
from .front import complete_vector, front_numbers, is_counted, known_values
from .models import Artefact, Event, Job, Trial

LONGEST_LEASE_S = 3600.0
"""A lease further ahead was written by a clock that was wrong."""


def check(db: Database) -> list[str]:
    """One line per fault, with the job's id and the invariant's name."""
    now = db.now()
    with db.read() as session:
        faults = list(_engine_faults(session)) if db.dialect == "sqlite" else []
        for job in session.scalars(select(Job).order_by(Job.position)):
            trials = session.scalars(select(Trial).where(Trial.job_id == job.id).order_by(Trial.number)).all()
            for found in (
                _job_faults(job, trials),
                _lease_faults(job, now),
                _proposal_faults(job, trials),
                _reason_faults(job, trials, db.data_dir),
                _export_faults(session, job, db.data_dir if db.data_url is None else None),
                _budget_faults(job, trials),
                _trial_faults(trials),
                _event_faults(session, job, trials),
                _front_faults(job, trials),
            ):
                faults.extend(f"job {job.id}: {fault}" for fault in found)
            session.expunge_all()
    return faults


def _engine_faults(session: Session) -> Iterator[str]:
    for (line,) in session.execute(text("PRAGMA integrity_check")):
        if line != "ok":
            yield f"file: {line}"
    for row in session.execute(text("PRAGMA foreign_key_check")):
        yield f"file: a row of {row[0]} refers to a missing row of {row[2]}"


def _job_faults(job: Job, trials: Sequence[Trial]) -> Iterator[str]:
    has_ended = job.state in FINAL_JOB_STATES
    if has_ended != (job.ended_at is not None):
        yield f"I1 state {job.state}, ended at {job.ended_at}"
    if has_ended and job.lease_owner is not None:
        yield f"I1 {job.state}, but leased to {job.lease_owner}"
    for trial in trials:
        if has_ended and trial.state not in FINAL_TRIAL_STATES:
            yield f"I1 {job.state}, but trial {trial.number} is {trial.state}"
        if trial.state == "running" and job.lease_owner is None:
            yield f"I4 trial {trial.number} is running without a lease"


def _lease_faults(job: Job, now: float) -> Iterator[str]:
    if job.lease_owner is not None and (job.lease_until or 0.0) > now + LONGEST_LEASE_S:
        yield f"I4 leased to {job.lease_owner} for {(job.lease_until or 0.0) - now:.0f} s more"


def _proposal_faults(job: Job, trials: Sequence[Trial]) -> Iterator[str]:
    for trial in trials:
        if trial.asked_after > job.last_seq:
            yield f"I7 trial {trial.number} saw event {trial.asked_after} of {job.last_seq}"
        if trial.number >= 0 and any(not 0 <= parent < trial.number for parent in trial.parents):
            yield f"I7 trial {trial.number} has parents {trial.parents}"


def _reason_faults(job: Job, trials: Sequence[Trial], folder: Path) -> Iterator[str]:
    if job.reason is not None and job.reason not in get_args(JobReason):
        yield f"I9 reason '{job.reason}' of the job is not of the list"
    for trial in trials:
        if trial.reason is not None and trial.reason not in TRIAL_REASONS:
            yield f"I9 reason '{trial.reason}' of trial {trial.number} is not of the list"
        if str(folder) in (trial.message or ""):
            yield f"I9 the message of trial {trial.number} names the data folder"


def _export_faults(session: Session, job: Job, folder: Path | None) -> Iterator[str]:
    """`folder` is None where exports are elsewhere."""
    if folder is None:
        return
    ready = select(Artefact).where(Artefact.job_id == job.id, Artefact.state == "ready")
    for artefact in session.scalars(ready):
        if artefact.path is None or not (folder / artefact.path).is_dir():
            yield f"I8 export {artefact.id} is ready and has no folder"


def _budget_faults(job: Job, trials: Sequence[Trial]) -> Iterator[str]:
    if job.state != "completed":
        return
    if job.reason is None:
        yield "I2 completed without a reason"
    budget = job.spec.get("budget", {}).get("trials")
    done = sum(trial.number >= 0 for trial in trials)
    if job.reason == "budget_reached" and budget is not None and done != budget:
        yield f"I2 budget_reached with {done} trials of {budget}"


def _trial_faults(trials: Sequence[Trial]) -> Iterator[str]:
    numbers = [trial.number for trial in trials]
    if numbers != list(range(min(numbers, default=0), max(numbers, default=-1) + 1)):
        yield f"I3 trial numbers have gaps: {len(numbers)} from {numbers[0]} to {numbers[-1]}"
    for trial in trials:
        if (trial.state in FINAL_TRIAL_STATES) != (trial.ended_at is not None):
            yield f"I1 trial {trial.number} is {trial.state}, ended at {trial.ended_at}"
        if trial.state == "failed" and trial.reason is None:
            yield f"I3 trial {trial.number} failed without a reason"


def _event_faults(session: Session, job: Job, trials: Sequence[Trial]) -> Iterator[str]:
    is_whole = PRUNED not in job.context  # else retention took events of trials away
    count, newest = session.execute(
        select(func.count(), func.coalesce(func.max(Event.seq), 0)).where(Event.job_id == job.id)
    ).one()
    if newest != job.last_seq or (is_whole and count != newest):
        yield f"I3 {count} events, the newest {newest}, the job's count {job.last_seq}"
    ends: Counter[int | None] = Counter()
    states = select(Event).where(Event.job_id == job.id, Event.kind.in_(("trial.state", "job.state")))
    for event in session.scalars(states):
        final = FINAL_JOB_STATES if event.kind == "job.state" else FINAL_TRIAL_STATES
        if event.data["state"] in final:
            ends[event.trial] += 1
    if ends[None] != (job.state in FINAL_JOB_STATES):
        yield f"I1 the job is {job.state} and has ended {ends[None]} times"
    for trial in trials if is_whole else ():
        if ends[trial.number] != (trial.state in FINAL_TRIAL_STATES):
            yield f"I3 trial {trial.number} is {trial.state} and has ended {ends[trial.number]} times"


def _front_faults(job: Job, trials: Sequence[Trial]) -> Iterator[str]:
    for group, members in (
        ("search", [trial for trial in trials if trial.number >= 0]),
        ("reference", [trial for trial in trials if trial.number < 0]),
    ):
        vectors = {
            trial.number: vector
            for trial in members
            if is_counted(trial, job.objectives)
            and (vector := complete_vector(known_values(trial, job.objectives, job.stage))) is not None
        }
        stored = {trial.number for trial in members if trial.on_front}
        right = front_numbers(vectors)
        if stored != right:
            yield f"I5 {group} front is {sorted(stored)}, should be {sorted(right)}"
