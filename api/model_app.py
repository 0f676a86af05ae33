"""A minimal predictor over HTTP for trying an exported model on one's own machine: no database, no keys.

GET /  what the model takes     POST /predict     POST /generate     GET /docs, /openapi.json
"""

import html
import json
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from search.job import describe_problems
from space.errors import InvalidInputError

from .bodies import parse_json
from .documents import body_of
from .guard import LOOPBACK
from .problems import RequestError, install_problems
from .served_model import ServedModel

BODY_LIMIT = 16 * 2**20
Wanted = TypeVar("Wanted", bound=BaseModel)


class PredictRequest(BaseModel):
    """One batch of raw inputs, or one text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: list[Any] | None = Field(
        None, description="Token ids [batch, length], values [batch, length, channels] or pixels [batch, ...]"
    )
    text: str | None = Field(None, max_length=1_000_000, description="For models of bytes")


class GenerateRequest(BaseModel):
    """A text to go on with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(min_length=1, max_length=1_000_000)
    max_new_tokens: int = Field(100, ge=1, le=100_000, description="Bytes to add")
    temperature: float = Field(0.0, ge=0, le=100, allow_inf_nan=False, description="0: the likeliest byte")
    seed: int = Field(0, ge=0, lt=2**63)


def create_model_app(model: ServedModel) -> FastAPI:
    """The application over one loaded model; it answers to names of this machine only."""
    app = FastAPI(
        title="paretoformer serve-model",
        summary=f"Model {model.architecture.id[:12]}, {model.file}",
        docs_url=None,
        redoc_url=None,
    )

    @app.get("/")
    def describe() -> dict[str, Any]:
        """What the model takes and gives."""
        return model.describe()

    @app.post("/predict", openapi_extra=body_of(PredictRequest))
    async def predict(request: Request) -> dict[str, Any]:
        """Class names and probabilities, or the likeliest next tokens."""
        wanted = await _body(request, PredictRequest)
        return await run_in_threadpool(lambda: model.predict(inputs=wanted.inputs, text=wanted.text))

    @app.post("/generate", openapi_extra=body_of(GenerateRequest))
    async def generate(request: Request) -> dict[str, Any]:
        """The prompt continued; for models that write text."""
        wanted = await _body(request, GenerateRequest)
        return await run_in_threadpool(
            lambda: model.generate(
                wanted.prompt,
                max_new_tokens=wanted.max_new_tokens,
                temperature=wanted.temperature,
                seed=wanted.seed,
            )
        )

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_docs(app, model))

    install_problems(app)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    return app


async def _body(request: Request, kind: type[Wanted]) -> Wanted:
    """The JSON body, read up to the limit and checked.

    Raises:
        RequestError: too large, or no JSON by its content type.
        InvalidInputError: another form than the route takes.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != "application/json":
        raise RequestError(
            415,
            "unsupported_media_type",
            f"content type '{given[:100]}' is not accepted; send application/json",
        )
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_LIMIT:
            raise RequestError(413, "too_large", f"the body is larger than {BODY_LIMIT:,} bytes; send less")
    try:
        return kind.model_validate(parse_json(bytes(raw)))
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, kind))) from error


def _docs(app: FastAPI, model: ServedModel) -> str:
    """The routes as a plain page without script."""
    described = html.escape(json.dumps(model.describe(), indent=2))
    example = '{"prompt": "def main", "max_new_tokens": 20}' if model.generates else '{"inputs": [...]}'
    route = "generate" if model.generates else "predict"
    rows = "".join(
        f"<li><code>{method.upper()} {html.escape(path)}</code> {html.escape(operation['description'])}</li>"
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>serve-model</title></head><body>"
        f"<h1>Model {model.architecture.id[:12]}</h1><ul>{rows}</ul>"
        "<p>For programs: <a href='/openapi.json'>openapi.json</a></p>"
        f"<pre>curl -H 'Content-Type: application/json' -d '{html.escape(example)}' ADDRESS/{route}</pre>"
        f"<pre>{described}</pre></body></html>"
    )
