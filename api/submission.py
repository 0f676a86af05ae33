"""Jobs from outside: the same checks as on the command line, and no path of this machine from a client.

A data set is a built-in name, one of the server's folder, or `data_<id>`, which the tenant uploaded. A job
keeps the name; where the file is stands in its context, which no answer shows.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evaluators.training import TaskData, tasks
from search.given import names_files
from search.job import TEACHERS, TaskSpec, parse_job
from search.plan import JobPlan, job_context, plan_job
from search.records import JobRecord
from search.running import insert_job
from search.storage import datasets, jobs
from search.workers.store import store_of
from space.errors import InvalidInputError, NotFoundError, nearest

from .deps import Services
from .problems import RequestError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Located:
    """The file behind a data set's name."""

    name: str
    file: Path
    stored: str
    """`JobPlan.dataset_path`."""


def plan_submission(data: object, held: Services, tenant: str) -> JobPlan:
    """
    Raises:
        InvalidInputError: it cannot work, asks for more than the server allows, or names a path.
    """
    spec = parse_job(data)
    if files := names_files(spec):
        raise InvalidInputError(
            "enqueue, references.own, finalists.teacher: files of the server cannot be named over HTTP "
            f"(got {len(files)})",
            hint="run `paretoformer search` on the machine that has the files; over HTTP a teacher is "
            + " or ".join(TEACHERS),
        )
    if spec.budget.trials > held.settings.trial_quota:
        raise InvalidInputError(
            f"budget.trials={spec.budget.trials} is more than this server's {held.settings.trial_quota}; "
            "ask for fewer, or for a higher PARETOFORMER_TRIAL_QUOTA"
        )
    located = locate(spec.task, held, tenant)
    with hidden(located):
        data_of_task = held.prepared.task(spec.task, located.file if located else None)
        plan = plan_job(spec, data=data_of_task)
    return replace(plan, dataset_path=located.stored if located else None)


def store_plan(
    session: Session, plan: JobPlan, context: Mapping[str, Any], held: Services, tenant: str
) -> JobRecord:
    """Queues it; `context` as in `insert_job`.

    Raises:
        RequestError: 429: the tenant has as many jobs as it may.
    """
    if (active := jobs.count_active(session, tenant)) >= held.settings.job_quota:
        raise RequestError(
            429,
            "quota_exceeded",
            f"{active:,} jobs have not ended, {held.settings.job_quota:,} are allowed; cancel some or wait",
            headers={"Retry-After": "60"},
        )
    return insert_job(session, plan, context, tenant=tenant)


def submit(data: object, held: Services, tenant: str) -> JobRecord:
    """Plans and queues a job."""
    plan = plan_submission(data, held, tenant)
    context = job_context(plan)
    with held.database.write() as session:
        return store_plan(session, plan, context, held, tenant)


def task_data(task: TaskSpec, held: Services, tenant: str) -> TaskData:
    """The data of a task from outside."""
    located = locate(task, held, tenant)
    with hidden(located):
        return held.prepared.task(task, located.file if located else None)


def locate(task: TaskSpec, held: Services, tenant: str) -> Located | None:
    """The file behind the data set's name; None for a built-in one.

    Raises:
        InvalidInputError: no data set that this tenant may name.
    """
    name, folder = task.dataset, held.settings.datasets
    if name in tasks():
        return None
    if name.startswith(datasets.PREFIX):
        with held.database.read() as session:
            try:
                found = datasets.get(session, name, tenant=tenant)
            except NotFoundError:
                raise _unknown(name, held) from None
        return Located(name, store_of(held.database).fetch_file(found.path).resolve(), found.path)
    if folder is None or name not in dataset_names(folder):
        raise _unknown(name, held)
    file = (folder / name).resolve()
    return Located(name, file, str(file))


def _unknown(name: str, held: Services) -> InvalidInputError:
    offered = dataset_names(held.settings.datasets)
    return InvalidInputError(
        f"task.dataset: '{name[:100]}' is no data set of this server; {nearest(name, [*tasks(), *offered])}",
        hint="over HTTP a data set is a built-in name, one that was uploaded (POST /v1/datasets, then "
        "data_<id>), or a name in the server's PARETOFORMER_DATASETS folder; paths work with "
        "`paretoformer search` on the machine that has them",
    )


@contextmanager
def hidden(located: Located | None) -> Iterator[None]:
    """Refusals name the data set, not where the server keeps it."""
    try:
        yield
    except InvalidInputError as error:
        if located is None or str(located.file) not in f"{error.message}{error.hint}":
            raise
        hint = None if error.hint is None else error.hint.replace(str(located.file), located.name)
        raise type(error)(error.message.replace(str(located.file), located.name), hint=hint) from None


def dataset_names(folder: Path | None) -> list[str]:
    """Names in the data set folder that a job may use; links out of it are none."""
    if folder is None or not folder.is_dir():
        return []
    inside = folder.resolve()
    return sorted(
        path.name
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name)
        and not path.name.startswith(datasets.PREFIX)
        and path.resolve().is_relative_to(inside)
    )
