"""`/livez`, `/readyz`, `/metrics`, `/v1/version`: how the server is."""

import importlib.metadata

from fastapi import APIRouter, Response

from search.storage import jobs
from search.storage.models import SCHEMA_REVISION

from ..deps import AdminDep, DatabaseDep, ServicesDep, TenantDep
from ..metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/livez")
def livez() -> dict[str, str]:
    """The process answers. Needs no key."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(database: DatabaseDep) -> dict[str, str]:
    """The database answers; 503 while it does not. Needs no key, and never waits for workers."""
    with database.read() as session:
        jobs.counts(session)
    return {"status": "ok"}


@router.get("/metrics", response_class=Response)
def metrics(held: ServicesDep, _: AdminDep) -> Response:
    """Requests by route and jobs by state, for Prometheus."""
    return Response(held.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/v1/version")
def version(_: TenantDep) -> dict[str, str]:
    """Version of the program and of its database schema."""
    return {"version": importlib.metadata.version("paretoformer"), "schema": SCHEMA_REVISION}
