"""`paretoformer retrain`: finalists of one's own choice."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_DATABASE, Db, JobId, Json, Ray, WorkerMemory, Workers, find_job, open_database
from .output import emit_json, err, out


def retrain(
    job: JobId,
    picks: Annotated[str, typer.Option("--pick", help="Trial numbers with commas, or knee, fastest, ...")],
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, max=32, help="Trainings of each; the job's by default.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=4, help="Steps of each training; the job's by default.")
    ] = None,
    db: Db = DEFAULT_DATABASE,
    ray: Ray = "local",
    workers: Workers = None,
    worker_memory: WorkerMemory = None,
    report: Annotated[Path | None, typer.Option("--report", help="Writes the offline report here.")] = None,
    as_json: Json = False,
) -> None:
    """Trains picked trials of an ended job again, with several seeds at the full budget, as a new job."""
    from search.exporting import chosen_trial
    from search.retraining import retraining_plan
    from search.running import run
    from search.workers.store import store_of

    from ..answers import front_answer
    from ..interruption import stop_on_terminate
    from .progress import SearchProgress
    from .report import write_report
    from .texts import result_text

    database = open_database(db, must_exist=True)
    with database.read() as session:
        record = find_job(session, job)
        trials = [chosen_trial(session, record, which) for which in picks.split(",") if which.strip()]
    distinct = list({trial.number: trial for trial in trials}.values())
    plan = retraining_plan(record, distinct, store_of(database), seeds=seeds, steps=steps)
    stop_on_terminate()
    with SearchProgress(err()) as progress:
        found = run(
            plan,
            database=database,
            ray=ray,
            workers=workers,
            memory=worker_memory,
            on_tick=progress.tick,
        )
    if report is not None:
        write_report(database, found.job, report)
    if as_json:
        emit_json(front_answer(found.job, found.front, found.references))
    else:
        out().print(result_text(found, [report] if report else [], ""))
    if found.job.state == "failed":
        raise typer.Exit(1)
