import pytest
from sqlalchemy import select

from search.storage import keys
from search.storage.database import Database
from search.storage.models import ApiKey
from space.errors import NotFoundError


def test_only_the_secret_opens_and_it_is_not_stored(db: Database) -> None:
    with db.write() as session:
        record, secret = keys.create(session, name="laptop", tenant="a")
        other, _ = keys.create(session, name="server", tenant="b")
    assert secret.startswith(f"pf_{record.id}_")
    assert len(secret) >= 3 + 8 + 1 + 43  # 256 random bits
    with db.read() as session:
        assert keys.verify(session, secret) == record
        assert keys.list_keys(session) == [record, other]
        assert keys.list_keys(session, tenant="b") == [other]
        row = session.scalars(select(ApiKey).where(ApiKey.id == record.id)).one()
        assert secret not in repr(vars(row))
        assert secret.split("_", 2)[2] not in repr(vars(row))


@pytest.mark.parametrize(
    "wrong",
    ["", "pf", "pf__", "pf_\x00_x", "pf_é_x", "\ud800", "Bearer", "pf_00000000_" + "A" * 43, "x" * 10_000],
)
def test_nothing_else_opens(db: Database, wrong: str) -> None:
    with db.write() as session:
        record, secret = keys.create(session, name="laptop")
        assert keys.verify(session, wrong) is None
        assert keys.verify(session, secret[:-1]) is None
        assert keys.verify(session, secret + " ") is None
        assert keys.verify(session, f"pf_{record.id}_{wrong}") is None


def test_a17_a_revoked_key_does_not_open_any_more(db: Database) -> None:
    with db.write() as session:
        record, secret = keys.create(session, name="laptop")
        revoked = keys.revoke(session, record.id, 5000.0)
        assert revoked.revoked_at is not None
        assert keys.verify(session, secret) is None
        assert keys.revoke(session, record.id, 6000.0) == revoked
        with pytest.raises(NotFoundError, match="does not exist"):
            keys.revoke(session, "nothing")
