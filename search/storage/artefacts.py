"""Artefacts: exports that were asked for, who writes them, and where they lie below the data folder.

    queued -> running -> ready | failed        running -> running: the claim of a dead writer ran out
    queued | running -> cancelled              what was written is dropped by its writer

An artefact is registered as `ready` only after its folder is complete and in its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from space.errors import ConflictError, InvalidInputError, NotFoundError

from ..records import ArtefactRecord, ArtefactState
from . import events
from .fences import clock, job_row
from .finite import finite_json, stored_text
from .models import Artefact, Job, Trial
from .rows import artefact_record, utc

ENDED = ("ready", "failed", "cancelled")
_NEXT_STATES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "ready", "failed", "cancelled"}),
    "running": frozenset({"queued", "ready", "failed", "cancelled"}),
}


def create(
    session: Session,
    *,
    job_id: str,
    trial: int,
    request: Mapping[str, Any],
    now: float | None = None,
    artefact_id: str | None = None,
) -> ArtefactRecord:
    """Queues an export of a trial. With `artefact_id` it can be repeated.

    Raises:
        NotFoundError: there is no such job or trial.
    """
    job = job_row(session, job_id, lock=True)
    if session.scalar(select(Trial.id).where(Trial.job_id == job_id, Trial.number == trial)) is None:
        raise NotFoundError(f"trial {trial} of job {job_id[:64]} does not exist")
    if artefact_id is not None:
        stored = session.scalar(select(Artefact).where(Artefact.id == artefact_id))
        if stored is not None:
            return artefact_record(stored)
    row = Artefact(
        id=artefact_id or uuid4().hex,
        job_id=job_id,
        trial=trial,
        kind="export",
        state="queued",
        request=finite_json("request", request),
        created_at=utc(clock(session, now)),
    )
    session.add(row)
    _announce(session, job, row, now)
    session.flush()
    return artefact_record(row)


def get(session: Session, artefact_id: str, *, tenant: str | None = None) -> ArtefactRecord:
    """
    Raises:
        NotFoundError: there is no such artefact, or it is another tenant's.
    """
    query = select(Artefact).where(Artefact.id == artefact_id)
    if tenant is not None:
        query = query.join(Job, Job.id == Artefact.job_id).where(Job.tenant == tenant)
    row = session.scalar(query)
    if row is None:
        raise NotFoundError(f"export {artefact_id[:64]} does not exist")
    return artefact_record(row)


def list_for_job(session: Session, job_id: str, trial: int | None = None) -> Sequence[ArtefactRecord]:
    """In order of creation; of one trial if named."""
    query = select(Artefact).where(Artefact.job_id == job_id).order_by(Artefact.position)
    if trial is not None:
        query = query.where(Artefact.trial == trial)
    return [artefact_record(row) for row in session.scalars(query)]


def states(session: Session, ids: Iterable[str]) -> dict[str, str]:
    """State of the artefacts among these ids that have a row."""
    wanted = sorted(set(ids))
    found: dict[str, str] = {}
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        found |= dict(
            session.execute(select(Artefact.id, Artefact.state).where(Artefact.id.in_(chunk))).all()
        )
    return found


def count_waiting(session: Session, tenant: str) -> int:
    """Number of a tenant's exports that are not written yet."""
    query = (
        select(func.count())
        .select_from(Artefact)
        .join(Job, Job.id == Artefact.job_id)
        .where(Job.tenant == tenant, Artefact.state.in_(("queued", "running")))
    )
    return int(session.scalar(query) or 0)


def used_bytes(session: Session, tenant: str) -> int:
    """Size of everything the tenant has exported and not deleted."""
    query = select(func.sum(Artefact.size_bytes)).join(Job, Job.id == Artefact.job_id)
    return int(session.scalar(query.where(Job.tenant == tenant, Artefact.state == "ready")) or 0)


def delete(session: Session, artefact_id: str, *, tenant: str) -> ArtefactRecord:
    """Forgets an ended export; the caller then removes its folder.

    Raises:
        NotFoundError: there is no such artefact, or it is another tenant's.
        ConflictError: it is not written yet.
    """
    found = get(session, artefact_id, tenant=tenant)
    if found.state not in ENDED:
        raise ConflictError(f"export {artefact_id} is {found.state}; cancel it before deleting it")
    session.delete(session.scalars(select(Artefact).where(Artefact.id == artefact_id)).one())
    session.flush()
    return found


def claim_queued(
    session: Session, owner: str, lease_s: float = 600.0, now: float | None = None
) -> ArtefactRecord | None:
    """Takes the oldest export nobody writes, also one whose writer died; None when there is none."""
    moment = clock(session, now)
    abandoned = (Artefact.state == "running") & (Artefact.claim_until <= moment)
    waiting = select(Artefact).where(or_(Artefact.state == "queued", abandoned)).order_by(Artefact.position)
    while (candidate := session.scalar(waiting.limit(1))) is not None:
        job = job_row(
            session, candidate.job_id, lock=True
        )  # always the job first: no deadlock with `jobs.delete`
        row = session.scalar(
            waiting.where(Artefact.id == candidate.id).execution_options(populate_existing=True)
        )
        if row is not None:
            row.claim_owner, row.claim_until = owner, moment + lease_s
            row.state, row.message = "running", None
            _announce(session, job, row, now)
            session.flush()
            return artefact_record(row)
    return None


def set_state(
    session: Session,
    artefact_id: str,
    state: ArtefactState,
    *,
    path: str | None = None,
    size_bytes: int | None = None,
    sha256: str | None = None,
    message: str | None = None,
    report: Mapping[str, Any] | None = None,
    owner: str | None = None,
    now: float | None = None,
) -> ArtefactRecord:
    """Moves an export; `ready` needs the path of its folder below the data folder.

    Raises:
        ConflictError: it has ended, or `owner` is given and another holds the claim.
        InvalidInputError: `ready` without a path, or a path that is not below the data folder.
    """
    job = job_row(session, get(session, artefact_id).job_id, lock=True)
    query = select(Artefact).where(Artefact.id == artefact_id).execution_options(populate_existing=True)
    row = session.scalars(query).one()
    if state == row.state:
        return artefact_record(row)
    if state not in _NEXT_STATES.get(row.state, frozenset()):
        raise ConflictError(
            f"export {artefact_id} is {row.state} and cannot become {state}; ask for a new one"
        )
    if owner is not None and row.claim_owner not in (None, owner):
        raise ConflictError(f"export {artefact_id} was taken over by {row.claim_owner}; drop the work")
    if state == "ready" and path is None:
        raise InvalidInputError(f"export {artefact_id} cannot be ready without the path of its folder")
    row.state, row.message = state, stored_text(message)
    row.path = None if path is None else _below(path)
    row.size_bytes, row.sha256 = size_bytes, sha256
    row.report = None if report is None else finite_json("report", report)
    if state in ENDED:
        row.ended_at = utc(clock(session, now))
    if state != "running":
        row.claim_owner, row.claim_until = None, None
    _announce(session, job, row, now)
    session.flush()
    return artefact_record(row)


def note(
    session: Session,
    artefact_id: str,
    owner: str,
    *,
    lease_s: float,
    step: str | None = None,
    now: float | None = None,
) -> None:
    """Renews the claim of an export that is being written; `step` says what its writer does now.

    Raises:
        ConflictError: it has ended, or another writes it.
    """
    job = job_row(session, get(session, artefact_id).job_id, lock=True)
    query = select(Artefact).where(Artefact.id == artefact_id).execution_options(populate_existing=True)
    row = session.scalars(query).one()
    if row.state != "running" or row.claim_owner != owner:
        raise ConflictError(f"export {artefact_id} is {row.state} by {row.claim_owner}; drop the work")
    row.claim_until = clock(session, now) + lease_s
    if step is not None:
        row.message = stored_text(step)
        _announce(session, job, row, now)


def cancel(session: Session, artefact_id: str, *, tenant: str, now: float | None = None) -> ArtefactRecord:
    """Ends an export that is not written yet; its writer drops what it has.

    Raises:
        NotFoundError: there is no such artefact, or it is another tenant's.
        ConflictError: it has ended.
    """
    get(session, artefact_id, tenant=tenant)
    return set_state(session, artefact_id, "cancelled", message="cancelled by its user", now=now)


def _below(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path or not path.isprintable():
        raise InvalidInputError(f"path '{path[:100]}' is not a plain path below the data folder")
    return str(parts)


def _announce(session: Session, job: Job, row: Artefact, now: float | None) -> None:
    data = {"export": row.id, "state": row.state, **({"step": row.message} if row.state == "running" else {})}
    events.add(session, job, "export.state", row.trial, data, now)
