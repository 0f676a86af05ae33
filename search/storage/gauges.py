"""What a monitor watches: counts over all tenants, from indexes, in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from ..records import FINAL_JOB_STATES, JobReason, JobState, TrialState
from .fences import clock
from .models import Audit, Job, Trial

WAITS: tuple[JobReason, ...] = ("executor_unavailable", "waiting_for_workers", "disk_full")
"""Reasons that somebody has to remove before a job goes on."""


@dataclass(frozen=True, slots=True)
class Gauges:
    jobs: Mapping[str, int]
    """By state."""
    trials: Mapping[str, int]
    """Of jobs that have not ended, by state."""
    leases: Mapping[str, int]
    """`held`, and `expired`: nobody has taken the job over yet."""
    refused_writes: int
    reasons: Mapping[str, int]
    """Jobs that have not ended, by what keeps them from going on."""


def read(session: Session, now: float | None = None) -> Gauges:
    moment = clock(session, now)
    jobs = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
    trials = dict(
        session.execute(
            select(Trial.state, func.count())
            .join(Job, Job.id == Trial.job_id)
            .where(Job.state.not_in(sorted(FINAL_JOB_STATES)))
            .group_by(Trial.state)
        ).all()
    )
    waiting = (
        select(Job.reason, func.count())
        .where(Job.state.not_in(sorted(FINAL_JOB_STATES)), Job.reason.in_(WAITS))
        .group_by(Job.reason)
    )
    reasons: dict[str | None, int] = dict(session.execute(waiting).all())
    kind = case((Job.lease_until > moment, "held"), else_="expired")
    held = select(kind, func.count()).where(Job.lease_owner.is_not(None)).group_by(kind)
    leases: dict[str, int] = dict(session.execute(held).all())
    return Gauges(
        {state: jobs.get(state, 0) for state in get_args(JobState)},
        {state: trials.get(state, 0) for state in get_args(TrialState)},
        {key: leases.get(key, 0) for key in ("held", "expired")},
        int(session.scalar(select(func.count()).select_from(Audit)) or 0),
        {reason: reasons.get(reason, 0) for reason in WAITS},
    )
