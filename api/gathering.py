"""What a page, a report or `--json` needs of a job, read in one transaction.

Of a job with more than `WHOLE` trials only some are read: the fronts, the references, what was trained again,
and the marks of the view; the rest is counted in the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from dashboards import Many, PlannedBlock, Selection, Thinned, default_selection, report_html, thinned_plane
from search.records import JobRecord, MeasurementRecord, TrialRecord
from search.storage import events, measurements, overviews, trials
from search.tally import Tally, rungs_of

from .remembered import remembered

WHOLE = 3000
"""Trials of a job that are all read."""
SAMPLE = 1000
"""Trials that gene importance is computed from where not all are read."""
MOST_TIMED = 500
"""Trials whose predicted and measured latencies are compared."""
MOST_STOPPED = 200


@dataclass(frozen=True, slots=True)
class Gathered:
    """A job with its rows."""

    job: JobRecord
    trials: Sequence[TrialRecord]
    references: Sequence[TrialRecord]
    latencies: Mapping[str, Sequence[MeasurementRecord]]
    """Latency measurements by architecture id."""
    curves: Mapping[str, Sequence[MeasurementRecord]]
    """Validation values of the trainings, by training id."""
    warnings: Sequence[str]
    last_seq: int
    many: Many | None
    """Where `trials` are not all of them."""


def gather(session: Session, job: JobRecord, selection: Selection | None = None) -> Gathered:
    """Everything of a job that its page shows under `selection`."""
    chosen = selection or default_selection(job)
    if overviews.count(session, job.id) <= WHOLE:
        many, rows = None, trials.all_trials(session, job.id)
    else:
        many, rows = _many(session, job, chosen)
    timed = [row.architecture_id for row in rows if row.kinds.get("latency_s") == "measured"]
    learned = [row.training_id for row in rows if row.on_front or row.number < 0 or many is None]
    return Gathered(
        job=job,
        trials=[row for row in rows if row.number >= 0],
        references=sorted((row for row in rows if row.number < 0), key=lambda row: -row.number),
        latencies=overviews.measured_values(session, _evenly(timed, MOST_TIMED), "latency_s"),
        curves=overviews.measured_values(session, _evenly(learned, MOST_TIMED), job.objectives[0]),
        warnings=overviews.warnings(session, job.id),
        last_seq=events.last_seq(session, job.id),
        many=many,
    )


def gather_front(session: Session, job: JobRecord, chosen: Selection) -> Gathered:
    """Only what the figure of the front shows, for a view that moves."""
    if overviews.count(session, job.id) <= WHOLE:
        return gather(session, job, chosen)
    cloud, stopped, rows = _viewed(session, job, chosen)
    none = Tally({}, {}, (), 0, 0, 0, 0, ())
    return Gathered(
        job=job,
        trials=[row for row in rows if row.number >= 0],
        references=[row for row in rows if row.number < 0],
        latencies={},
        curves={},
        warnings=(),
        last_seq=0,
        many=Many(none, (), (), cloud, stopped),
    )


def report_of(rows: Gathered) -> str:
    """One offline page with everything of a job."""
    return report_html(
        rows.job,
        rows.trials,
        rows.references,
        measurements=rows.latencies,
        curves=rows.curves,
        warnings=rows.warnings,
        many=rows.many,
    )


def _many(session: Session, job: JobRecord, chosen: Selection) -> tuple[Many, list[TrialRecord]]:
    cloud, stopped, rows = _viewed(session, job, chosen)
    rungs, within = rungs_of(job), chosen.region.within()
    many = Many(
        tally=remembered(session, job, "tally", lambda: overviews.tally(session, job.id, rungs)),
        endings=remembered(session, job, "endings", lambda: overviews.endings(session, job.id))
        if chosen.over != "trials"
        else (),
        sample=remembered(
            session,
            job,
            ("sample", within),
            lambda: overviews.spread_completed(session, job.id, SAMPLE, within),
        ),
        cloud=cloud,
        stopped=stopped,
        inside=remembered(
            session, job, ("tally", within), lambda: overviews.tally(session, job.id, rungs, within)
        )
        if within
        else None,
    )
    return many, rows


def _viewed(
    session: Session, job: JobRecord, chosen: Selection
) -> tuple[Thinned, Thinned, list[TrialRecord]]:
    """What of the dominated and of the stopped trials is drawn, and the rows of all marks."""
    plane = remembered(
        session,
        job,
        ("plane", chosen.x, chosen.y),
        lambda: overviews.plane(session, job.id, chosen.x, chosen.y),
    )
    inside = np.ones(len(plane.number), dtype=bool)
    if within := chosen.region.within():
        numbers = remembered(
            session, job, ("inside", within), lambda: overviews.inside(session, job.id, within)
        )
        inside = np.isin(plane.number, numbers)
    dominated = plane.completed & ~plane.on_front & inside
    cloud = thinned_plane(chosen, plane.number, plane.x, plane.y, dominated)
    stopped = thinned_plane(chosen, plane.number, plane.x, plane.y, ~plane.completed & inside, MOST_STOPPED)
    notable = remembered(session, job, "notable", lambda: overviews.notable(session, job.id))
    drawn = [*notable, *cloud.numbers, *stopped.numbers]
    return cloud, stopped, overviews.numbered(session, job.id, drawn)


def _evenly(subjects: Sequence[str], limit: int) -> list[str]:
    places = np.linspace(0, len(subjects) - 1, min(limit, len(subjects))).round().astype(int)
    return [subjects[place] for place in places]


def of_trial(session: Session, trial: TrialRecord) -> list[MeasurementRecord]:
    """Measurements of a trial's architecture, and of the fp32 form its training belongs to."""
    subjects = dict.fromkeys((trial.architecture_id, trial.training_id))
    return [record for subject in subjects for record in measurements.for_subject(session, subject)]


def of_blocks(session: Session, plan: Sequence[PlannedBlock]) -> dict[str, list[MeasurementRecord]]:
    """Measurements of the blocks of an architecture, by block id."""
    return {block.id: list(measurements.for_subject(session, block.id)) for block in plan}
