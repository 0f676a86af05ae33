"""Pages and what their script fetches. Forms carry a token; an action answers with the page it leads to."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)

from dashboards import (
    MOST_LINES,
    Selection,
    axis_keys,
    default_form,
    job_data,
    job_page,
    jobs_page,
    new_job_page,
    placed_problems,
    plotly_bundle,
    preview_html,
    static_dir,
    trial_page,
)
from dashboards import view as job_view
from search.records import ArtefactRecord, JobRecord
from search.storage import artefacts, datasets, jobs, logs, overviews, trials
from search.storage.database import Database
from search.storage.jobs import Action
from space.errors import InvalidInputError, NotFoundError
from space.export import FORMATS

from ..answers import front_answer, front_columns
from ..bodies import form_body
from ..deps import CallerDep, DatabaseDep, Services, ServicesDep, TenantDep
from ..documents import docs_page
from ..example import EXAMPLE
from ..gathering import Gathered, gather, of_trial, report_of
from ..guard import REPORT_POLICY
from ..previewing import FormAnswer, answer_form, problems_of, written_form
from ..stream import stream_answer
from ..submission import dataset_names, submit
from ..tables import front_csv
from . import charts, compare, data_pages, device_pages, explore, retraining
from .charts import View, ViewDep, selection
from .events import After, LastEventId, seen_seq
from .exports import export_file, export_request, queue_export
from .trials import read_log

router = APIRouter(include_in_schema=False)
for part in (compare, charts, explore, device_pages, data_pages):
    router.routes.extend(part.router.routes)  # plain: they have neither prefix nor dependencies of their own
router.routes.extend(retraining.pages.routes)
STATIC_FILES = {path.name: path for path in sorted(static_dir().iterdir()) if path.is_file()}
PAGE_SIZE = 50


def page(request: Request, held: Services, render: Any, status: int = 200) -> HTMLResponse:
    """A page with its form token: `render` makes the HTML from the token."""
    cookie = held.forms.cookie(request)
    response = HTMLResponse(render(held.forms.token(cookie)), status)
    held.forms.keep(response, cookie)
    return response


def found(database: Database, job_id: str, tenant: str) -> JobRecord:
    with database.read() as session:
        return jobs.resolve(session, job_id, tenant)


@router.get("/")
def jobs_list(
    request: Request,
    held: ServicesDep,
    tenant: TenantDep,
    state: str | None = None,
    query: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> HTMLResponse:
    with held.database.read() as session:
        listed = jobs.list_jobs(
            session,
            tenant=tenant,
            state=state or None,
            query=query or None,
            cursor=held.cursors.opened(cursor, "jobs", tenant),
            limit=PAGE_SIZE,
        )
        listed = held.cursors.sealed(listed, "jobs", tenant)
        counts = jobs.counts(session, tenant)
        ended = overviews.ended_trials(session, [job.id for job in listed.items])
    return page(
        request,
        held,
        lambda token: jobs_page(
            listed,
            counts,
            ended=ended,
            example=EXAMPLE,
            csrf=token,
            state=state or None,
            query=query,
            is_first=cursor is None,
        ),
    )


@router.get("/jobs/new")
def new_job(request: Request, held: ServicesDep, tenant: TenantDep) -> HTMLResponse:
    return form_page(request, held, tenant, None, written_form(default_form(), base_of(request)))


def base_of(request: Request) -> str:
    """The address a reader reached the server by."""
    return str(request.base_url).rstrip("/")


def form_page(
    request: Request,
    held: Services,
    tenant: str,
    form: dict[str, str] | None,
    answer: FormAnswer,
    status: int = 200,
) -> HTMLResponse:
    offered = dataset_names(held.settings.datasets)
    with held.database.read() as session:
        uploads = datasets.list_datasets(session, tenant=tenant).items
    return page(
        request,
        held,
        lambda token: new_job_page(
            form,
            answer.problems,
            example=EXAMPLE,
            csrf=token,
            datasets=offered,
            uploads=[(one.handle, one.name) for one in uploads],
            written=answer.written,
            command=answer.command,
            preview=answer.preview,
        ),
        status=status,
    )


@router.post("/jobs/new/preview")
async def preview_job(
    request: Request, held: ServicesDep, tenant: TenantDep, accept: Annotated[str, Header()] = ""
) -> Response:
    """What the form would do: the page with it, or for its script the parts that changed."""
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    answer = await run_in_threadpool(answer_form, held, form, base_of(request), tenant)
    if "application/json" not in accept:
        return form_page(request, held, tenant, form, answer, status=422 if answer.problems else 200)
    return JSONResponse(
        {
            "busy": answer.is_busy,
            "written": answer.written,
            "command": answer.command,
            "problems": placed_problems(answer.problems),
            "preview": preview_html(answer.preview) if answer.preview else "",
        }
    )


@router.post("/jobs/new")
async def submit_job(request: Request, held: ServicesDep, tenant: TenantDep) -> Response:
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    try:
        job = await run_in_threadpool(submit, job_data(form), held, tenant)
    except InvalidInputError as error:
        answer = FormAnswer(problems=problems_of(error))
        return form_page(request, held, tenant, form, answer, status=422)
    return RedirectResponse(f"/jobs/{job.id}", 303)


def _gathered(database: Database, job_id: str, tenant: str, view: View) -> tuple[Gathered, Selection]:
    with database.read() as session:
        record = jobs.resolve(session, job_id, tenant)
        chosen = selection(record, view)
        return gather(session, record, chosen), chosen


def _view(rows: Gathered, chosen: Selection) -> dict[str, Any]:
    return job_view(
        rows.job,
        rows.trials,
        rows.references,
        measurements=rows.latencies,
        curves=rows.curves,
        warnings=rows.warnings,
        last_seq=rows.last_seq,
        selection=chosen,
        many=rows.many,
    )


@router.get("/jobs/{job_id}")
def job(
    request: Request,
    job_id: str,
    held: ServicesDep,
    tenant: TenantDep,
    view: ViewDep,
) -> HTMLResponse:
    rows, chosen = _gathered(held.database, job_id, tenant, view)
    shown = _view(rows, chosen)
    keys = axis_keys(rows.job, (*rows.trials, *rows.references))
    return page(
        request,
        held,
        lambda token: job_page(rows.job, shown, csrf=token, selection=chosen, axis_keys=keys),
    )


@router.get("/jobs/{job_id}/view.json")
def view_json(job_id: str, database: DatabaseDep, tenant: TenantDep, view: ViewDep) -> JSONResponse:
    rows, chosen = _gathered(database, job_id, tenant, view)
    return JSONResponse(_view(rows, chosen))


@router.get("/jobs/{job_id}/events")
def events(
    job_id: str, held: ServicesDep, caller: CallerDep, after: After = 0, last_event_id: LastEventId = None
) -> StreamingResponse:
    record = found(held.database, job_id, caller.tenant)
    return stream_answer(held, record.id, seen_seq(after, last_event_id), caller.name)


@router.get("/jobs/{job_id}/report.html")
def report(job_id: str, database: DatabaseDep, tenant: TenantDep) -> HTMLResponse:
    with database.read() as session:
        rows = gather(session, jobs.resolve(session, job_id, tenant))
    return HTMLResponse(report_of(rows), headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/jobs/{job_id}/front.csv")
def front_as_csv(job_id: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    with database.read() as session:
        record = jobs.resolve(session, job_id, tenant)
        front = trials.front(session, record.id, "search")
    return Response(
        front_csv(front_columns(record, front)),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="front-{record.id[:8]}.csv"'},
    )


@router.get("/jobs/{job_id}/front.json")
def front_as_json(job_id: str, database: DatabaseDep, tenant: TenantDep) -> JSONResponse:
    with database.read() as session:
        record = jobs.resolve(session, job_id, tenant)
        front = trials.front(session, record.id, "search")
        references = trials.list_trials(session, record.id, group="reference", limit=1000).items
    return JSONResponse(front_answer(record, front, sorted(references, key=lambda row: -row.number)))


@router.post("/jobs/{job_id}/{action}")
async def act(
    request: Request, job_id: str, action: Action, held: ServicesDep, tenant: TenantDep
) -> RedirectResponse:
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    await run_in_threadpool(_act, held.database, job_id, tenant, action)
    return RedirectResponse(f"/jobs/{job_id}", 303)


def _act(database: Database, job_id: str, tenant: str, action: Action) -> None:
    with database.write() as session:
        jobs.request(session, jobs.resolve(session, job_id, tenant).id, action, tenant=tenant)


@router.get("/jobs/{job_id}/trials/{number}")
def trial(request: Request, job_id: str, number: int, held: ServicesDep, tenant: TenantDep) -> HTMLResponse:
    with held.database.read() as session:
        record = jobs.resolve(session, job_id, tenant)
        row = trials.get(session, record.id, number)
        measured = of_trial(session, row)
        exports = artefacts.list_for_job(session, record.id, number)
        group = overviews.kin(session, record.id, row)
        shown = charts.charts_of(session, record, row)
        said = logs.of_trial(session, record.id, number)
    return page(
        request,
        held,
        lambda token: trial_page(
            record, row, measured, exports, trials=group, charts=shown, logs=said, csrf=token
        ),
    )


@router.get("/jobs/{job_id}/trials/{number}/log.txt")
def trial_log(job_id: str, number: int, database: DatabaseDep, tenant: TenantDep) -> PlainTextResponse:
    """The log of `/v1`, for a reader who came with a cookie."""
    return read_log(job_id, number, database, tenant, MOST_LINES)


@router.post("/jobs/{job_id}/trials/{number}/exports")
async def export(
    request: Request, job_id: str, number: int, held: ServicesDep, tenant: TenantDep
) -> RedirectResponse:
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    formats = tuple(name for name in FORMATS if form.get(f"format_{name}"))
    pick = f"R{-number}" if number < 0 else str(number)
    wanted = export_request(
        {
            "pick": pick,
            "formats": formats or ("onnx",),
            "quantize": form.get("quantize", "none"),
            "license": form.get("license", "").strip() or None,
            "allow_partial": True,  # the page says that the job goes on, and so does the report
        }
    )
    await run_in_threadpool(queue_export, held, job_id, tenant, wanted)
    return RedirectResponse(f"/jobs/{job_id}/trials/{number}#exports", 303)


@router.post("/exports/{export_id}/cancel")
async def cancel(request: Request, export_id: str, held: ServicesDep, tenant: TenantDep) -> RedirectResponse:
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    ended = await run_in_threadpool(_cancel, held.database, export_id, tenant)
    return RedirectResponse(f"/jobs/{ended.job_id}/trials/{ended.trial}#exports", 303)


def _cancel(database: Database, export_id: str, tenant: str) -> ArtefactRecord:
    with database.write() as session:
        return artefacts.cancel(session, export_id, tenant=tenant, now=database.now())


@router.get("/exports/{export_id}/file")
def file(export_id: str, database: DatabaseDep, tenant: TenantDep) -> FileResponse:
    return export_file(database, export_id, tenant)


@router.get("/openapi.json")
def openapi_document(request: Request, _: TenantDep) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def docs(request: Request, _: TenantDep) -> HTMLResponse:
    return HTMLResponse(docs_page(request.app.openapi()))


@router.get("/favicon.ico")
def favicon() -> FileResponse:
    return static("icon.svg")


@router.get("/static/{name}")
def static(name: str, if_none_match: Annotated[str | None, Header()] = None) -> FileResponse:
    """Files by a closed list of names. They change with the program only, so browsers ask once per start."""
    del if_none_match
    path = plotly_bundle() if name == "plotly.min.js" else STATIC_FILES.get(name)
    if path is None:
        raise NotFoundError(f"there is no file '{name[:100]}'")
    return FileResponse(path, headers={"Cache-Control": "max-age=600"})
