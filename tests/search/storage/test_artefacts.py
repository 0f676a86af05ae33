from collections.abc import Callable

import pytest

from search.records import JobRecord
from search.storage import artefacts, events, jobs, trials
from search.storage.check import check
from search.storage.database import Database
from space.architecture import Architecture
from space.errors import ConflictError, InvalidInputError, NotFoundError

REQUEST = {"formats": ["onnx"], "quantize": "int8"}


@pytest.fixture
def job(db: Database, running_job: JobRecord, architecture_of: Callable[[int], Architecture]) -> JobRecord:
    """With trials 0 and 1."""
    with db.write() as session:
        for number in range(2):
            trials.create(
                session,
                running_job.id,
                1,
                number=number,
                origin="random",
                architecture=architecture_of(number),
            )
    return running_job


def test_an_export_goes_from_queued_to_ready(db: Database, job: JobRecord) -> None:
    with db.write() as session:
        asked = artefacts.create(session, job_id=job.id, trial=1, request=REQUEST, now=2000.0)
        assert (asked.state, asked.request, asked.path) == ("queued", REQUEST, None)
        claimed = artefacts.claim_queued(session, "me", 60.0, 2001.0)
        assert claimed is not None
        assert (claimed.id, claimed.state) == (asked.id, "running")
        assert artefacts.claim_queued(session, "you", 60.0, 2002.0) is None
        report = {"max_difference": 1e-6}
        ready = artefacts.set_state(
            session,
            asked.id,
            "ready",
            path="exports/1",
            size_bytes=7,
            sha256="0" * 64,
            report=report,
            now=2003.0,
        )
        assert artefacts.get(session, asked.id) == ready
        assert artefacts.list_for_job(session, job.id, trial=1) == [ready]
        assert artefacts.list_for_job(session, job.id, trial=0) == []
        kinds = [
            event.data["state"] for event in events.after(session, job.id) if event.kind == "export.state"
        ]
    assert (ready.path, ready.size_bytes, ready.report) == ("exports/1", 7, report)
    assert ready.ended_at is not None
    assert kinds == ["queued", "running", "ready"]
    assert [fault for fault in check(db) if "I8" in fault]  # what is said to be ready has to lie there
    (db.data_dir / "exports" / "1").mkdir(parents=True)
    assert check(db) == []


def test_the_oldest_request_is_written_first(db: Database, job: JobRecord) -> None:
    with db.write() as session:
        asked = [artefacts.create(session, job_id=job.id, trial=n, request=REQUEST).id for n in (1, 0)]
        claimed = [artefacts.claim_queued(session, "me") for _ in asked]
    assert [record and record.id for record in claimed] == asked


def test_f47_an_export_whose_writer_died_is_written_by_another(db: Database, job: JobRecord) -> None:
    with db.write() as session:
        asked = artefacts.create(session, job_id=job.id, trial=0, request=REQUEST)
        artefacts.claim_queued(session, "dead", 60.0, 2000.0)
        assert artefacts.claim_queued(session, "me", 60.0, 2059.0) is None
        again = artefacts.claim_queued(session, "me", 60.0, 2060.0)
    assert again is not None
    assert again.id == asked.id
    with pytest.raises(ConflictError, match="taken over by me"), db.write() as session:
        artefacts.set_state(session, asked.id, "ready", path="exports/1", owner="dead")
    with db.write() as session:
        assert (
            artefacts.set_state(session, asked.id, "failed", message="no space", owner="me").state == "failed"
        )
    with pytest.raises(ConflictError, match="ask for a new one"), db.write() as session:
        artefacts.set_state(session, asked.id, "ready", path="exports/1")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\x00b", "a\nb"])
def test_a06_paths_stay_below_the_data_folder(db: Database, job: JobRecord, path: str) -> None:
    with db.write() as session:
        asked = artefacts.create(session, job_id=job.id, trial=0, request=REQUEST)
        with pytest.raises(InvalidInputError, match="below the data folder"):
            artefacts.set_state(session, asked.id, "ready", path=path)


def test_ready_needs_a_path(db: Database, job: JobRecord) -> None:
    with db.write() as session:
        asked = artefacts.create(session, job_id=job.id, trial=0, request=REQUEST)
        with pytest.raises(InvalidInputError, match="without the path"):
            artefacts.set_state(session, asked.id, "ready")


def test_what_is_missing_or_foreign_is_not_found(db: Database, job: JobRecord) -> None:
    with db.write() as session:
        asked = artefacts.create(session, job_id=job.id, trial=0, request=REQUEST, artefact_id="7" * 32)
        assert (
            artefacts.create(session, job_id=job.id, trial=0, request=REQUEST, artefact_id="7" * 32) == asked
        )
        assert artefacts.get(session, asked.id, tenant="local") == asked
        with pytest.raises(NotFoundError):
            artefacts.get(session, asked.id, tenant="other")
        with pytest.raises(NotFoundError):
            artefacts.set_state(session, "nothing", "failed")
        with pytest.raises(NotFoundError, match="trial 9"):
            artefacts.create(session, job_id=job.id, trial=9, request=REQUEST)


def test_f63_a_job_is_not_deleted_while_it_is_exported(db: Database, job: JobRecord) -> None:
    with db.write() as session:
        first, second = (artefacts.create(session, job_id=job.id, trial=0, request=REQUEST) for _ in range(2))
        artefacts.set_state(session, first.id, "ready", path="exports/1")
        jobs.request(session, job.id, "cancel")
        artefacts.claim_queued(session, "me")
    with pytest.raises(ConflictError, match="being exported"), db.write() as session:
        jobs.delete(session, job.id)
    with db.write() as session:
        artefacts.set_state(session, second.id, "failed")
        assert jobs.delete(session, job.id) == ["exports/1"]
