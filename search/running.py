"""From a job description to its result in this process: create the job, or take one up again, and run it."""

import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evaluators.latency import device_facts, device_key
from space.errors import ConflictError, UnavailableError

from .clock import SharedClock
from .coordinator import LEASE_S, Coordinator
from .crew import NO_RAY, make_bench
from .job import JobSpec
from .own_teacher import keep_teacher
from .plan import JobPlan, job_context, plan_job
from .records import DATASET_PATH, FINAL_JOB_STATES, OWN_TEACHER, JobReason, JobRecord, TrialRecord
from .storage import datasets, devices, jobs, trials
from .storage.database import Database, DiskFullError
from .warm_start import taken_over
from .workers.inline import InlineExecutor
from .workers.ray import RayExecutor
from .workers.store import Store, store_of
from .workers.work import Executor

DEFAULT_DATABASE = "sqlite:///paretoformer.db"
PREPARED = "prepared"
"""Folder below the data folder for data that take long to prepare."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished (or paused) job with its front and references."""

    job: JobRecord
    front: tuple[TrialRecord, ...]
    references: tuple[TrialRecord, ...]


def owner_name() -> str:
    """Who holds a lease: host, process id and the process's start time, so that a stale one can be told."""
    return f"{platform.node()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Whether the coordinator behind a lease may still run; True for other hosts, which cannot be looked
    into."""
    host, pid, started = [*owner.rsplit(":", 2), "", ""][:3]
    if host != platform.node() or not pid.isdigit():
        return True
    return _start_time(int(pid)) == started


def _start_time(pid: int) -> str:
    """Clock ticks since boot at which a process began; empty when it does not exist."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def make_executor(
    plan: JobPlan, database: Database, *, ray: str, workers: int | None, memory: int | None = None
) -> Executor:
    """Workers for one job: Ray actors with `memory` bytes each, or this process when `ray` is "none"."""
    bench = make_bench(plan, database)
    if ray == NO_RAY:
        return InlineExecutor(bench)
    slots = workers or (os.cpu_count() or 1 if ray == "local" else None)
    return RayExecutor(
        bench,
        address=ray,
        num_slots=slots,
        memory=memory,
        target=plan.target,
        device=device_key(plan.target),
    )


def create_job(
    database: Database, plan: JobPlan, *, tenant: str = "local", lease: tuple[str, float] | None = None
) -> JobRecord:
    """Stores a planned job, queued, or leased to its creator (owner, seconds)."""
    if plan.teacher:
        keep_teacher(plan.teacher, store_of(database))
    context, now = job_context(plan), database.now()
    with database.write() as session:
        held = (lease[0], now + lease[1]) if lease else None
        return insert_job(session, plan, context, tenant=tenant, lease=held, now=now)


def insert_job(
    session: Session,
    plan: JobPlan,
    context: Mapping[str, Any],
    *,
    tenant: str,
    lease: tuple[str, float] | None = None,
    now: float | None = None,
) -> JobRecord:
    """See `create_job`, for a transaction that is already open; `lease`: owner, until when (Unix seconds).
    `context`: `job_context` of the plan, worked out before the transaction: counting a large space takes
    seconds, in which nobody else could write.

    An uploaded data set is kept as long as the job.
    """
    spec = plan.spec.model_copy(update={"objectives": plan.objectives})
    devices.put(session, device_key(plan.target), device_facts(), now)
    job = jobs.create(
        session,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        objectives=plan.objectives,
        context={**context}
        | taken_over(session, plan, tenant)
        | ({DATASET_PATH: plan.dataset_path} if plan.dataset_path else {}),
        tenant=tenant,
        now=now,
        lease=lease,
    )
    if plan.dataset_path and spec.task.dataset.startswith(datasets.PREFIX):
        datasets.attach(session, spec.task.dataset, job.id, tenant=tenant)
    return job


def stored_plan(job: JobRecord, store: Store) -> JobPlan:
    """The plan of a stored job, from what was fixed at its creation; its data set is fetched, if this machine
    lacks it.

    Raises:
        ConflictError: the data is no longer what it was, or not there.
    """
    path = job.context.get(DATASET_PATH)
    file = None if path is None else store.fetch_file(path)
    if file is not None and not file.exists():  # its place is nobody's business: this is answered over HTTP
        raise ConflictError(
            f"the file of data set '{job.spec['task']['dataset']}' is no longer there",
            hint="send the data again, or submit a new job",
        )
    plan = plan_job(
        JobSpec.model_validate(job.spec),
        enqueued=job.context["enqueued"],
        own=job.context.get("own_references") or (),
        teacher=job.context.get(OWN_TEACHER),
        dataset=file,
        cache=store.folder / PREPARED,
    )
    if plan.data.digest != job.context["data_digest"]:
        raise ConflictError(
            f"data set '{plan.data.name}' has changed since job {job.id} was created "
            f"({plan.data.digest[:12]} instead of {job.context['data_digest'][:12]})",
            hint="restore the data, or submit a new job",
        )
    return replace(plan, dataset_path=path)


def run(
    spec: JobSpec | JobPlan,
    *,
    database: Database | None = None,
    ray: str = "local",
    workers: int | None = None,
    memory: int | None = None,
    on_tick: Callable[[Coordinator], None] | None = None,
) -> Result:
    """Runs a new job to its end and returns its front.

    Raises:
        InvalidInputError: the job cannot work; nothing was stored.
        UnavailableError: Ray cannot be reached.
    """
    plan = spec if isinstance(spec, JobPlan) else plan_job(spec)
    database = database or Database.open(DEFAULT_DATABASE)
    with make_executor(plan, database, ray=ray, workers=workers, memory=memory) as executor:
        job = create_job(database, plan, lease=(owner_name(), LEASE_S))
        return _work(database, job, plan, executor, on_tick)


def resume(
    job_id: str,
    *,
    database: Database,
    ray: str = "local",
    workers: int | None = None,
    memory: int | None = None,
    on_tick: Callable[[Coordinator], None] | None = None,
) -> Result:
    """Takes up an interrupted job where its rows end.

    Raises:
        ConflictError: it is finished, or another coordinator works on it.
    """
    clock = SharedClock(database.now)
    with database.read() as session:
        job = jobs.get(session, job_id)
    if job.state in FINAL_JOB_STATES:
        raise ConflictError(f"job {job.id} is {job.state}; only an interrupted job can be resumed")
    plan = stored_plan(job, store_of(database))
    here, there = device_key(plan.target), job.context["device_key"]
    if here != there:
        raise ConflictError(
            f"job {job.id} measures latency on '{there}', this is '{here}'",
            hint="resume it there, or start a new job here",
        )
    with make_executor(plan, database, ray=ray, workers=workers, memory=memory) as executor:
        dead = job.lease_owner is not None and not is_alive(job.lease_owner)
        with database.write() as session:
            job = jobs.take(session, job.id, owner_name(), LEASE_S, clock.time(), force=dead)
        return _work(database, job, plan, executor, on_tick)


def _work(
    database: Database,
    job: JobRecord,
    plan: JobPlan,
    executor: Executor,
    on_tick: Callable[[Coordinator], None] | None,
) -> Result:
    """A job whose workers or database go away is left so that `resume` takes it up."""
    try:
        beside = not executor.is_in_process
        Coordinator(database, job, plan, executor, on_tick=on_tick, beside=beside).run()
    except DiskFullError:
        _leave(database, job, "disk_full")
        raise
    except UnavailableError:
        _leave(database, job, "executor_unavailable")
        raise
    return result(database, job.id)


def _leave(database: Database, job: JobRecord, reason: JobReason) -> None:
    with suppress(ConflictError, UnavailableError), database.write() as session:
        jobs.release(session, job.id, job.fence, state="paused", reason=reason, now=database.now())


def result(database: Database, job_id: str) -> Result:
    """A job with its front and references as they stand."""
    with database.read() as session:
        job = jobs.get(session, job_id)
        front = trials.front(session, job.id, "search")
        references = [row for row in trials.all_trials(session, job.id) if row.number < 0]
    return Result(job, tuple(front), tuple(sorted(references, key=lambda row: -row.number)))
