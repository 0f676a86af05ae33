"""`paretoformer jobs`, `show`, `pause`, `resume`, `stop`, `cancel`: on a database, or on a server."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import typer

from .options import DEFAULT_DATABASE, Db, JobId, Json, Server, find_job, open_database
from .output import emit_json, out, pairs, table

Action = Literal["pause", "resume", "stop", "cancel"]
ACTION_HELP: Mapping[Action, str] = {
    "pause": "Nothing new starts; running work goes on.",
    "resume": "Goes on where a job was paused.",
    "stop": "Nothing new starts; running work finishes, then the job is complete.",
    "cancel": "Ends running work now; what was counted stays.",
}


def jobs(
    state: Annotated[str | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    query: Annotated[str | None, typer.Option("--query", help="Part of the name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the last page ended.")] = None,
    server: Server = None,
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Lists jobs, newest first."""
    if server is not None:
        from .remote import ask

        answer = ask(server, "GET", "/jobs", state=state, query=query, limit=limit, cursor=cursor)
    else:
        from search.storage import jobs as stored

        from ..answers import job_answer

        with open_database(db, must_exist=True).read() as session:
            page = stored.list_jobs(
                session, tenant="local", state=state, query=query, cursor=cursor, limit=limit
            )
        answer = {
            "items": [job_answer(job) for job in page.items],
            "next_cursor": page.next_cursor,
        }
    if as_json:
        emit_json(answer)
        return
    rows = [[job["id"][:8], job["name"], job["state"], job["created_at"][:16]] for job in answer["items"]]
    out().print(table(["job", "name", "state", "created (UTC)"], rows) if rows else "no jobs")
    if answer["next_cursor"]:
        out().print(f"more: --cursor {answer['next_cursor']}", soft_wrap=True, markup=False)


def show(job: JobId, server: Server = None, db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """Shows a job: state, progress, gain over the references, front."""
    if server is not None:
        from .remote import ask

        answer = ask(server, "GET", f"/jobs/{job}")
        if as_json:
            emit_json(answer)
        else:
            out().print(
                pairs([(name, answer[name]) for name in ("id", "name", "state", "reason", "message")])
            )
        return
    from ..answers import job_answer
    from ..gathering import gather
    from .texts import job_text

    with open_database(db, must_exist=True).read() as session:
        found = gather(session, find_job(session, job))
    if as_json:
        emit_json(job_answer(found.job))
    else:
        tally = found.many.tally if found.many else None
        out().print(job_text(found.job, found.trials, found.references, tally))


def action_command(action: Action) -> Callable[..., None]:
    """The command of that name."""

    def command(job: JobId, server: Server = None, db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
        answer = _act(action, job, server, db)
        if as_json:
            emit_json(answer)
        else:
            out().print(f"{answer['id'][:8]}  {answer['state']}", markup=False)

    return command


def _act(action: Action, job: str, server: str | None, db: str) -> dict[str, Any]:
    if server is not None:
        from .remote import ask

        found: dict[str, Any] = ask(server, "POST", f"/jobs/{job}/{action}")
        return found
    from search.storage import jobs as stored

    from ..answers import job_answer

    with open_database(db, must_exist=True).write() as session:
        record = stored.request(session, find_job(session, job).id, action)
    return dict(job_answer(record))
