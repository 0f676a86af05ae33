"""Reading trials: pages, all of a job, and its fronts."""

from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, and_, not_, or_, select
from sqlalchemy.orm import Session

from space.errors import InvalidInputError, nearest

from ..objectives import OBJECTIVES
from ..records import Page, TrialRecord, TrialState
from . import front as fronts
from . import trial_rows
from .cursors import checked_limit, decode, encode
from .fences import job_row
from .models import Architecture, Job, Trial
from .rows import trial_record

Group = Literal["search", "reference", "all"]


def list_trials(
    session: Session,
    job_id: str,
    *,
    group: Group = "search",
    state: str | None = None,
    on_front: bool | None = None,
    sort: str = "number",
    cursor: str | None = None,
    limit: int = 100,
) -> Page:
    """One page in the order of `sort`: `number`, or an objective key with the best first, unknown ones last.

    `-` before it turns the order round.

    Raises:
        NotFoundError: there is no such job.
        InvalidInputError: unknown group, state or key, bad cursor, or a limit outside 1 to 1,000.
    """
    job = job_row(session, job_id)
    query = _joined().where(Trial.job_id == job_id, *_filters(group, state, on_front))
    key = sort.removeprefix("-")
    value = _sort_column(job, key)
    is_turned = sort.startswith("-")
    if cursor is not None:
        query = query.where(_beyond(value, is_turned, cursor))
    last = Trial.number if value is None else value
    order: list[ColumnElement[Any]] = [] if value is None else [value.is_(None)]
    order.append(last.desc() if is_turned else last.asc())
    limit = checked_limit(limit)
    columns = query if value is None else query.add_columns(value)
    rows = session.execute(columns.order_by(*order, Trial.number).limit(limit + 1)).all()
    more = None
    if len(rows) > limit:
        end = rows[limit - 1]
        more = encode([None if value is None else end[2], end[0].number])
    return Page([trial_record(row[0], row[1]) for row in rows[:limit]], more)


def _joined() -> Select[Trial, Architecture]:
    """Rows as they are now: trials are also written past the ORM (`trial_rows`)."""
    joined = select(Trial, Architecture).join(Architecture, Architecture.id == Trial.architecture_id)
    return joined.execution_options(populate_existing=True)


def _filters(group: str, state: str | None, on_front: bool | None) -> list[ColumnElement[bool]]:
    if group not in get_args(Group):
        raise InvalidInputError(f"unknown group '{group}'; {nearest(group, get_args(Group))}")
    if state is not None and state not in get_args(TrialState):
        raise InvalidInputError(f"unknown trial state '{state}'; {nearest(state, get_args(TrialState))}")
    filters: list[ColumnElement[bool]] = [] if group == "all" else [fronts.in_group(group)]
    if state is not None:
        filters.append(Trial.state == state)
    if on_front is not None:
        filters.append(Trial.on_front.expression if on_front else not_(Trial.on_front))
    return filters


def _sort_column(job: Job, key: str) -> ColumnElement[Any] | None:
    """None for the number itself. Field names come from closed lists, never from the text."""
    if key == "number":
        return None
    if key not in OBJECTIVES:
        raise InvalidInputError(f"unknown sort key '{key}'; {nearest(key, ['number', *OBJECTIVES])}")
    if key in job.objectives:
        return fronts.objective_column(job.objectives.index(key)).expression
    value: ColumnElement[Any] = Trial.values[key].as_float()
    return value


def _beyond(value: ColumnElement[Any] | None, is_turned: bool, cursor: str) -> ColumnElement[bool]:
    """Rows after the cursor in the order of `list_trials`."""
    last, number = decode(cursor, 2)
    if not isinstance(number, int) or isinstance(last, str):
        raise InvalidInputError("cursor is not one this listing gave out; start again without it")
    if value is None:
        return Trial.number < number if is_turned else Trial.number > number
    if last is None:
        return and_(value.is_(None), Trial.number > number)
    further = value < last if is_turned else value > last
    return or_(further, and_(value == last, Trial.number > number), value.is_(None))


def all_trials(session: Session, job_id: str) -> list[TrialRecord]:
    """Every trial and reference of the job by number."""
    job_row(session, job_id)
    return [trial_rows.record(row) for row in trial_rows.of_job(session, job_id)]


def references(session: Session, job_id: str) -> list[TrialRecord]:
    """The references of the job, R1 first."""
    query = _joined().where(Trial.job_id == job_id, fronts.in_group("reference"))
    return [trial_record(row[0], row[1]) for row in session.execute(query.order_by(Trial.number.desc()))]


def front(
    session: Session, job_id: str, group: Literal["search", "reference"] = "search"
) -> list[TrialRecord]:
    """The flagged trials of a group, fastest (second objective) first, then by number.

    Raises:
        NotFoundError: there is no such job. (A job without counted trials has an empty front.)
    """
    job = job_row(session, job_id)
    column = fronts.objective_column(min(1, len(job.objectives) - 1))
    query = _joined().where(Trial.job_id == job_id, *_filters(group, None, True))
    return [trial_record(row[0], row[1]) for row in session.execute(query.order_by(column, Trial.number))]
