"""Sessions of browsers (`/login`, `/logout`), and `/v1/audit`: who did what."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from typing_extensions import TypedDict

from search.storage import keys, sessions, user_actions
from search.storage.user_actions import UserActionRecord

from ..answers import moment
from ..bodies import form_body
from ..deps import SESSION_COOKIE, AdminDep, Services, ServicesDep, check_secret
from ..login_page import login_page, logout_page

router = APIRouter()
WRONG = "This key does not open anything here."


class ActionAnswer(TypedDict):
    """One change that somebody asked for: who (the key's first part), what, of what."""

    at: str | None
    key: str | None
    action: str
    subject: str
    request_id: str
    detail: dict[str, Any]


class ActionList(TypedDict):
    """A page of actions, newest first, and where the next begins."""

    items: list[ActionAnswer]
    next_cursor: str | None


@router.get("/v1/audit", tags=["access"])
def list_actions(
    held: ServicesDep,
    caller: AdminDep,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ActionList:
    """Who changed what in your tenant; needs a key with the scope `admin`."""
    inner = held.cursors.opened(cursor, "audit", caller.tenant)
    with held.database.read() as session:
        page = user_actions.list_actions(session, tenant=caller.tenant, cursor=inner, limit=limit)
    page = held.cursors.sealed(page, "audit", caller.tenant)
    return {"items": [_answer(one) for one in page.items], "next_cursor": page.next_cursor}


def _answer(one: UserActionRecord) -> ActionAnswer:
    return {
        "at": moment(one.at),
        "key": one.key_id,
        "action": one.action,
        "subject": one.subject,
        "request_id": one.request_id,
        "detail": dict(one.detail),
    }


def _form(request: Request, held: Services, problem: str = "", then: str = "/") -> HTMLResponse:
    cookie = held.forms.cookie(request)
    text = login_page(held.forms.token(cookie), then, problem)
    response = HTMLResponse(text, 401 if problem else 200)
    held.forms.keep(response, cookie)
    return response


@router.get("/login", include_in_schema=False)
def show_login(request: Request, held: ServicesDep, next: str = "/") -> Response:
    return _form(request, held, then=local_path(next))


@router.post("/login", include_in_schema=False)
async def login(request: Request, held: ServicesDep) -> Response:
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    then = local_path(form.get("next", "/"))
    token = await run_in_threadpool(_begin, request, held, form.get("key", "").strip())
    if token is None:
        return _form(request, held, WRONG, then)
    response = RedirectResponse(then, 303)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=int(sessions.LIFETIME_S),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return response


def _begin(request: Request, held: Services, secret: str) -> str | None:
    record = check_secret(request, held, secret)
    if record is None:
        return None
    with held.database.write() as session:
        keys.note_use(session, record.id)
        return sessions.begin(session, record.id)


@router.get("/logout", include_in_schema=False)
def show_logout(request: Request, held: ServicesDep) -> HTMLResponse:
    cookie = held.forms.cookie(request)
    response = HTMLResponse(logout_page(held.forms.token(cookie)))
    held.forms.keep(response, cookie)
    return response


@router.post("/logout", include_in_schema=False)
async def logout(request: Request, held: ServicesDep) -> Response:
    form = await form_body(request)
    held.forms.check(request, form.get("csrf", ""))
    await run_in_threadpool(_end, held, request.cookies.get(SESSION_COOKIE, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


def _end(held: Services, token: str) -> None:
    with held.database.write() as session:
        sessions.end(session, token)


def local_path(text: str) -> str:
    """A page of this server; anything else leads to the first one.

    >>> local_path("/jobs/1?x=2"), local_path("//evil.example"), local_path("https://evil.example")
    ('/jobs/1?x=2', '/', '/')
    """
    is_local = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_local and text.isascii() and text.isprintable() and len(text) <= 500 else "/"
