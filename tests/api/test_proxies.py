"""Proxies over HTTP: which there are, and what a job says of its own."""

from fastapi.testclient import TestClient

from evaluators.proxies import PROXIES
from search.storage import jobs
from search.storage.database import Database
from search.verdicts import KEY, ProxyVerdict, storable

FOUND = [
    ProxyVerdict("w_pca", "useful", 21, 0.61, 0.44, 0.5, 0.2, 0.72),
    ProxyVerdict("zico", "no evidence", 21, 0.44, 0.44, None, None, None),
]


def test_every_proxy_has_its_own_words(client: TestClient) -> None:
    listed = client.get("/v1/proxies").json()
    assert [one["id"] for one in listed] == [one.id for one in PROXIES]
    assert len({one["description"] for one in listed}) == len(PROXIES)
    groups = {one["id"]: one["groups"] for one in listed}
    assert (groups["depth"], groups["w_pca"], groups["zico"]) == (["A"], ["B"], ["C"])


def test_a_job_says_what_its_trainings_make_of_its_proxies(client: TestClient, database: Database) -> None:
    with database.write() as session:
        job = jobs.create(
            session,
            name="judged",
            spec={"proxies": "auto"},
            objectives=("bits_per_byte", "latency_s"),
            context={"warnings": [], **storable(FOUND, 21)},
        )
    answer = client.get(f"/v1/jobs/{job.id}").json()
    assert [(one["proxy"], one["verdict"], one["partial"]) for one in answer["proxies"]] == [
        ("w_pca", "useful", 0.5),
        ("zico", "no evidence", None),
    ]
    assert KEY not in answer["context"]


def test_a_job_without_verdicts_has_none(client: TestClient, database: Database) -> None:
    with database.write() as session:
        job = jobs.create(session, name="old", spec={}, objectives=("bits_per_byte",), context={})
    assert client.get(f"/v1/jobs/{job.id}").json()["proxies"] == []
