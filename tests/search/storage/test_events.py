import pytest

from search.records import JobRecord
from search.storage import events
from search.storage.database import Database
from space.errors import InvalidInputError, NotFoundError


def test_events_are_numbered_without_gaps_and_read_on_from_any_number(
    db: Database, running_job: JobRecord
) -> None:
    job_id = running_job.id
    for turn in range(5):
        with db.write() as session:
            assert events.append(session, job_id, "warning", turn, {"turn": turn}, 1010.0 + turn) == 3 + turn
    with db.read() as session:
        assert events.last_seq(session, job_id) == 7
        assert [event.seq for event in events.after(session, job_id, 4)] == [5, 6, 7]
        assert [event.seq for event in events.after(session, job_id, 0, limit=2)] == [1, 2]
        newest = events.after(session, job_id, 6)[0]
        assert events.after(session, job_id, 7) == []
        assert events.after(session, "nothing") == []
    assert (newest.kind, newest.trial, newest.data, newest.at.timestamp()) == (
        "warning",
        4,
        {"turn": 4},
        1014.0,
    )


def test_a_number_of_an_undone_transaction_is_used_again(db: Database, running_job: JobRecord) -> None:
    def fail() -> None:
        with db.write() as session:
            events.append(session, running_job.id, "warning")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with db.write() as session:
        assert events.append(session, running_job.id, "warning") == 3


def test_f40_what_is_not_finite_does_not_get_into_a_stream(db: Database, running_job: JobRecord) -> None:
    with db.write() as session:
        with pytest.raises(InvalidInputError, match=r"event\.loss=nan"):
            events.append(session, running_job.id, "warning", 0, {"loss": float("nan")})
        with pytest.raises(NotFoundError):
            events.append(session, "nothing", "warning")
