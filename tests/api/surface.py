"""Every route of a running application, and addresses that reach it."""

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

PUBLIC = frozenset({"/livez", "/readyz", "/favicon.ico", "/static/{name}", "/login", "/logout"})
"""What answers without a key."""


def routes(application: FastAPI | APIRouter) -> Iterator[tuple[str, str]]:
    """(method, path) of each, however deep its router is included."""
    for route in application.routes:
        inner = getattr(route, "original_router", None)
        if isinstance(inner, APIRouter):
            yield from routes(inner)
        elif isinstance(route, APIRoute):
            yield from ((method, route.path) for method in sorted(route.methods or ()))


def address(path: str, **ids: str) -> str:
    """The path with its parameters filled in."""
    filled = {"number": "0", "action": "stop", "name": "app.js", "key": "params", **ids}
    for name in ("job_id", "export_id", "dataset_id", "architecture_id"):
        filled.setdefault(name, "0" * 32)
    for name, value in filled.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")
