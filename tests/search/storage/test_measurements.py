import datetime as dt
from dataclasses import replace

import pytest

from search.records import MeasurementRecord
from search.storage import measurements
from search.storage.database import Database
from space.errors import InvalidInputError

RECORD = MeasurementRecord(
    subject="a" * 32,
    quantity="latency_s",
    fingerprint="f" * 32,
    fidelity=0,
    seed=0,
    value=0.1 + 0.2,
    unit="s",
    kind="measured",
    status="ok",
    spread=1e-7,
    repeats=20,
    execution="real",
    flags=("contended", "noisy"),
    wall_s=0.5,
    detail={"quantiles": {"10": 1e22, "50": 1e-300}, "threads": 1},
    device_key="cpu",
    created_at=dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC),
)


def test_a_measurement_comes_back_bit_for_bit(db: Database) -> None:
    with db.write() as session:
        assert measurements.put(session, RECORD) == RECORD
    with db.read() as session:
        assert measurements.for_subject(session, RECORD.subject) == [RECORD]


def test_the_first_value_of_a_key_stays(db: Database) -> None:
    with db.write() as session:
        measurements.put(session, RECORD)
    with db.write() as session:
        assert measurements.put(session, replace(RECORD, value=9.0)).value == RECORD.value
        assert measurements.put(session, replace(RECORD, value=9.0, fidelity=75)).value == 9.0
        assert measurements.put(session, replace(RECORD, value=8.0, seed=1)).value == 8.0
        assert len(measurements.for_subject(session, RECORD.subject)) == 3


def test_times_in_other_zones_come_back_as_the_same_moment(db: Database) -> None:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    with db.write() as session:
        stored = measurements.put(session, replace(RECORD, created_at=RECORD.created_at.astimezone(zone)))
    assert stored.created_at == RECORD.created_at
    assert stored.created_at.utcoffset() == dt.timedelta(0)


def test_many_subjects_are_found_at_once(db: Database) -> None:
    subjects = [f"{number:032x}" for number in range(1200)]
    with db.write() as session:
        for subject in subjects[::100]:
            measurements.put(session, replace(RECORD, subject=subject))
    with db.read() as session:
        found = measurements.find_many(session, subjects, "latency_s", RECORD.fingerprint)
        assert sorted(found) == subjects[::100]
        assert measurements.find(session, subjects[1], "latency_s", RECORD.fingerprint) is None
        assert measurements.find(session, subjects[0], "latency_s", RECORD.fingerprint, fidelity=1) is None


@pytest.mark.parametrize(
    "bad",
    [
        replace(RECORD, value=float("nan")),
        replace(RECORD, value=float("inf")),
        replace(RECORD, spread=float("nan")),
        replace(RECORD, detail={"curve": [1.0, float("-inf")]}),
        replace(RECORD, detail={"model": object()}),
        replace(RECORD, value=None),
        replace(RECORD, status="nan"),
    ],
)
def test_what_is_not_finite_or_contradicts_itself_is_refused(
    sqlite: Database, bad: MeasurementRecord
) -> None:
    with pytest.raises(InvalidInputError), sqlite.write() as session:
        measurements.put(session, bad)
    with sqlite.read() as session:
        assert measurements.for_subject(session, RECORD.subject) == []


def test_a_failed_measurement_has_a_status_and_no_value(db: Database) -> None:
    with db.write() as session:
        stored = measurements.put(session, replace(RECORD, value=None, status="unsupported", spread=None))
    assert (stored.value, stored.status) == (None, "unsupported")
