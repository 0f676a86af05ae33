"""The page of one job: its front as it grows, what it means, and what may be asked of the job."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from search.objectives import OBJECTIVES
from search.records import JobRecord

from .. import summary
from ..selection import OVER_WORDS, Selection, default_selection
from ..theme import dark_colours
from ..wording import ACTION_MEANING
from .environment import render


def job_page(
    job: JobRecord,
    view: Mapping[str, Any],
    *,
    csrf: str = "",
    selection: Selection | None = None,
    axis_keys: tuple[Sequence[str], Sequence[str]] | None = None,
) -> str:
    """HTML of `/jobs/{id}`; `view` is that of `dashboards.view` for the same selection.

    `axis_keys`: objectives and other quantities one may put on an axis.
    """
    keys = axis_keys or (job.objectives, ())
    return render(
        "job.html",
        job=job,
        view=view,
        data={name: part for name, part in view.items() if name != "html"},
        csrf=csrf,
        all_actions=[{"name": name, "meaning": meaning} for name, meaning in ACTION_MEANING.items()],
        facts=summary.facts(job),
        conditions=summary.conditions(job),
        spec_text=spec_text(job),
        chosen=selection or default_selection(job),
        axes=[[(key, OBJECTIVES[key].label) for key in group] for group in keys],
        over_words=OVER_WORDS,
        theme=dark_colours(),
    )


def spec_text(job: JobRecord) -> str:
    """The job file with defaults filled in, as YAML."""
    return yaml.safe_dump(dict(job.spec), sort_keys=False, allow_unicode=True, width=100)
