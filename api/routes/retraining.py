"""`/v1/jobs/{job_id}/retrain`: finalists of one's own choice, as a new job; and the form that asks for it."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session

from search.exporting import chosen_trial
from search.job import describe_problems
from search.plan import JobPlan, job_context
from search.retraining import retraining_plan
from search.storage import jobs
from search.storage.database import Database
from search.storage.idempotency import Reply
from search.workers.store import store_of
from space.errors import InvalidInputError

from ..answers import JobAnswer, job_answer
from ..bodies import form_body, json_body
from ..deps import Services, ServicesDep, TenantDep
from ..documents import body_of
from ..once import Answered, Key, answer, asked, known
from ..submission import store_plan

router = APIRouter(prefix="/v1", tags=["jobs"])
pages = APIRouter(include_in_schema=False)

Pick = Annotated[str, Field(min_length=1, max_length=40)]


class RetrainRequest(BaseModel):
    """Which trials, and how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picks: tuple[Pick, ...] = Field(
        min_length=1, max_length=64, description="Numbers of completed trials, or knee, fastest, ..."
    )
    seeds: int | None = Field(None, ge=1, le=32, description="Trainings of each; the job's by default")
    steps: int | None = Field(
        None, ge=4, le=10_000_000, description="Steps of each training; the job's by default"
    )


@router.post(
    "/jobs/{job_id}/retrain",
    status_code=202,
    response_model=JobAnswer,
    openapi_extra=body_of(RetrainRequest, {"picks": ["3", "knee"], "seeds": 3, "steps": 2000}),
)
async def retrain(
    job_id: str,
    request: Request,
    response: Response,
    held: ServicesDep,
    tenant: TenantDep,
    key: Key = None,
) -> Any:
    """Queues a job that trains picked trials of an ended one again, with several seeds at the full budget."""
    data = await json_body(request)
    answered = await run_in_threadpool(_retrain, held, job_id, tenant, data, key)
    return answered.write(response, "/v1/jobs/{id}")


def _retrain(held: Services, job_id: str, tenant: str, data: object, key: str | None) -> Answered:
    with held.database.read() as session:
        jobs.resolve(session, job_id, tenant)  # whatever is sent: another tenant's job is not there
    wanted = _wanted(data)
    one = asked(tenant, key, f"retrain/{job_id}", wanted.model_dump(mode="json"), jobs.get)
    if (before := known(held.database, one)) is not None:
        return before
    plan = _planned(held.database, job_id, tenant, wanted)
    context = job_context(plan)

    def store(session: Session) -> Reply:
        return Reply(202, job_answer(store_plan(session, plan, context, held, tenant)))

    return answer(held.database, one, store)


@pages.post("/jobs/{job_id}/retrain")
async def retrain_form(
    request: Request, job_id: str, held: ServicesDep, tenant: TenantDep
) -> RedirectResponse:
    """Fields `trials` (numbers with commas), `seeds` and `steps`, empty for the job's own."""
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    given = {name: form[name].strip() for name in ("seeds", "steps") if form.get(name, "").strip()}
    data = {"picks": [one for one in re.split(r"[\s,]+", form.get("trials", "")) if one], **given}
    new = await run_in_threadpool(_submit, held, job_id, tenant, data)
    return RedirectResponse(f"/jobs/{new}", 303)


def _submit(held: Services, job_id: str, tenant: str, data: object) -> str:
    plan = _planned(held.database, job_id, tenant, _wanted(data))
    context = job_context(plan)
    with held.database.write() as session:
        return store_plan(session, plan, context, held, tenant).id


def _wanted(data: object) -> RetrainRequest:
    try:
        return RetrainRequest.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, RetrainRequest))) from error


def _planned(database: Database, job_id: str, tenant: str, wanted: RetrainRequest) -> JobPlan:
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        picked = [chosen_trial(session, job, which) for which in wanted.picks]
    distinct = list({trial.number: trial for trial in picked}.values())
    return retraining_plan(job, distinct, store_of(database), seeds=wanted.seeds, steps=wanted.steps)
