"""Exports over HTTP: asked for, looked at, taken as a zip."""

import io
import zipfile
from pathlib import Path

from fastapi.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from search.export_files import folder_digest
from search.records import JobRecord
from search.storage import artefacts
from search.storage.database import Database

from .conftest import ORIGIN, fill


def test_an_export_is_queued_and_its_file_comes_when_it_is_ready(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    asked = client.post(f"/v1/jobs/{job.id}/exports", json={"pick": "knee", "formats": ["onnx"]})
    assert asked.status_code == 202, asked.text
    path = asked.headers["location"]
    assert client.get(path).json()["state"] == "queued"
    assert client.get(f"{path}/file").status_code == 409
    folder = made_ready(database, asked.json()["id"])
    for address in (f"{path}/file", f"/exports/{folder.name}/file"):
        answer = client.get(address)
        (entry,) = zipfile.ZipFile(io.BytesIO(answer.content)).infolist()
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.filename.endswith("/README.md")
        assert answer.content == client.get(address).content
    assert [one["id"] for one in client.get(f"/v1/jobs/{job.id}/exports").json()] == [folder.name]


def made_ready(database: Database, export_id: str) -> Path:
    """A published folder of one file."""
    folder = database.data_dir / "exports" / export_id
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("how to use it")
    with database.write() as session:
        artefacts.set_state(
            session, export_id, "ready", path=f"exports/{export_id}", size_bytes=13,
            sha256=folder_digest(folder),
        )  # fmt: skip
    return folder


def test_f38_a_changed_export_says_so_and_its_download_is_gone(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    asked = client.post(f"/v1/jobs/{job.id}/exports", json={"formats": ["torch"]}).json()
    folder = made_ready(database, asked["id"])
    path = f"/v1/exports/{asked['id']}"
    assert client.get(path).json()["artefact_missing"] is False
    (folder / "README.md").write_text("how to lose it")
    assert client.get(path).json()["artefact_missing"] is True
    gone = client.get(f"{path}/file")
    assert (gone.status_code, gone.json()["code"]) == (410, "artefact_missing")
    assert client.get(f"/v1/jobs/{job.id}/exports").json()[0]["artefact_missing"] is True
    assert client.get(f"/v1/jobs/{job.id}/front").status_code == 200


def test_an_export_is_cancelled_once_and_an_equal_request_is_the_same_export(
    client: TestClient, job: JobRecord
) -> None:
    body = {"formats": ["onnx", "torch"], "quantize": "int8-static", "license": "Apache-2.0"}
    first, second = (client.post(f"/v1/jobs/{job.id}/exports", json=body).json() for _ in "ab")
    assert first["id"] == second["id"]
    path = f"/v1/exports/{first['id']}"
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert client.get(f"{path}/file").status_code == 409
    made = made_of(client.post(f"/v1/jobs/{job.id}/exports", json=body).json())
    assert made == ("queued", ["onnx", "torch"], "int8-static")
    assert client.post("/v1/exports/0000/cancel").status_code == 404


def made_of(answer: dict[str, object]) -> tuple[object, object, object]:
    return answer["state"], answer["formats"], answer["quantize"]


def test_f46_a_job_that_goes_on_is_exported_only_when_partial_is_allowed(
    client: TestClient, database: Database
) -> None:
    going = fill(database, name="going on", until="running")
    path = f"/v1/jobs/{going.id}/exports"
    refused = client.post(path, json={"formats": ["torch"]})
    assert refused.status_code == 409
    assert "is running" in refused.json()["detail"]
    assert client.post(path, json={"formats": ["torch"], "allow_partial": True}).status_code == 202


def test_a30_a_tenant_has_a_limited_number_of_exports_that_wait(
    database: Database, job: JobRecord, settings: Settings
) -> None:
    limited = create_app(settings.model_copy(update={"export_quota": 1}), database)
    with TestClient(limited, base_url=ORIGIN) as client:
        path = f"/v1/jobs/{job.id}/exports"
        first = client.post(path, json={"formats": ["torch"]}).json()
        refused = client.post(path, json={"formats": ["onnx"]})
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
        client.post(f"/v1/exports/{first['id']}/cancel")
        assert client.post(path, json={"formats": ["onnx"]}).status_code == 202


def test_a30_a_tenant_has_limited_room_for_exports_until_it_deletes_some(
    settings: Settings, database: Database, job: JobRecord
) -> None:
    limited = create_app(settings.model_copy(update={"export_bytes": 13}), database)
    path = f"/v1/jobs/{job.id}/exports"
    with TestClient(limited, base_url=ORIGIN) as client:
        first = client.post(path, json={"formats": ["torch"]}).json()["id"]
        assert client.delete(f"/v1/exports/{first}").status_code == 409  # it waits
        folder = made_ready(database, first)
        refused = client.post(path, json={"formats": ["onnx"]})
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
        assert client.delete(f"/v1/exports/{first}").status_code == 204
        assert not folder.exists()
        assert client.get(f"/v1/exports/{first}").status_code == 404
        assert client.post(path, json={"formats": ["onnx"]}).status_code == 202


def test_a08_a_zip_has_plain_names_below_one_folder(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    asked = client.post(f"/v1/jobs/{job.id}/exports", json={"formats": ["torch"]}).json()
    made_ready(database, asked["id"])
    content = client.get(f"/v1/exports/{asked['id']}/file").content
    for entry in zipfile.ZipFile(io.BytesIO(content)).infolist():
        folder, name = entry.filename.split("/")
        assert folder.startswith("paretoformer-")
        assert name not in ("", ".", "..")
    assert not [route for route in client.get("/openapi.json").json()["paths"] if "import" in route]


def test_what_cannot_be_exported_is_refused_with_the_nearest_name(client: TestClient, job: JobRecord) -> None:
    path = f"/v1/jobs/{job.id}/exports"
    for body, part in (
        ({"formats": ["onxx"]}, "did you mean 'onnx'"),
        ({"pick": "kne"}, "did you mean 'knee'"),
        ({"quantize": "int9"}, "did you mean 'int8'"),
        ({"license": "MIT\n# stolen"}, "license"),
        ({"format": ["onnx"]}, "did you mean 'formats'"),
        ({"formats": []}, "at least 1"),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert part in answer.json()["detail"]
    assert client.post(path, json={"pick": "99"}).status_code == 404
