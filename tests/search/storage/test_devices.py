import pytest

from search.storage import devices
from search.storage.database import Database
from space.errors import InvalidInputError, NotFoundError


def test_facts_of_a_device_are_brought_up_to_date(db: Database) -> None:
    with db.write() as session:
        devices.put(session, "cpu-b", {"cores": 2, "reference_s": 0.001}, now=1000.0)
        devices.put(session, "cpu-a", {"cores": 4}, now=1000.0)
        changed = devices.put(session, "cpu-b", {"reference_s": 0.002}, now=1500.0)
    assert changed.facts == {"cores": 2, "reference_s": 0.002}
    assert (changed.created_at.timestamp(), changed.updated_at.timestamp()) == (1000.0, 1500.0)
    with db.read() as session:
        assert devices.get(session, "cpu-b") == changed
        assert [device.key for device in devices.list_devices(session)] == ["cpu-a", "cpu-b"]
        with pytest.raises(NotFoundError, match="does not exist"):
            devices.get(session, "gpu")


def test_facts_are_finite(sqlite: Database) -> None:
    with sqlite.write() as session, pytest.raises(InvalidInputError, match=r"facts\.reference_s"):
        devices.put(session, "cpu", {"reference_s": float("inf")})
