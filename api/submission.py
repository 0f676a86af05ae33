"""Jobs from outside: the same checks as on the command line, and no path of this machine from a client."""

import re
from pathlib import Path

from evaluators.training import tasks
from search.job import JobSpec, parse_job
from search.plan import JobPlan, plan_job
from space.errors import InvalidInputError, nearest

from .settings import Settings

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def plan_submission(data: object, settings: Settings) -> JobPlan:
    """A sent job, resolved.

    Raises:
        InvalidInputError: it cannot work, or names a path.
    """
    spec = parse_job(data)
    if spec.enqueue:
        raise InvalidInputError(
            f"enqueue: files of the server cannot be named over HTTP (got {len(spec.enqueue)})",
            hint="run `paretoformer search` on the machine that has the files",
        )
    return plan_job(with_dataset(spec, settings.datasets))


def with_dataset(spec: JobSpec, folder: Path | None) -> JobSpec:
    """The job with the path behind its data set's name.

    Raises:
        InvalidInputError: neither a task by name nor in the folder.
    """
    name = spec.task.dataset
    known = tasks()
    if name in known:
        return spec
    offered = dataset_names(folder)
    if name not in offered or folder is None:
        raise InvalidInputError(
            f"task.dataset: '{name[:100]}' is no data set of this server; "
            f"{nearest(name, [*known, *offered])}",
            hint="over HTTP a data set is a built-in name or a name in the server's PARETOFORMER_DATASETS "
            "folder; paths work with `paretoformer search` on the machine that has them",
        )
    path = (folder / name).resolve()
    return spec.model_copy(update={"task": spec.task.model_copy(update={"dataset": str(path)})})


def dataset_names(folder: Path | None) -> list[str]:
    """Names in the data set folder that a job may use; links out of it are none."""
    if folder is None or not folder.is_dir():
        return []
    inside = folder.resolve()
    return sorted(
        path.name
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and path.resolve().is_relative_to(inside)
    )
