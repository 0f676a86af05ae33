"""From a job description to its result in this process: create the job, or take one up again, and run it."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from evaluators.latency import device_facts, device_key
from space.errors import ConflictError

from .clock import Clock
from .coordinator import LEASE_S, Coordinator
from .job import JobSpec
from .plan import JobPlan, job_context, plan_job
from .records import FINAL_JOB_STATES, JobRecord, TrialRecord
from .storage import devices, jobs, trials
from .storage.database import Database
from .workers.inline import InlineExecutor
from .workers.ray import RayExecutor
from .workers.stages import Bench
from .workers.work import Executor

DEFAULT_DATABASE = "sqlite:///paretoformer.db"
NO_RAY = "none"
"""Value of `ray` that runs everything in the calling process."""


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


def make_executor(plan: JobPlan, database: Database, *, ray: str, workers: int | None) -> Executor:
    """Workers for a job: Ray actors, or this process when `ray` is "none"."""
    data = database.data_dir.resolve()
    for folder in ("training", "latency"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    bench = Bench(plan.data, plan.target, data / "training", data / "latency")
    if ray == NO_RAY:
        return InlineExecutor(bench)
    return RayExecutor(bench, address=ray, num_slots=workers or os.cpu_count() or 1)


def create_job(
    database: Database, plan: JobPlan, *, tenant: str = "local", lease: tuple[str, float] | None = None
) -> JobRecord:
    """Stores a planned job, queued, or leased to its creator (owner, seconds)."""
    now = Clock().time()
    with database.write() as session:
        held = (lease[0], now + lease[1]) if lease else None
        return insert_job(session, plan, tenant=tenant, lease=held, now=now)


def insert_job(
    session: Session,
    plan: JobPlan,
    *,
    tenant: str,
    lease: tuple[str, float] | None = None,
    now: float | None = None,
) -> JobRecord:
    """See `create_job`, for a transaction that is already open; `lease`: owner, until when (Unix seconds)."""
    spec = plan.spec.model_copy(update={"objectives": plan.objectives})
    devices.put(session, device_key(plan.target), device_facts(), now)
    return jobs.create(
        session,
        name=spec.name,
        spec=spec.model_dump(mode="json"),
        objectives=plan.objectives,
        context=job_context(plan),
        tenant=tenant,
        now=now,
        lease=lease,
    )


def stored_plan(job: JobRecord) -> JobPlan:
    """The plan of a stored job, from what was fixed at its creation.

    Raises:
        ConflictError: the data is no longer what it was.
    """
    plan = plan_job(JobSpec.model_validate(job.spec), enqueued=job.context["enqueued"])
    if plan.data.digest != job.context["data_digest"]:
        raise ConflictError(
            f"data set '{plan.data.name}' has changed since job {job.id} was created "
            f"({plan.data.digest[:12]} instead of {job.context['data_digest'][:12]})",
            hint="restore the data, or submit a new job",
        )
    return plan


def run(
    spec: JobSpec | JobPlan,
    *,
    database: Database | None = None,
    ray: str = "local",
    workers: int | None = None,
    on_tick: Callable[[Coordinator], None] | None = None,
) -> Result:
    """Runs a new job to its end and returns its front.

    Raises:
        InvalidInputError: the job cannot work; nothing was stored.
        UnavailableError: Ray cannot be reached.
    """
    plan = spec if isinstance(spec, JobPlan) else plan_job(spec)
    database = database or Database.open(DEFAULT_DATABASE)
    with make_executor(plan, database, ray=ray, workers=workers) as executor:
        job = create_job(database, plan, lease=(owner_name(), LEASE_S))
        return _work(database, job, plan, executor, on_tick)


def resume(
    job_id: str,
    *,
    database: Database,
    ray: str = "local",
    workers: int | None = None,
    on_tick: Callable[[Coordinator], None] | None = None,
) -> Result:
    """Takes up an interrupted job where its rows end.

    Raises:
        ConflictError: it is finished, or another coordinator works on it.
    """
    clock = Clock()
    with database.read() as session:
        job = jobs.get(session, job_id)
    if job.state in FINAL_JOB_STATES:
        raise ConflictError(f"job {job.id} is {job.state}; only an interrupted job can be resumed")
    plan = stored_plan(job)
    here, there = device_key(plan.target), job.context["device_key"]
    if here != there:
        raise ConflictError(
            f"job {job.id} measures latency on '{there}', this is '{here}'",
            hint="resume it there, or start a new job here",
        )
    with make_executor(plan, database, ray=ray, workers=workers) as executor:
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
    job = Coordinator(database, job, plan, executor, on_tick=on_tick).run()
    return result(database, job.id)


def result(database: Database, job_id: str) -> Result:
    """A job with its front and references as they stand."""
    with database.read() as session:
        job = jobs.get(session, job_id)
        front = trials.front(session, job.id, "search")
        references = [row for row in trials.all_trials(session, job.id) if row.number < 0]
    return Result(job, tuple(front), tuple(sorted(references, key=lambda row: -row.number)))
