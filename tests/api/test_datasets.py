"""Data sets over HTTP: taken whole or not at all, never run, kept while jobs use them."""

import io
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from api.uploads import FOLDER, STRAY_S, remove_strays
from search.records import JobRecord
from search.running import stored_plan
from search.storage import datasets, jobs
from search.storage.database import Database
from search.workers.store import Store, store_of
from space.errors import NotFoundError

from .conftest import ORIGIN

CSV = {"Content-Type": "text/csv"}
TABLE = b"text,label\n" + b"".join(b"word %d of many,%s\n" % (i, b"ab"[i % 2 :][:1]) for i in range(120))
JOB = {"space": {"set": {"d_model": [32], "num_layers": [1]}}, "references": {"sizes": 1}}


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's own annotation
    return stream.getvalue()


def files(database: Database) -> list[str]:
    folder = database.data_dir / FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_every_format_is_taken_and_described(client: TestClient, database: Database) -> None:
    import pyarrow
    from pyarrow import parquet

    table = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["a"], "label": ["b"]}), table)
    for kind, body, facts in (
        ("text/csv", TABLE, {"columns": ["text", "label"]}),
        ("application/x-ndjson", b'{"text": "a", "label": 1}\n', {"columns": ["text", "label"]}),
        ("text/plain; charset=utf-8", "häh".encode(), {"characters": 3}),
        ("application/vnd.apache.parquet", table.getvalue(), {"columns": ["text", "label"], "rows": 1}),
        (
            "application/x-npz",
            npz(x=np.zeros((3, 4), np.float32), y=np.zeros(3, np.int64)),
            {"arrays": {"x": {"shape": [3, 4], "dtype": "float32"}, "y": {"shape": [3], "dtype": "int64"}}},
        ),
    ):
        answer = client.post("/v1/datasets?name=mine", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 201, answer.text
        found = client.get(answer.headers["location"]).json()
        assert (found["name"], found["facts"], found["size_bytes"]) == ("mine", facts, len(body))
        assert found["dataset"] == f"data_{found['id']}"
    assert len(client.get("/v1/datasets").json()["items"]) == len(files(database)) == 5


def test_the_same_file_is_stored_once_per_tenant(client: TestClient, database: Database) -> None:
    first = client.post("/v1/datasets", content=TABLE, headers=CSV)
    again = client.post("/v1/datasets", content=TABLE, headers=CSV)
    other = client.post(
        "/v1/datasets?format=text", content=TABLE, headers={"Content-Type": "application/octet-stream"}
    )
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json() == again.json()
    assert len(files(database)) == 2


def test_what_was_sent_before_there_was_a_shared_store_gets_there_when_it_is_sent_again(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    first = client.post("/v1/datasets", content=TABLE, headers=CSV).json()
    database.data_url = f"file://{tmp_path / 'shared'}"
    assert client.post("/v1/datasets", content=TABLE, headers=CSV).json() == first
    other = Store(tmp_path / "other machine", database.data_url)
    name = f"data_{first['id']}.csv"
    assert other.fetch_file(f"{FOLDER}/{name}").read_bytes() == TABLE
    assert files(database) == [name]
    assert other.children(FOLDER) == [name]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-npz", b"PK not a zip"),
        ("application/x-npz", npz(x=np.array([{"a": 1}], dtype=object))),
        ("application/x-npz", npz(a=np.zeros(1), b=np.zeros(1), c=np.zeros(1), d=np.zeros(1), e=np.zeros(1))),
        ("text/csv", b"a\0b"),
        ("text/csv", b"\xff\xfe"),
        ("text/plain", b"\x80abc"),
        ("application/x-ndjson", b"[1, 2]\n"),
        ("application/x-ndjson", b"[" * 100_000),
        ("application/vnd.apache.parquet", b"PAR1 and nothing"),
        ("text/csv", b""),
    ],
)
def test_a09_what_is_not_of_its_format_leaves_nothing(
    client: TestClient, database: Database, kind: str, body: bytes
) -> None:
    answer = client.post("/v1/datasets", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 422, answer.text
    assert str(database.data_dir) not in answer.text
    assert files(database) == []


def test_a08_a_bomb_and_a_member_with_a_path_are_never_unpacked(
    client: TestClient, database: Database
) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1))
    for member, size in (("../../evil.npy", 1), ("x.npy", 2**33)):
        stream, inner = io.BytesIO(), io.BytesIO()
        np.lib.format.write_array_header_1_0(inner, header)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, inner.getvalue())
        raw = stream.getvalue()
        if size > 1:  # the directory claims 8 GiB
            raw = raw.replace(len(inner.getvalue()).to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little"))
        answer = client.post("/v1/datasets", content=raw, headers={"Content-Type": "application/x-npz"})
        assert answer.status_code in (201, 422)
        assert not list(database.data_dir.parent.rglob("evil*"))


@pytest.mark.parametrize("name", ["../../x", "a/b\\c", "CON", "x" * 200, "%2e%2e%2f", "‮evil", "x."])
def test_a06_a_name_is_a_label_and_never_a_place(client: TestClient, database: Database, name: str) -> None:
    around = database.data_dir.parent
    before = set(around.rglob("*"))
    answer = client.post("/v1/datasets", params={"name": name}, content=TABLE, headers=CSV)
    new = {path for path in set(around.rglob("*")) - before if path.is_file()}
    if answer.status_code == 201:
        assert new == {database.data_dir / FOLDER / f"data_{answer.json()['id']}.csv"}
    else:
        assert (answer.status_code, new) == (422, set())


def test_a06_a_data_set_is_named_by_its_id_only(client: TestClient) -> None:
    data = client.post("/v1/datasets", content=TABLE, headers=CSV).json()
    for name in (
        f"data_{data['id']}.csv",
        f"datasets/data_{data['id']}.csv",
        "data_",
        "data_../x",
        "data_%00",
    ):
        task = {"kind": "text-classification", "dataset": name}
        answer = client.post("/v1/jobs", json={**JOB, "task": task})
        assert answer.status_code == 422
        assert "no data set of this server" in answer.json()["detail"]


def test_a30_a_tenant_has_limited_room(database: Database) -> None:
    settings = Settings(dataset_quota=2000, dataset_limit=5000)
    with TestClient(create_app(settings, database), base_url=ORIGIN) as client:
        assert client.post(
            "/v1/datasets", content=b"x" * 1999, headers={"Content-Type": "text/plain"}
        ).is_success
        more = client.post("/v1/datasets", content=b"y" * 2, headers={"Content-Type": "text/plain"})
        assert (more.status_code, "1 bytes that are left" in more.text) == (422, True)
        assert client.post("/v1/datasets", content=b"z", headers={"Content-Type": "text/plain"}).is_success
        full = client.post("/v1/datasets", content=b"w", headers={"Content-Type": "text/plain"})
        assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
        large = client.post("/v1/datasets", content=b"x" * 5001, headers={"Content-Type": "text/plain"})
        assert large.status_code == 413
        (one, _) = client.get("/v1/datasets").json()["items"]
        assert client.delete(f"/v1/datasets/{one['id']}").status_code == 204
        assert client.get(f"/v1/datasets/{one['id']}").status_code == 404
    assert len(files(database)) == 1


def test_a01_an_endless_upload_ends_at_the_limit_and_leaves_nothing(database: Database) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        while True:
            sent.append(1)
            assert len(sent) < 100
            yield b"x" * 1000

    with TestClient(create_app(Settings(dataset_limit=5000), database), base_url=ORIGIN) as client:
        answer = client.post(
            "/v1/datasets", content=_some(endless(), 20), headers={"Content-Type": "text/plain"}
        )
    assert answer.status_code == 413
    assert files(database) == []


def _some(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield next(pieces)


def test_a_data_set_stays_while_a_job_uses_it_and_its_place_is_not_told(
    client: TestClient, database: Database
) -> None:
    data = client.post("/v1/datasets", content=TABLE, headers=CSV).json()
    task = {"kind": "text-classification", "dataset": data["dataset"]}
    sent = client.post("/v1/jobs", json={**JOB, "task": task})
    assert sent.status_code == 202, sent.text
    job = sent.json()
    assert job["spec"]["task"]["dataset"] == data["dataset"]
    assert str(database.data_dir) not in sent.text
    with database.read() as session:
        record = jobs.get(session, job["id"])
    assert stored_plan(record, store_of(database)).data.digest == record.context["data_digest"]
    path = f"/v1/datasets/{data['id']}"
    assert client.delete(path).status_code == 409
    client.post(f"/v1/jobs/{job['id']}/cancel")
    assert client.delete(path).status_code == 409  # a report or an export may still need it
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.delete(path).status_code == 204
    assert files(database) == []


def test_data_nothing_can_be_learned_from_is_refused_by_its_name(
    client: TestClient, database: Database
) -> None:
    body = b"words,label\na,b\n"
    data = client.post("/v1/datasets", content=body, headers=CSV).json()
    task = {"kind": "text-classification", "dataset": data["dataset"]}
    answer = client.post("/v1/jobs", json={**JOB, "task": task})
    assert answer.status_code == 422
    assert data["dataset"] in answer.json()["detail"]
    assert str(database.data_dir) not in answer.text


def test_files_without_a_row_go_after_ten_minutes_and_others_stay(
    client: TestClient, database: Database
) -> None:
    kept = client.post("/v1/datasets", content=TABLE, headers=CSV).json()
    folder = database.data_dir / FOLDER
    for name in (".part-dead", "data_0.csv", "mine.txt"):
        (folder / name).write_text("x")
        os.utime(folder / name, (0, time.time() - STRAY_S - 60))
    (folder / ".part-alive").write_text("x")
    assert remove_strays(database) == 2
    assert files(database) == [".part-alive", f"data_{kept['id']}.csv", "mine.txt"]


def test_a_job_and_the_deletion_of_its_data_do_not_pass_each_other(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    data = client.post("/v1/datasets", content=TABLE, headers=CSV).json()
    with database.write() as session:
        datasets.delete(session, data["id"], tenant="local")
    with pytest.raises(NotFoundError), database.write() as session:
        datasets.attach(session, data["id"], job.id, tenant="local")
