"""`/v1/architectures`: read one by its id, or score one."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluators.latency import Target, check_target
from search.job import TargetSpec, TaskSpec, describe_problems
from search.scoring import score
from search.storage import architectures
from space.architecture import parse_architecture
from space.errors import InvalidInputError, UnavailableError

from ..bodies import json_body
from ..deps import DatabaseDep, Services, ServicesDep, TenantDep
from ..documents import body_of
from ..submission import task_data

router = APIRouter(prefix="/v1", tags=["architectures"])
SCORE = {
    "architecture": {
        "model": "decoder",
        "interface": {"input": "bytes", "context_length": 128, "outputs": 256},
        "d_model": 32,
        "position": {"kind": "rope"},
        "layers": [
            {
                "mixer": {"kind": "softmax", "num_heads": 4, "num_kv_heads": 4},
                "feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 64},
                "norm": {"kind": "rmsnorm"},
                "number_format": "fp32",
            }
        ],
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language"},
    },
    "target": {"batch_size": 1},
}


class ScoreRequest(BaseModel):
    """An architecture and where it would run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: dict[str, Any] = Field(description="An architecture as JSON")
    target: TargetSpec = TargetSpec()
    task: TaskSpec | None = Field(None, description="Adds the proxies, on this task")
    proxies: list[str] | None = Field(
        None, max_length=100, description="Ids, or `all`, in place of those that screen a job by default"
    )
    measure: bool = Field(False, description="Also measure the whole model, which takes seconds")


@router.get("/architectures/{architecture_id}")
def read_architecture(architecture_id: str, database: DatabaseDep, tenant: TenantDep) -> dict[str, Any]:
    """An architecture that one of your jobs has tried, as canonical JSON."""
    with database.read() as session:
        return dict(architectures.get(session, architecture_id, tenant=tenant))


@router.post("/architectures:score", openapi_extra=body_of(ScoreRequest, SCORE))
async def score_architecture(request: Request, held: ServicesDep, tenant: TenantDep) -> dict[str, Any]:
    """Costs, proxies (with a task), predicted and measured latency of one architecture."""
    data = await json_body(request)
    try:
        wanted = ScoreRequest.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, ScoreRequest))) from error
    return await run_in_threadpool(_score, held, wanted, tenant)


def _score(held: Services, wanted: ScoreRequest, tenant: str) -> dict[str, Any]:
    architecture = parse_architecture(wanted.architecture)
    target = Target(**_fields(wanted.target))
    check_target(target)
    if not held.heavy.acquire(blocking=False):
        raise UnavailableError("another preview or score is being computed; try again in a few seconds")
    try:
        data = None if wanted.task is None else task_data(wanted.task, held, tenant)
        with tempfile.TemporaryDirectory(prefix="paretoformer-") as scratch:
            return score(
                architecture,
                target,
                data=data,
                proxies=wanted.proxies,
                scratch=Path(scratch),
                measure=wanted.measure,
            )
    finally:
        held.heavy.release()


def _fields(target: TargetSpec) -> Mapping[str, Any]:
    return {name: getattr(target, name) for name in TargetSpec.model_fields}
