"""The OpenAPI document and its page: request bodies by reference, problems as the answer to every error."""

import functools
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from .problems import MEDIA_TYPE, Problem

_REFERENCE = "#/components/schemas/{model}"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>HTTP interface · paretoformer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/app.css"></head><body>
<header class="top"><nav aria-label="Main"><a class="brand" href="/">paretoformer</a>
<a class="link" href="/">Jobs</a><a class="link" href="/jobs/new">New job</a>
<a class="link push" href="/docs" aria-current="page">HTTP interface</a></nav></header>
<main><div class="head"><h1>HTTP interface</h1></div>
<p>{description} The whole description for programs: <a href="/openapi.json">openapi.json</a>.</p>
{operations}<h2>Values</h2>{schemas}</main></body></html>
"""
EXAMPLES = Path(__file__).parent / "answer_examples.json"
PUBLIC = frozenset({"/livez", "/readyz"})
_LINKED: Mapping[str, tuple[str, str]] = {
    "/v1/jobs": ("202", "job_id"),
    "/v1/jobs/{job_id}/exports": ("202", "export_id"),
    "/v1/datasets": ("201", "dataset_id"),
}
"""POST that makes something -> its status, and the parameter that takes the new id elsewhere."""
_PROBLEM = {
    "type": "urn:paretoformer:invalid_input",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "strategy.kind: unknown value 'nsga-2'; did you mean 'nsga2'? valid: boshnas, entropy, ...",
    "code": "invalid_input",
    "hint": None,
    "request_id": "5f0c1d2e3b4a5968",
}


def body_of(model: type[Any], example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """For `openapi_extra`: the route's JSON body. The route reads it itself, strictly."""
    schema = TypeAdapter(model).json_schema(ref_template=_REFERENCE)
    return {
        "requestBody": {
            "required": not issubclass(model, BaseModel)
            or any(f.is_required() for f in model.model_fields.values()),
            "content": {
                "application/json": {"schema": schema, **({"example": dict(example)} if example else {})}
            },
        }
    }


def openapi(app: FastAPI, version: str) -> dict[str, Any]:
    """The document of the application's `/v1` and health routes."""
    document = get_openapi(
        title="paretoformer",
        version=version,
        summary="Neural architecture search for efficient transformers",
        description="Numbers are SI: seconds, bytes, fractions. Errors are problem documents (RFC 9457).",
        routes=app.routes,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template=_REFERENCE)
    answer = {
        "description": "What went wrong",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _PROBLEM}},
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in PUBLIC:
                operation["security"] = []
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = answer
            body = (
                operation.get("requestBody", {})
                .get("content", {})
                .get("application/json", {})
                .get("schema", {})
            )
            schemas.update(body.pop("$defs", {}))
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "On loopback nothing is asked for until the database has a key.",
        }
    }
    document["security"] = [{"key": []}]
    _link(document["paths"])
    _exemplify(document["paths"])
    return document


@functools.cache
def answer_examples() -> Mapping[str, Any]:
    """Answers of a real server by `method path`, long lists cut to two; `tests/api/test_answer_examples.py`
    records them."""
    examples: Mapping[str, Any] = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return examples


def _exemplify(paths: Mapping[str, Any]) -> None:
    """Beside every JSON answer of success, what it looks like."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            example = answer_examples().get(f"{method} {path}")
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json")
                if example is not None and content is not None and status.startswith("2"):
                    content["example"] = example


def _link(paths: Mapping[str, Any]) -> None:
    """From every answer with a new id to what can be asked of it."""
    for path, (status, name) in _LINKED.items():
        answer = paths[path]["post"]["responses"][status]
        answer["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {name: "$response.body#/id"},
            }
            for other, operations in paths.items()
            if f"{{{name}}}" in other
            for operation in operations.values()
        }


def docs_page(document: Mapping[str, Any]) -> str:
    """The document as a plain page: no script, nothing from elsewhere."""
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation))
    schemas = "".join(
        f'<details class="card" id="schema-{_text(name)}"><summary>{_text(name)}</summary>'
        f"<p>{_text(schema.get('description', ''))}</p>{_fields(schema)}</details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    return _PAGE.format(
        description=_text(document["info"]["description"]), operations="".join(parts), schemas=schemas
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(one['name'])}</code></td><td>{_text(one['in'])}</td>"
        f"<td>{_text(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", [])
    )
    table = (
        f"<table><thead><tr><th>parameter</th><th>in</th><th></th></tr></thead>{rows}</table>" if rows else ""
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    sent = f"<details><summary>body</summary>{_fields(body)}</details>" if body else ""
    example = answer_examples().get(f"{method} {path}")
    shown = _text(json.dumps(example, indent=1))
    got = "" if example is None else f"<details><summary>answer</summary><pre>{shown}</pre></details>"
    return (
        f'<section class="card"><h3><code>{method.upper()} {_text(path)}</code></h3>'
        f"<p>{_text(operation.get('description', operation.get('summary', '')))}</p>{table}{sent}{got}"
        "</section>"
    )


def _fields(schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code></td><td>{_kind(field)}</td>"
        f"<td>{_text(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table>{rows}</table>" if rows else ""


def _kind(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f'<a href="#schema-{_text(name)}">{_text(name)}</a>'
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if "enum" in field:
        return _text(", ".join(map(str, field["enum"])))
    if "items" in field:
        return f"array of {_kind(field['items'])}"
    return _text(field.get("type", field.get("const", "any")))


def _text(value: object) -> str:
    return html.escape(str(value))
