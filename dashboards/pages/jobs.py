"""The list of jobs, newest first, and the first page a new user sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from search.records import FINAL_JOB_STATES, JobRecord, Page

from ..figures.progress import progress_rows
from ..sparkline import draw_sparkline
from ..summary import gain_words, speedup_lines, target_words
from .environment import render


@dataclass(frozen=True, slots=True)
class JobRow:
    """One line of the list."""

    id: str
    name: str
    state: str
    task: str
    target: str
    gain: str
    speedup: str
    created: datetime
    growth: str
    """SVG text of the sparkline."""
    done: int
    budget: int

    @property
    def percent(self) -> int:
        return round(100 * min(1.0, self.done / self.budget))


def jobs_page(
    jobs: Page,
    counts: Mapping[str, int],
    *,
    ended: Mapping[str, int] | None = None,
    example: str = "",
    csrf: str = "",
    state: str | None = None,
    query: str = "",
    is_first: bool = True,
) -> str:
    """HTML of `/`. `counts`: jobs per state. `state` and `query` are the filters that made this slice.

    `ended`: search trials that have ended, by job id. `is_first`: this slice is the newest.

    `example`: YAML of the quickstart job, for the button of the empty page.
    """
    known = {name: count for name, count in counts.items() if count}
    return render(
        "jobs.html",
        here="jobs",
        rows=[job_row(job, (ended or {}).get(job.id, 0)) for job in jobs.items],
        is_first=is_first,
        next_cursor=jobs.next_cursor,
        counts=sorted(known.items()),
        total=sum(known.values()),
        is_empty=not known and not jobs.items and not state and not query,
        is_live=any(job.state not in FINAL_JOB_STATES for job in jobs.items),
        example=example,
        csrf=csrf,
        state=state or "",
        query=query,
    )


def job_row(job: JobRecord, done: int = 0) -> JobRow:
    """A job in one line; `done`: trials that have ended."""
    gain = job.indicators.get("hypervolume_gain")
    lines = speedup_lines(job)
    return JobRow(
        id=job.id,
        name=job.name,
        state=job.state,
        task=f"{job.spec['task']['kind']}, {job.spec['task']['dataset']}",
        target=target_words(job),
        gain="–" if gain is None else gain_words(gain),
        speedup=lines[0][1] if lines else "–",
        created=job.created_at,
        growth=draw_sparkline(progress_rows(job), job.indicators.get("reference_hypervolume")),
        done=done,
        budget=int(job.spec["budget"]["trials"]),
    )
