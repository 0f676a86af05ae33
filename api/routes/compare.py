"""Trials side by side: the page, and the way from ticked boxes to its permalink."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from dashboards import compare_page
from evaluators.training import Paired
from search.pairs import paired_quality
from search.records import JobRecord, MeasurementRecord, TrialRecord
from search.storage import jobs, trials
from space.errors import InvalidInputError

from ..deps import ServicesDep, TenantDep
from ..gathering import of_trial

router = APIRouter(include_in_schema=False)

MOST = 4
_LABEL = re.compile(r"(R|-)?([0-9]{1,9})")

Names = Query(alias="trials", max_length=50, default_factory=list)
"""Numbers, `R1` for a reference; repeated or with commas."""
Milliseconds = Annotated[str, Query(max_length=30)]


@router.get("/jobs/{job_id}/compare", response_model=None)
def compare(
    request: Request,
    job_id: str,
    held: ServicesDep,
    tenant: TenantDep,
    names: Annotated[list[str], Names],
    fits_ms: Milliseconds = "",
) -> Response:
    """Ticked boxes come as one field each and lead to the address with all of them in one."""
    numbers = trial_numbers(names)
    if len(names) > 1:
        query = {"trials": ",".join(_label(number) for number in numbers)}
        query |= {"fits_ms": fits_ms} if fits_ms else {}
        return RedirectResponse(f"/jobs/{job_id}/compare?{urlencode(query, safe=',')}", 303)
    limit = milliseconds(fits_ms)
    with held.database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        chosen = chosen_trials(session, job, numbers)
        measured = measurements_of(session, chosen)
        candidates = fronts(session, job)
    paired = paired_with_first(held.database.data_dir / "training", chosen, measured)
    cookie = held.forms.cookie(request)
    answer = HTMLResponse(
        compare_page(
            job, chosen, measured, candidates,
            limit_ms=limit, paired=paired, csrf=held.forms.token(cookie),
        )
    )  # fmt: skip
    held.forms.keep(answer, cookie)
    return answer


def trial_numbers(texts: Sequence[str]) -> list[int]:
    """`["3", "R1,7"]` -> [3, -1, 7], each once.

    Raises:
        InvalidInputError: no trial, more than four, or what is no trial's name.
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    numbers: dict[int, None] = {}
    for name in names:
        found = _LABEL.fullmatch(name)
        if found is None:
            raise InvalidInputError(
                f"trials='{name[:40]}' names no trial", hint="write ?trials=3,7 or, for a reference, R1"
            )
        numbers[-int(found[2]) if found[1] else int(found[2])] = None
    if not 1 <= len(numbers) <= MOST:
        raise InvalidInputError(
            f"{len(numbers)} trials are named; the page shows 1 to {MOST} of them side by side",
            hint="go back and tick two to four boxes of a table",
        )
    return list(numbers)


def milliseconds(text: str) -> float | None:
    """
    Raises:
        InvalidInputError: not a number above 0.
    """
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InvalidInputError(f"fits_ms='{text[:30]}' is no latency; write milliseconds, as fits_ms=10")
    return value


def chosen_trials(session: Session, job: JobRecord, numbers: Sequence[int]) -> list[TrialRecord]:
    return [trials.get(session, job.id, number) for number in numbers]


def measurements_of(session: Session, chosen: Sequence[TrialRecord]) -> dict[int, list[MeasurementRecord]]:
    return {trial.number: of_trial(session, trial) for trial in chosen}


def paired_with_first(
    folder: Path,
    chosen: Sequence[TrialRecord],
    measured: Mapping[int, Sequence[MeasurementRecord]],
) -> dict[int, Paired]:
    """By trial number: losses less those of the first trial, example by example."""
    first, *others = [(trial.number, measured[trial.number]) for trial in chosen]
    found = {number: paired_quality(folder, rows, first[1]) for number, rows in others}
    return {number: paired for number, paired in found.items() if paired is not None}


def fronts(session: Session, job: JobRecord) -> list[TrialRecord]:
    """What nothing beats, of the search and of the references."""
    return [*trials.front(session, job.id, "search"), *trials.front(session, job.id, "reference")]


def _label(number: int) -> str:
    return f"R{-number}" if number < 0 else str(number)
