"""What a page, a report or `--json` needs of a job, read in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from dashboards import PlannedBlock
from search.records import JobRecord, MeasurementRecord, TrialRecord
from search.storage import events, measurements, trials

_LATENCY = ("latency_s",)
_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Gathered:
    """A job with its rows."""

    job: JobRecord
    trials: Sequence[TrialRecord]
    references: Sequence[TrialRecord]
    latencies: Mapping[str, Sequence[MeasurementRecord]]
    """Latency measurements by architecture id."""
    warnings: Sequence[str]
    last_seq: int


def gather(session: Session, job: JobRecord) -> Gathered:
    """Everything of a job that its page shows."""
    rows = trials.all_trials(session, job.id)
    timed = [row for row in rows if row.kinds.get("latency_s") == "measured"]
    return Gathered(
        job=job,
        trials=[row for row in rows if row.number >= 0],
        references=sorted((row for row in rows if row.number < 0), key=lambda row: -row.number),
        latencies={
            row.architecture_id: [
                record
                for record in measurements.for_subject(session, row.architecture_id)
                if record.quantity in _LATENCY
            ]
            for row in timed
        },
        warnings=_warnings(session, job.id),
        last_seq=events.last_seq(session, job.id),
    )


def _warnings(session: Session, job_id: str) -> list[str]:
    """Messages of the job's warning events, each once, in order."""
    found: dict[str, None] = {}
    seq = 0
    while page := events.after(session, job_id, seq, _EVENTS):
        found |= {
            str(event.data["message"]): None
            for event in page
            if event.kind == "warning" and event.data.get("message")
        }
        seq = page[-1].seq
    return list(found)


def of_trial(session: Session, trial: TrialRecord) -> list[MeasurementRecord]:
    """Measurements of a trial's architecture, and of the fp32 form its training belongs to."""
    subjects = dict.fromkeys((trial.architecture_id, trial.training_id))
    return [record for subject in subjects for record in measurements.for_subject(session, subject)]


def of_blocks(session: Session, plan: Sequence[PlannedBlock]) -> dict[str, list[MeasurementRecord]]:
    """Measurements of the blocks of an architecture, by block id."""
    return {block.id: list(measurements.for_subject(session, block.id)) for block in plan}
