"""The page of one job: its front as it grows, what it means, and what may be asked of the job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from search.objectives import OBJECTIVES
from search.records import JobRecord

from .. import summary
from ..region import TRIAL, Region
from ..selection import OVER_WORDS, Selection, default_selection
from ..theme import dark_colours
from ..wording import ACTION_MEANING, axis_title
from .environment import render

USUAL = ("params", "memory_bytes", "macs", "weights_bytes")
"""Filtered by beside the objectives; of the others one asks in the address."""


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
    shown = selection or default_selection(job)
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
        chosen=shown,
        bounds=_bound_fields(keys, shown.region),
        axes=[[(key, OBJECTIVES[key].label) for key in group] for group in keys],
        over_words=OVER_WORDS,
        theme=dark_colours(),
    )


@dataclass(frozen=True, slots=True)
class BoundField:
    """The filter of one quantity, as two fields of a form."""

    key: str
    title: str
    low: str
    high: str


def _bound_fields(keys: tuple[Sequence[str], Sequence[str]], region: Region) -> list[BoundField]:
    """Those one may put on an axis, those that are filtered by, and the trial's number."""
    filtered = (bound.key for bound in region.bounds if bound.key != TRIAL)
    shown = dict.fromkeys((*keys[0], *(key for key in keys[1] if key in USUAL), *filtered))
    titles = {**{key: axis_title(key) for key in shown}, TRIAL: "trial number"}
    return [
        BoundField(key, title, region.value("min", key), region.value("max", key))
        for key, title in titles.items()
    ]


def spec_text(job: JobRecord) -> str:
    """The job file with defaults filled in, as YAML."""
    return yaml.safe_dump(dict(job.spec), sort_keys=False, allow_unicode=True, width=100)
