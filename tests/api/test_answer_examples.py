"""Examples of answers in the OpenAPI document: recorded from a server, and still what the schemas say.

python tests/api/test_answer_examples.py records them anew, then renew openapi.json
"""

import json
import re
import sys
import tempfile
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema_rs import Draft202012Validator  # comes with schemathesis

from api.app import create_app
from api.documents import EXAMPLES, answer_examples
from api.settings import Settings
from search.storage.database import Database

PLACE = re.compile(r"(/[\w.-]+){2,}/(tmp|home|root)")
LONGEST = 2


def document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/p.db")
        made: dict[str, Any] = json.loads(json.dumps(create_app(Settings(), database).openapi()))
        database.close()
    return made


def json_answers(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Schema of every JSON answer of success, by `method path`."""
    return {
        f"{method} {path}": content["schema"]
        for path, operations in made["paths"].items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        if status.startswith("2") and (content := answer.get("content", {}).get("application/json"))
    }


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document()


def test_every_json_answer_has_an_example(made: dict[str, Any]) -> None:
    assert set(json_answers(made)) == set(answer_examples()), "run python tests/api/test_answer_examples.py"


@pytest.mark.parametrize("operation", sorted(answer_examples()))
def test_an_example_is_what_its_schema_says(made: dict[str, Any], operation: str) -> None:
    schema = {**json_answers(made)[operation], "components": made["components"]}
    Draft202012Validator(schema).validate(answer_examples()[operation])


def test_no_example_names_a_place_of_the_machine_it_was_made_on() -> None:
    assert not PLACE.search(EXAMPLES.read_text(encoding="utf-8"))


def shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in value[:LONGEST]]
    return value


def record() -> dict[str, Any]:
    """Asks a server with a finished job for everything."""
    from tests.api.conftest import ORIGIN, fill

    small = {"name": "small", "budget": {"trials": 2}, "finalists": {"count": 0}}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/p.db")
        job = fill(database)
        running = [fill(database, name=name, until="running").id for name in ("pause", "stop", "cancel")]
        with TestClient(create_app(Settings(job_quota=1000), database), base_url=ORIGIN) as client:

            def ask(operation: str, path: str | None = None, **more: Any) -> Any:
                method, template = operation.split(" ")
                answer = client.request(method.upper(), path or template, **more)
                if answer.is_error:
                    raise SystemExit(f"{operation}: {answer.text}")
                found[operation] = shortened(answer.json())
                return answer.json()

            for path in ("/livez", "/readyz", "/v1/version", "/v1/devices", "/v1/proxies", "/v1/spaces",
                         "/v1/strategies", "/v1/tasks"):  # fmt: skip
                ask(f"get {path}")
            ask("get /v1/spaces/{name}", "/v1/spaces/decoder-small")
            base, one = "/v1/jobs/{job_id}", f"/v1/jobs/{job.id}"
            for tail in ("", "/front", "/indicators", "/trials"):
                ask(f"get {base}{tail}", one + tail)
            trial = ask(f"get {base}/trials/{{number}}", f"{one}/trials/0")
            name = trial["architecture_id"]
            plan = ask("get /v1/architectures/{architecture_id}", f"/v1/architectures/{name}")
            ask("post /v1/architectures:score", json={"architecture": plan})
            ask("post /v1/jobs:preview", json=small)
            ask("post /v1/jobs", json=small)
            ask("patch /v1/jobs/{job_id}", one, json={"labels": ["nightly"]})
            for action, id in zip(("pause", "stop", "cancel"), running, strict=True):
                ask(f"post {base}/{action}", f"/v1/jobs/{id}/{action}")
            ask(f"post {base}/resume", f"/v1/jobs/{running[0]}/resume")
            export = ask(f"post {base}/exports", f"{one}/exports", json={"formats": ["torch"]})["id"]
            ask(f"get {base}/exports", f"{one}/exports")
            ask("get /v1/exports/{export_id}", f"/v1/exports/{export}")
            ask("post /v1/exports/{export_id}/cancel", f"/v1/exports/{export}/cancel")
            found[f"post {base}/retrain"] = found["post /v1/jobs"]  # a job too; this one has no real data
            text = "the quick brown fox jumps over the lazy dog. " * 400
            kind = {"Content-Type": "text/plain"}
            data = ask("post /v1/datasets", "/v1/datasets?name=prose", content=text.encode(), headers=kind)
            ask("get /v1/datasets")
            ask("get /v1/datasets/{dataset_id}", f"/v1/datasets/{data['id']}")
            ask("get /v1/audit")
            ask("get /v1/jobs")
            found["get /v1/devices"][0]["facts"] |= {"system": "Linux 6.1", "cpu": "AMD EPYC"}
        database.close()
    return found


if __name__ == "__main__":
    EXAMPLES.write_text(json.dumps(record(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"written: {EXAMPLES}\n")
