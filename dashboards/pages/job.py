"""The page of one job: its front as it grows, what it means, and what may be asked of the job."""

from collections.abc import Mapping
from typing import Any

import yaml

from search.records import JobRecord

from .. import summary
from ..theme import dark_colours
from ..wording import ACTION_MEANING
from .environment import render


def job_page(job: JobRecord, view: Mapping[str, Any], *, csrf: str = "") -> str:
    """HTML of `/jobs/{id}`; `view` is that of `dashboards.view`."""
    return render(
        "job.html",
        job=job,
        view=view,
        csrf=csrf,
        all_actions=[{"name": name, "meaning": meaning} for name, meaning in ACTION_MEANING.items()],
        facts=summary.facts(job),
        conditions=summary.conditions(job),
        spec_text=spec_text(job),
        theme=dark_colours(),
    )


def spec_text(job: JobRecord) -> str:
    """The job file with defaults filled in, as YAML."""
    return yaml.safe_dump(dict(job.spec), sort_keys=False, allow_unicode=True, width=100)
