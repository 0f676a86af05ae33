"""Exports over HTTP: asked for, looked at, taken as a zip."""

import io
import zipfile

from fastapi.testclient import TestClient

from search.records import JobRecord
from search.storage import artefacts
from search.storage.database import Database


def test_an_export_is_queued_and_its_file_comes_when_it_is_ready(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    asked = client.post(f"/v1/jobs/{job.id}/exports", json={"pick": "knee", "formats": ["onnx"]})
    assert asked.status_code == 202, asked.text
    path = asked.headers["location"]
    assert client.get(path).json()["state"] == "queued"
    assert client.get(f"{path}/file").status_code == 409
    folder = database.data_dir / "exports" / asked.json()["id"]
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("how to use it")
    with database.write() as session:
        artefacts.set_state(
            session, folder.name, "ready", path=f"exports/{folder.name}", size_bytes=13, sha256="0"
        )
    for address in (f"{path}/file", f"/exports/{folder.name}/file"):
        answer = client.get(address)
        (entry,) = zipfile.ZipFile(io.BytesIO(answer.content)).infolist()
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.filename.endswith("/README.md")
        assert answer.content == client.get(address).content
    assert [one["id"] for one in client.get(f"/v1/jobs/{job.id}/exports").json()] == [folder.name]


def test_what_cannot_be_exported_is_refused_with_the_nearest_name(client: TestClient, job: JobRecord) -> None:
    path = f"/v1/jobs/{job.id}/exports"
    for body, part in (
        ({"formats": ["onxx"]}, "did you mean 'onnx'"),
        ({"pick": "kne"}, "did you mean 'knee'"),
        ({"quantize": "int9"}, "did you mean 'int8'"),
        ({"format": ["onnx"]}, "did you mean 'formats'"),
        ({"formats": []}, "at least 1"),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert part in answer.json()["detail"]
    assert client.post(path, json={"pick": "99"}).status_code == 404
