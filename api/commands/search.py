"""`paretoformer search`: runs a job here, shows it while it runs, and ends with its front."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import DEFAULT_DATABASE, Db, Json, Overrides, Ray, WorkerMemory, Workers, open_database
from .output import emit_json, err, out

if TYPE_CHECKING:
    from search.running import Result
    from search.storage.database import Database

    from .progress import SearchProgress


def search(
    job: Annotated[Path | None, typer.Argument(metavar="JOB.yaml", help="The job file.")] = None,
    overrides: Overrides = None,
    db: Db = DEFAULT_DATABASE,
    ray: Ray = "local",
    workers: Workers = None,
    worker_memory: WorkerMemory = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.html and front.json.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Writes the offline report here.")] = None,
    as_json: Json = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="JOB", help="Finishes this interrupted job.")
    ] = None,
    continued: Annotated[
        str | None,
        typer.Option("--continue", metavar="JOB", help="A new job that begins with this one's trials."),
    ] = None,
) -> None:
    """Runs a job on this machine and ends with its Pareto front."""
    from space.errors import InvalidInputError

    from ..interruption import stop_on_terminate
    from .progress import SearchProgress

    if sum(one is not None for one in (job, resume, continued)) != 1:
        raise InvalidInputError(
            "give a job file, --resume JOB for an interrupted one, or --continue JOB for more of one; "
            "`paretoformer init` writes an example"
        )
    if resume is not None and overrides:
        raise InvalidInputError("--set changes a new job; a resumed one keeps its settings")
    _check_outputs(folder, report)
    stop_on_terminate()
    console = err()
    with SearchProgress(console) as progress:
        try:
            if job is not None:
                database, found = _start(progress, job, overrides or [], db, ray, workers, worker_memory)
            elif continued is not None:
                database, found = _continue(
                    progress, continued, overrides or [], db, ray, workers, worker_memory
                )
            else:
                database, found = _resume(progress, resume or "", db, ray, workers, worker_memory)
        except KeyboardInterrupt:
            found_id = progress.job_id
            interrupted = True
        else:
            interrupted = False
    if interrupted:
        _say_interrupted(found_id, db)
        raise typer.Exit(130)
    _finish(database, found, folder, report, as_json, db)


def _start(
    progress: "SearchProgress",
    path: Path,
    overrides: list[str],
    db: str,
    ray: str,
    workers: int | None,
    memory: int | None,
) -> "tuple[Database, Result]":
    progress.say(f"reading {path}")
    from search.job import load_job

    spec = load_job(path, overrides)
    progress.say(f"preparing the data '{spec.task.dataset}' and the search space")
    from search.plan import plan_job
    from search.running import run

    plan = plan_job(spec)
    database = open_database(db)
    size = plan.space.size()
    progress.note(
        f"data {plan.data.name} ({plan.data.kind}); space {plan.space.name}, "
        f"{size if size < 10**6 else f'{float(size):.1e}'} architectures; "
        f"{len(plan.references)} references; {spec.budget.trials} trials"
    )
    for warning in plan.warnings:
        progress.note(f"warning: {warning}")
    progress.say("starting the workers" if ray != "none" else "measuring the first blocks")
    return database, run(
        plan, database=database, ray=ray, workers=workers, memory=memory, on_tick=progress.tick
    )


def _continue(
    progress: "SearchProgress",
    text: str,
    overrides: list[str],
    db: str,
    ray: str,
    workers: int | None,
    memory: int | None,
) -> "tuple[Database, Result]":
    progress.say(f"looking up job {text}")
    from search.continuing import continued_plan
    from search.running import run
    from search.workers.store import store_of

    from .options import find_job

    database = open_database(db, must_exist=True)
    with database.read() as session:
        job = find_job(session, text)
    plan = continued_plan(job, overrides, store_of(database))
    progress.note(f"begins with the results of job {job.id[:8]}")
    progress.say("starting the workers" if ray != "none" else "measuring the first blocks")
    return database, run(
        plan, database=database, ray=ray, workers=workers, memory=memory, on_tick=progress.tick
    )


def _resume(
    progress: "SearchProgress", text: str, db: str, ray: str, workers: int | None, memory: int | None
) -> "tuple[Database, Result]":
    progress.say(f"looking up job {text}")
    from search.running import resume as go_on

    from .options import find_job

    database = open_database(db, must_exist=True)
    with database.read() as session:
        job = find_job(session, text)
    progress.job_id = job.id
    progress.say("reading the data again and starting the workers")
    return database, go_on(
        job.id, database=database, ray=ray, workers=workers, memory=memory, on_tick=progress.tick
    )


def _check_outputs(folder: Path | None, report: Path | None) -> None:
    from space.errors import InvalidInputError

    if folder is not None and folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"--out '{folder}' is a file; name a folder")
    if report is not None and (report.is_dir() or not report.absolute().parent.is_dir()):
        raise InvalidInputError(f"--report '{report}' is not a file in an existing folder")


def _say_interrupted(job_id: str | None, db: str) -> None:
    console = err()
    if job_id is None:
        console.print("interrupted before the first trial")
        return
    option = "" if db == DEFAULT_DATABASE else f" --db {shown_address(db)}"
    console.print(
        f"interrupted; go on with: paretoformer search --resume {job_id[:8]}{option}", soft_wrap=True
    )


def shown_address(db: str) -> str:
    """The address of a database for a command line, without password."""
    from search.blotting import blotted

    return blotted(db)


def _finish(
    database: "Database", found: "Result", folder: Path | None, report: Path | None, as_json: bool, db: str
) -> None:
    from ..answers import front_answer
    from .report import write_report
    from .texts import result_text

    written = [report] if report is not None else []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        written.append(folder / "report.html")
        answer = front_answer(found.job, found.front, found.references)
        (folder / "front.json").write_text(json.dumps(answer, indent=2, allow_nan=False) + "\n")
    for path in written:
        write_report(database, found.job, path)
    if as_json:
        emit_json(front_answer(found.job, found.front, found.references))
    else:
        out().print(
            result_text(found, written, "" if db == DEFAULT_DATABASE else f" --db {shown_address(db)}")
        )
    if found.job.state == "failed":
        raise typer.Exit(1)
