"""Jobs: creation, listing, what users ask for, and what the coordinator that holds the lease writes.

Functions take the session first, return records and never commit. `now` is Unix seconds, the session's clock
by default. Functions with a `fence` are the coordinator's: an old fence, a given back lease or an ended job
is a ConflictError. Functions with a `tenant` answer NotFoundError for other tenants' jobs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from space.errors import ConflictError, InvalidInputError, NotFoundError, nearest

from ..objectives import OBJECTIVES
from ..records import FINAL_JOB_STATES, JobReason, JobRecord, JobState, Page
from . import events, front
from .cursors import checked_limit, decode, encode
from .ending import move_job
from .fences import clock, fenced_job, job_row
from .finite import finite_json
from .leases import beat, claim, leased, release, take, wake
from .models import MAX_OBJECTIVES, Artefact, Job
from .rows import job_record, utc

__all__ = [
    "Action",
    "add_counters",
    "beat",
    "claim",
    "count_active",
    "counts",
    "create",
    "delete",
    "get",
    "leased",
    "list_jobs",
    "lock",
    "release",
    "rename",
    "request",
    "resolve",
    "set_counters",
    "set_indicators",
    "set_labels",
    "set_stage",
    "set_state",
    "take",
    "update_context",
    "wake",
]

Action = Literal["pause", "resume", "stop", "cancel"]
_ASKED_STATE: Mapping[str, str] = {
    "pause": "paused",
    "resume": "running",
    "stop": "stopping",
    "cancel": "cancelled",
}
_MIN_PREFIX = 4
MAX_LABELS = 16
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,39}")


def create(
    session: Session,
    *,
    name: str,
    spec: Mapping[str, Any],
    objectives: Sequence[str],
    tenant: str = "local",
    now: float | None = None,
    job_id: str | None = None,
    lease: tuple[str, float] | None = None,
    context: Mapping[str, Any] | None = None,
) -> JobRecord:
    """Stores a queued job, or with `lease` (owner, until when) a running one held by that owner with fence 1.

    With `job_id` it can be repeated: the same job is returned.

    Raises:
        InvalidInputError: objectives that are not 1 to 4 different keys, or a spec that JSON cannot hold.
        ConflictError: another job has that id.
    """
    _check_objectives(objectives)
    clean_spec = finite_json("spec", spec)
    if job_id is not None:
        stored = session.scalar(select(Job).where(Job.id == job_id))
        if stored is not None:
            if (stored.spec, stored.tenant, stored.name) != (clean_spec, tenant, name):
                raise ConflictError(
                    f"job {job_id} exists with another content; leave the id out for a new job"
                )
            return job_record(stored)
    row = Job(
        id=job_id or uuid4().hex,
        name=name,
        tenant=tenant,
        state="queued",
        reason=None,
        message=None,
        spec=clean_spec,
        objectives=list(objectives),
        context=finite_json("context", context or {}),
        counters={},
        indicators={},
        stage="search",
        created_at=utc(clock(session, now)),
        started_at=None,
        ended_at=None,
        lease_owner=None,
        lease_until=None,
        fence=0,
        version=1,
        last_seq=0,
    )
    session.add(row)
    session.flush()
    events.add(session, row, "job.state", None, {"state": "queued", "reason": None}, now)
    if lease is not None:
        row.lease_owner, row.lease_until = lease
        row.fence = 1
        move_job(session, row, "running", now=now)
    session.flush()
    return job_record(row)


def _check_objectives(objectives: Sequence[str]) -> None:
    for key in objectives:
        if key not in OBJECTIVES:
            raise InvalidInputError(f"unknown objective '{key}'; {nearest(key, OBJECTIVES)}")
    if not 1 <= len(objectives) <= MAX_OBJECTIVES or len(set(objectives)) != len(objectives):
        raise InvalidInputError(
            f"objectives={', '.join(objectives)}: name 1 to {MAX_OBJECTIVES} different ones"
        )


def get(session: Session, job_id: str, *, tenant: str | None = None) -> JobRecord:
    """
    Raises:
        NotFoundError: there is no such job, or it is another tenant's.
    """
    return job_record(job_row(session, job_id, tenant=tenant))


def lock(session: Session, job_id: str, *, tenant: str | None = None) -> JobRecord:
    """As `get`; nobody else changes the job before this transaction ends."""
    return job_record(job_row(session, job_id, tenant=tenant, lock=True))


def resolve(session: Session, text: str, tenant: str = "local") -> JobRecord:
    """The job with this id, or with the only id that begins like this (4 characters or more).

    Raises:
        NotFoundError: no job of the tenant begins so.
        InvalidInputError: too short, or several do.
    """
    prefix = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        raise NotFoundError(f"job '{text[:64]}' does not exist; `paretoformer jobs` lists the ids")
    if len(prefix) < _MIN_PREFIX:
        raise InvalidInputError(
            f"job '{prefix}' is too short; give at least {_MIN_PREFIX} characters of the id"
        )
    found = session.scalars(
        select(Job)
        .where(Job.tenant == tenant, Job.id >= prefix, Job.id < f"{prefix}g")  # a range, for the index of ids
        .order_by(Job.id)
        .limit(3)
    ).all()
    if not found:
        raise NotFoundError(f"job '{prefix}' does not exist; `paretoformer jobs` lists the ids")
    if len(found) > 1:
        ids = ", ".join(row.id[:12] for row in found)
        raise InvalidInputError(
            f"job '{prefix}' is the beginning of several ids ({ids}, ...); give more of it"
        )
    return job_record(found[0])


def list_jobs(
    session: Session,
    *,
    tenant: str,
    state: str | None = None,
    query: str | None = None,
    label: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Newest first; `query` is part of a name, without regard to case, `label` a whole label.

    Raises:
        InvalidInputError: unknown state, bad cursor, or a limit outside 1 to 1,000.
    """
    rows = select(Job).where(Job.tenant == tenant)
    if state is not None:
        if state not in get_args(JobState):
            raise InvalidInputError(f"unknown job state '{state}'; {nearest(state, get_args(JobState))}")
        rows = rows.where(Job.state == state)
    if query:
        rows = rows.where(Job.name.icontains(query[:200], autoescape=True))
    if label:
        rows = rows.where(Job.labels.contains(f" {label[:40]} ", autoescape=True))
    if cursor is not None:
        (position,) = decode(cursor, 1)
        if not isinstance(position, int):
            raise InvalidInputError("cursor is not one this listing gave out; start again without it")
        rows = rows.where(Job.position < position)
    limit = checked_limit(limit)
    page = session.scalars(rows.order_by(Job.position.desc()).limit(limit + 1)).all()
    more = encode([page[limit - 1].position]) if len(page) > limit else None
    return Page([job_record(row) for row in page[:limit]], more)


def counts(session: Session, tenant: str = "local") -> dict[str, int]:
    """Number of jobs in every state, zeros included."""
    query = select(Job.state, func.count()).where(Job.tenant == tenant).group_by(Job.state)
    found = dict(session.execute(query).all())
    return {state: found.get(state, 0) for state in get_args(JobState)}


def count_active(session: Session, tenant: str) -> int:
    """Number of a tenant's jobs that have not ended."""
    states = [state for state in get_args(JobState) if state not in FINAL_JOB_STATES]
    query = select(func.count()).select_from(Job).where(Job.tenant == tenant, Job.state.in_(states))
    return int(session.scalar(query) or 0)


def set_state(
    session: Session,
    job_id: str,
    state: JobState,
    *,
    fence: int | None = None,
    reason: str | None = None,
    message: str | None = None,
    now: float | None = None,
) -> JobRecord:
    """Moves the job; its own state again only renews the reason. An end takes the lease and cancels what
    runs; the same end again, from one whose answer was lost on the way, changes nothing.

    Raises:
        ConflictError: the fence is old, or the move is not in `JOB_TRANSITIONS`.
        InvalidInputError: a reason outside the closed list.
    """
    if reason is not None and reason not in get_args(JobReason):
        raise InvalidInputError(f"unknown reason '{reason}'; {nearest(reason, get_args(JobReason))}")
    if fence is None:
        row = job_row(session, job_id, lock=True)
    else:
        row = fenced_job(session, job_id, fence, "set_state", ending=state, state=state)
        if row.state in FINAL_JOB_STATES:
            return job_record(row)
    move_job(session, row, state, reason=reason, message=message, now=now)
    session.flush()
    return job_record(row)


def request(
    session: Session, job_id: str, action: Action, now: float | None = None, *, tenant: str | None = None
) -> JobRecord:
    """What a user asks for. Asking for the state the job is in, or resuming a queued one, changes nothing.

    Cancelling a queued job ends it at once, and so does stopping one: nothing of it has started.

    Raises:
        ConflictError: the job has ended in another state, or the move is not possible from its state.
    """
    if action not in _ASKED_STATE:
        raise InvalidInputError(f"unknown action '{action}'; {nearest(action, _ASKED_STATE)}")
    row = job_row(session, job_id, tenant=tenant, lock=True)
    state = _ASKED_STATE[action]
    if row.state == "queued" and action in ("resume", "stop"):
        state = "queued" if action == "resume" else "cancelled"
    if row.state == "stopping" and action == "resume":
        raise ConflictError(f"job {job_id} is stopping and cannot be resumed; wait for it to complete")
    if state != row.state:
        move_job(session, row, state, reason="user", now=now)
    session.flush()
    return job_record(row)


def rename(
    session: Session,
    job_id: str,
    name: str,
    *,
    tenant: str | None = None,
    version: int | None = None,
) -> JobRecord:
    """
    Raises:
        InvalidInputError: empty, over 200 characters, or not printable on one line.
        ConflictError: `version` is given and the job has changed since.
    """
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise InvalidInputError(f"a name has 1 to 200 printable characters on one line, got {len(name)}")
    row = job_row(session, job_id, tenant=tenant, lock=True)
    if version is not None and version != row.version:
        raise ConflictError(f"job {job_id} has version {row.version}, not {version}; read it again first")
    row.name = name
    row.version += 1
    session.flush()
    return job_record(row)


def set_labels(
    session: Session, job_id: str, labels: Sequence[str], *, tenant: str | None = None
) -> JobRecord:
    """Replaces the labels; each is kept once, in the order given.

    Raises:
        InvalidInputError: too many, or one with characters that labels do not have.
    """
    wanted = list(dict.fromkeys(labels))
    if len(wanted) > MAX_LABELS:
        raise InvalidInputError(f"{len(wanted)} labels are more than {MAX_LABELS}; leave some out")
    for label in wanted:
        if not _LABEL.fullmatch(label):
            raise InvalidInputError(
                f"label {label[:40]!r} is not 1 to 40 letters, digits or _ . : / -, beginning with a letter "
                "or digit; write it differently"
            )
    row = job_row(session, job_id, tenant=tenant, lock=True)
    row.labels = f" {' '.join(wanted)} " if wanted else " "
    row.version += 1
    session.flush()
    return job_record(row)


def delete(session: Session, job_id: str, *, tenant: str | None = None) -> Sequence[str]:
    """Removes an ended job with its trials and events; returns the artefact folders the caller has to remove.

    Architectures and measurements stay: they serve other jobs.

    Raises:
        ConflictError: the job has not ended, or an export of it is being written.
    """
    row = job_row(session, job_id, tenant=tenant, lock=True)
    if row.state not in FINAL_JOB_STATES:
        raise ConflictError(f"job {job_id} is {row.state}; cancel it before deleting it")
    artefacts = session.scalars(select(Artefact).where(Artefact.job_id == job_id)).all()
    if any(artefact.state == "running" for artefact in artefacts):
        raise ConflictError(f"job {job_id} is being exported; delete it when the export has ended")
    session.delete(row)
    session.flush()
    return [artefact.path for artefact in artefacts if artefact.path is not None]


def update_context(session: Session, job_id: str, fence: int, patch: Mapping[str, Any]) -> JobRecord:
    """Sets the given keys of the context and leaves the others."""
    row = fenced_job(session, job_id, fence, "update_context")
    row.context = {**row.context, **finite_json("context", patch)}
    row.version += 1
    session.flush()
    return job_record(row)


def add_counters(session: Session, job_id: str, fence: int, **deltas: int) -> JobRecord:
    """Adds to the job's counters; a new one starts at 0."""
    row = fenced_job(session, job_id, fence, "add_counters")
    row.counters = {
        **row.counters,
        **{key: row.counters.get(key, 0) + delta for key, delta in deltas.items()},
    }
    row.version += 1
    session.flush()
    return job_record(row)


def set_counters(session: Session, job_id: str, fence: int, **sums: int) -> JobRecord:
    """Sets the named counters and leaves the others: `add_counters` for a caller that may repeat itself."""
    row = fenced_job(session, job_id, fence, "set_counters")
    if any(row.counters.get(key) != value for key, value in sums.items()):
        row.counters = {**row.counters, **sums}
        row.version += 1
    session.flush()
    return job_record(row)


def set_indicators(
    session: Session, job_id: str, fence: int, indicators: Mapping[str, Any], now: float | None = None
) -> JobRecord:
    """Replaces the indicators; says so in an event when they differ."""
    row = fenced_job(session, job_id, fence, "set_indicators")
    clean = finite_json("indicators", indicators)
    if clean != row.indicators:
        row.indicators = clean
        row.version += 1
        events.add(session, row, "indicators.changed", None, {}, now)
    session.flush()
    return job_record(row)


def set_stage(
    session: Session,
    job_id: str,
    fence: int,
    stage: Literal["search", "final"],
    now: float | None = None,
) -> JobRecord:
    """Which numbers the front is made of: the search's, or the finalists' own where there are any."""
    row = fenced_job(session, job_id, fence, "set_stage")
    if stage != row.stage:
        row.stage = stage
        row.version += 1
        front.restate_job(session, row, now)
    session.flush()
    return job_record(row)
