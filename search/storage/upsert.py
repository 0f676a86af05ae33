"""Insert unless a unique constraint says the row is there: the same statement on both engines."""

from functools import cache
from typing import Any

from sqlalchemy import Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from .models import Base


def insert_new(session: Session, table: type[Base], **values: Any) -> None:
    """The first row wins; a repetition changes nothing."""
    session.flush()  # rows it may refer to
    session.connection().execute(new_row(table, session.get_bind().dialect.name), values)


@cache
def new_row(table: type[Base], dialect: str) -> Insert:
    """The statement."""
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
