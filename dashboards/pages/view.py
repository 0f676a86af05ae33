"""The moving part of a job page as one JSON value: embedded in the page, fetched again after each event."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from markupsafe import escape

from search.records import JobRecord, TrialRecord

from .. import summary
from ..cloud import Many
from ..exploring import COSTS
from ..filter_table import filter_rows
from ..job_charts import Measurements, job_charts, tally_inside
from ..points import columns, finalist_columns, finalist_rows, rows
from ..proxy_table import line_words, proxy_rows, waiting_words
from ..ranks import rank_words
from ..region import EVERYTHING
from ..selection import Selection, default_selection
from ..strip import strip_key
from ..wording import actions, is_over, label
from .environment import render
from .twin import twin_html

EMPTY_FRONT = "No trial has been trained to the last rung and measured whole yet."
EMPTY_INSIDE = "No member of the front lies inside the filter."
EMPTY_FINALISTS = (
    "When the search is done, front members and references are trained again with several seeds."
)
NO_FINALISTS = "No trial of this job was trained again."
EMPTY_REFERENCES = "The references come first; none is there yet."


def view(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    *,
    measurements: Measurements | None = None,
    curves: Measurements | None = None,
    warnings: Sequence[str] = (),
    last_seq: int = 0,
    now: dt.datetime | None = None,
    selection: Selection | None = None,
    many: Many | None = None,
) -> dict[str, Any]:
    """Figures as Plotly JSON, tables as HTML, and what the script must know; plain JSON throughout.

    `measurements`: latency measurements by architecture id. `curves`: validation values by training id.
    `warnings`: messages of `warning` events. `last_seq`: the event this view has seen, from which the page
    listens on. `selection`: what the reader chose to see. `many`: where `trials` are only some of all.
    """
    now = now or dt.datetime.now(dt.UTC)
    chosen = selection or default_selection(job)
    charts = job_charts(job, trials, references, measurements, chosen, curves=curves, many=many)
    state = summary.status(job, trials, references, now, many.tally if many else None)
    return {
        "job": {"id": job.id, "state": job.state, "stage": job.stage, "version": job.version},
        "over": is_over(job),
        "last_seq": last_seq,
        "actions": list(actions(job.state)),
        "summary": {
            "done": state.done,
            "budget": state.budget,
            "front_size": sum(trial.on_front for trial in trials),
            "hypervolume": job.indicators.get("hypervolume"),
        },
        "query": chosen.query(job),
        "explore": explore_query(job, chosen),
        "is_thinned": many is not None,
        "figures": {name: chart.figure.to_plotly_json() for name, chart in charts.items()},
        "html": {
            **fragments(
                job, trials, references, state, warnings=warnings, links=True, many=many, chosen=chosen
            ),
            "region": region_html(job, (*trials, *references), chosen, many),
            **{f"twin_{name}": twin_html(chart) for name, chart in charts.items()},
            "front_note": str(escape(charts["front"].note)),
        },
    }


def fragments(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    state: summary.Status,
    *,
    warnings: Sequence[str] = (),
    links: bool,
    many: Many | None = None,
    chosen: Selection | None = None,
) -> dict[str, str]:
    """The parts of a job page as HTML, by name; `links` leads to trial pages."""
    selection = chosen or default_selection(job)
    region = selection.region
    front = [trial for trial in region.inside(trials) if trial.on_front]
    shared = {"job_id": job.id, "links": links, "columns": [label(key) for key in columns(job)]}
    judged = proxy_rows(job)
    tally = tally_inside(job, (*trials, *references), selection, many)
    known = [*dict.fromkeys([*(job.context.get("warnings") or ()), *warnings])]
    return {
        "banners": render("fragments/banners.html", s=state, warnings=known),
        "status": render("fragments/status.html", s=state),
        "stats": render("fragments/stats.html", stats=summary.stats(job, trials)),
        "gain": render("fragments/gain.html", lines=summary.speedup_lines(job), stage=job.stage),
        "suggestions": render(
            "fragments/suggestions.html", suggestions=summary.suggestions(job, trials), **shared
        ),
        "front_table": render(
            "fragments/front_table.html",
            rows=rows(job, front),
            empty=EMPTY_INSIDE if region else EMPTY_FRONT,
            **shared,
        ),
        "strip_key": render(
            "fragments/strip_key.html",
            strip_key=strip_key(trial.architecture for trial in (*front, *references)),
        ),
        "reference_table": render(
            "fragments/front_table.html", rows=rows(job, references), empty=EMPTY_REFERENCES, **shared
        ),
        "finalists": render(
            "fragments/front_table.html",
            **{**shared, "columns": finalist_columns(job)},
            rows=finalist_rows(job, [*trials, *references]),
            empty=NO_FINALISTS if is_over(job) else EMPTY_FINALISTS,
        )
        + render("fragments/rank_words.html", words=rank_words(job)),
        "outcomes": render(
            "fragments/outcomes.html",
            outcomes=summary.outcomes(job, tally),
            failures=summary.failures(tally.failed),
            **shared,
        )
        + render("fragments/filters.html", rows=filter_rows(job)),
        "proxies": render(
            "fragments/proxies.html", rows=judged, waiting=waiting_words(judged), line=line_words(job)
        ),
    }


def region_html(
    job: JobRecord, everything: Sequence[TrialRecord], chosen: Selection, many: Many | None
) -> str:
    """What the charts are filtered by, how much lies inside, and the way back to all of it."""
    tally = tally_inside(job, everything, chosen, many)
    whole = many.tally.total if many else sum(one.number >= 0 for one in everything)
    plain = replace(chosen, region=EVERYTHING)
    return render(
        "fragments/region.html",
        words=[bound.words for bound in chosen.region.bounds],
        inside=tally.total,
        whole=whole,
        clear=f"/jobs/{job.id}{plain.query(job)}",
    )


def explore_query(job: JobRecord, chosen: Selection) -> str:
    """The part of the filter that the page of all trials has too."""
    shared = {f"{end}.{key}" for key in (*job.objectives, *COSTS) for end in ("min", "max")}
    fields = [(name, text) for name, text in chosen.region.fields() if name in shared]
    return f"?{urlencode(fields)}" if fields else ""
