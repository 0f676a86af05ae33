import pytest

from search.storage import idempotency
from search.storage.database import Database
from search.storage.idempotency import LIFETIME_S, Reply
from space.errors import ConflictError, InvalidInputError

REPLY = Reply(202, {"id": "1" * 32})


def test_f58_a_request_sent_twice_finds_its_first_reply(db: Database) -> None:
    with db.write() as session:
        assert idempotency.find(session, "a", "key", "digest", 0.0) is None
        idempotency.store(session, "a", "key", "digest", REPLY, 0.0)
    with db.write() as session:
        assert idempotency.find(session, "a", "key", "digest", 1.0) == REPLY
        assert idempotency.find(session, "b", "key", "digest", 1.0) is None
        with pytest.raises(InvalidInputError, match="another request"):
            idempotency.find(session, "a", "key", "another digest", 1.0)


def test_f58_of_two_stored_at_once_the_second_is_told_to_look(db: Database) -> None:
    with db.write() as session:
        idempotency.store(session, "a", "key", "digest", REPLY, 0.0)
    with pytest.raises(ConflictError, match="answered meanwhile"), db.write() as session:
        idempotency.store(session, "a", "key", "digest", REPLY, 1.0)


def test_keys_live_for_a_day(db: Database) -> None:
    with db.write() as session:
        idempotency.store(session, "a", "key", "digest", REPLY, 0.0)
        assert idempotency.find(session, "a", "key", "digest", LIFETIME_S - 1.0) == REPLY
        assert idempotency.find(session, "a", "key", "other", LIFETIME_S + 1.0) is None
        idempotency.store(session, "a", "key", "other", REPLY, LIFETIME_S + 1.0)
        assert idempotency.find(session, "a", "key", "other", LIFETIME_S + 2.0) == REPLY
