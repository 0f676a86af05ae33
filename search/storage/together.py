"""Several writes told to the database at once.

A coordinator writes a trial a dozen times, and on PostgreSQL half of what that costs is the way there and
back. There the writes of a transaction go as one statement, all but the last as common table expressions,
which the server executes to their end. SQLite, which is no way off and does not know such expressions, gets
them one after another. None of them reads what another one writes, and no two write the same row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Insert, Update, bindparam

Make = Callable[[str, str], Insert | Update]
"""(dialect's name, what the names of its parameters begin with) -> a statement; always the same function for
the same statement, which is kept."""
Write = tuple[Make, Mapping[str, Any]]
"""A statement and its parameters, without what their names begin with."""


def named(columns: Iterable[str], prefix: str) -> dict[str, BindParameter[Any]]:
    """A parameter for each column."""
    return {column: bindparam(prefix + column) for column in columns}


def write_together(connection: Connection, writes: Sequence[Write]) -> None:
    """In one statement on PostgreSQL."""
    if connection.dialect.name != "postgresql" or len(writes) < 2:
        write_in_turn(connection, writes)
        return
    numbered = {
        f"w{place}_{name}": value
        for place, (_, parameters) in enumerate(writes)
        for name, value in parameters.items()
    }
    connection.execute(_as_one(tuple(make for make, _ in writes)), numbered)


def write_in_turn(connection: Connection, writes: Sequence[Write]) -> None:
    """The same, statement by statement."""
    for make, parameters in writes:
        connection.execute(_alone(make, connection.dialect.name), parameters)


@cache
def _alone(make: Make, dialect: str) -> Insert | Update:
    return make(dialect, "")


@cache
def _as_one(makes: tuple[Make, ...]) -> Insert | Update:
    *others, last = (make("postgresql", f"w{place}_") for place, make in enumerate(makes))
    return last.add_cte(*(other.cte(f"w{place}") for place, other in enumerate(others)))
