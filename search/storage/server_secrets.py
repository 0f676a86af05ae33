"""Random bytes that every server of a database shares, so that what one has signed another can check."""

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from .models import ServerSecret
from .upsert import insert_new


def shared(session: Session, name: str) -> bytes:
    """32 random bytes under this name, made once; needs a transaction that writes the first time."""
    query = select(ServerSecret.value).where(ServerSecret.name == name)
    value = session.scalar(query)
    if value is None:
        insert_new(session, ServerSecret, name=name, value=secrets.token_hex(32))
        value = session.scalars(query).one()
    return bytes.fromhex(value)
