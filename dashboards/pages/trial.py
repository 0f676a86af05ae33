"""The page of one trial: the architecture drawn, its numbers with their origin, and the model to take."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from search.gene_values import number_format
from search.objectives import OBJECTIVES
from search.records import (
    FINAL_TRIAL_STATES,
    ArtefactRecord,
    JobRecord,
    LoggedWork,
    MeasurementRecord,
    TrialRecord,
)

from ..architecture_words import in_words
from ..charts import Chart
from ..differences import changes
from ..drawing import draw_architecture
from ..exporting import USUAL, export_formats, export_numbers
from ..points import Cell, cell, number_cell
from ..reasons import front_reason, front_rival
from ..summary import target_words
from ..theme import dark_colours
from ..trial_charts import trial_charts
from ..trial_log import SHOWN_LINES, log_lines
from ..wording import (
    ORIGIN_WORDS,
    REASON_WORDS,
    describe,
    format_word,
    is_over,
    label,
    shown,
)
from .environment import render
from .exports import export_row
from .snippet import export_command, usages
from .twin import twin_html

CONDITIONS = ("threads", "batch_size", "length", "phase")
"""Of a latency measurement, shown beside the runtime."""


@dataclass(frozen=True, slots=True)
class NumberRow:
    """One quantity of a trial: search value, and where there is one the finalist's and the test part's."""

    name: str
    cells: tuple[Cell, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """One stored measurement as the table shows it."""

    quantity: str
    value: str
    spread: str
    kind: str
    execution: str
    flags: tuple[str, ...]
    steps: str
    seed: int
    repeats: int
    conditions: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Relative:
    """A parent or descendant, and what changed from the parent to the child."""

    number: int
    label: str
    what: str
    changes: tuple[str, ...] = ()
    more: int = 0


def trial_page(
    job: JobRecord,
    trial: TrialRecord,
    measurements: Sequence[MeasurementRecord],
    exports: Sequence[ArtefactRecord],
    *,
    trials: Sequence[TrialRecord] = (),
    charts: Mapping[str, Chart] | None = None,
    logs: Sequence[LoggedWork] = (),
    csrf: str = "",
) -> str:
    """HTML of `/jobs/{id}/trials/{number}`.

    `measurements`: those of its architecture and of its training id. `trials`: the others of its group
    (search or reference), for the reason it is or is not on the front and for its relatives. `charts`: those
    of `trial_charts`, by default without the measurements of blocks. `logs`: what workers logged about it.
    """
    shown_charts = charts or trial_charts(job, trial, measurements)
    return render(
        "trial.html",
        job=job,
        trial=trial,
        csrf=csrf,
        what=describe(trial.architecture),
        number_format=format_word(number_format(trial.architecture)),
        reason_words=REASON_WORDS.get(trial.reason or "", trial.reason or ""),
        drawing=draw_architecture(trial.architecture),
        in_words=in_words(trial.architecture),
        architecture_text=json.dumps(trial.architecture, indent=1, sort_keys=True),
        numbers=number_rows(job, trial),
        latency_conditions=f"Latency on {target_words(job)}.",
        resources=resource_rows(measurements),
        front_reason=front_reason(job, trial, trials),
        rival=front_rival(job, trial, trials),
        origin_words=ORIGIN_WORDS.get(trial.origin, trial.origin).capitalize(),
        parents=[_parent(number, trial, trials) for number in trial.parents],
        children=[_child(trial, other) for other in trials if trial.number in other.parents],
        charts=shown_charts,
        twins={name: twin_html(chart) for name, chart in shown_charts.items()},
        can_export=trial.state == "completed",
        is_over=is_over(job),
        export_formats=export_formats(),
        export_numbers=export_numbers(),
        usual_formats=USUAL,
        exports=[export_row(export) for export in exports],
        usages=usages(trial.architecture, _quantize_of(exports)),
        command=export_command(job, trial),
        log="\n".join(log_lines(logs, SHOWN_LINES)),
        log_more=max(0, sum(len(work.lines) for work in logs) - SHOWN_LINES),
        measurements=[measurement_row(record) for record in measurements],
        theme=dark_colours(),
        is_exporting=any(export.state in ("queued", "running") for export in exports),
        is_running=trial.state not in FINAL_TRIAL_STATES,
        view={"figures": {name: chart.figure.to_plotly_json() for name, chart in shown_charts.items()}},
    )


def number_rows(job: JobRecord, trial: TrialRecord) -> list[NumberRow]:
    """Every known quantity: the job's objectives, then the other objective keys, then the rest by name."""
    order = [*job.objectives, *(key for key in OBJECTIVES if key not in job.objectives)]
    keys = [key for key in order if key in trial.effective]
    keys += sorted(key for key in trial.effective if key not in order)
    return [
        NumberRow(label(key), _cells(trial, key), trial.kinds.get(key, "measured" if trial.final else ""))
        for key in keys
    ]


RESOURCES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "memory": ("peak memory of one pass", lambda one: shown("memory_bytes", one["bytes"])),
    "energy": ("energy of one pass", lambda one: f"{one['joules_per_pass']:.3g} J beyond an idle machine"),
    "quant_noise": (
        "noise of the number formats",
        lambda one: f"{one['noise'][-1]:.2g} of the logits, squared error over squared size",
    ),
}
"""What a finalist's latency measurement brings along: its title, and how it is said where it is known."""


def resource_rows(measurements: Sequence[MeasurementRecord]) -> list[tuple[str, str]]:
    """What the retrained model takes besides time, measured, or why that is not known; newest measurement."""
    known = [record for record in measurements if isinstance(record.detail.get("resources"), Mapping)]
    if not known:
        return []
    found = max(known, key=lambda record: record.created_at).detail["resources"]
    return [
        (title, said(one) if one["status"] == "ok" else f"{one['status']}: {one['reason']}")
        for name, (title, said) in RESOURCES.items()
        if (one := found.get(name))
    ]


def measurement_row(record: MeasurementRecord) -> MeasurementRow:
    """Value with unit and interval, or the status where there is no value."""
    return MeasurementRow(
        quantity=label(record.quantity),
        value=record.status if record.value is None else _with_unit(record),
        spread=_half(record),
        kind=record.kind,
        execution=record.execution,
        flags=record.flags,
        steps=f"{record.fidelity:,}" if record.fidelity else "",
        seed=record.seed,
        repeats=record.repeats,
        conditions=_conditions(record),
        detail=json.dumps(dict(record.detail), indent=1, default=str) if record.detail else "",
        at=record.created_at,
    )


def _quantize_of(exports: Sequence[ArtefactRecord]) -> str:
    """Of the newest export that can be taken."""
    ready = [export for export in exports if export.state == "ready"]
    newest = max(ready, key=lambda export: export.created_at, default=None)
    return str(newest.request.get("quantize") or "none") if newest else "none"


def _cells(trial: TrialRecord, key: str) -> tuple[Cell, ...]:
    if trial.final is None:
        return (cell(trial, key),)
    final = trial.final
    return (
        number_cell(key, trial.values, trial.spread),
        number_cell(key, final.values, final.spread),
        number_cell(key, final.test, final.test_spread),
    )


def _with_unit(record: MeasurementRecord) -> str:
    assert record.value is not None
    if record.quantity in OBJECTIVES:
        return shown(record.quantity, record.value)
    unit = "" if record.unit in ("1", "") else f" {record.unit}"
    return f"{record.value:.5g}{unit}"


def _half(record: MeasurementRecord) -> str:
    if record.spread is None:
        return ""
    scale = OBJECTIVES[record.quantity].display_scale if record.quantity in OBJECTIVES else 1.0
    return f"± {scale * record.spread:.2g}"


def _conditions(record: MeasurementRecord) -> str:
    """The conditions a latency holds under; for the rest which part of the data."""
    found = record.detail.get("conditions")
    if isinstance(found, Mapping):
        said = (f"{name} {found[name]}" for name in CONDITIONS if found.get(name) is not None)
        words = [str(found.get("runtime")), *said]
        return ", ".join(words).replace("_", " ")
    part = record.detail.get("part")
    return f"{part} part" if part else ""


MAX_CHANGES = 12
"""Of a parent shown; the rest is a number."""


def _parent(number: int, trial: TrialRecord, trials: Sequence[TrialRecord]) -> Relative:
    parent = next((one for one in trials if one.number == number), None)
    if parent is None:
        return Relative(number, str(number), "")
    return _relative(parent, changes(parent.architecture, trial.architecture))


def _child(trial: TrialRecord, child: TrialRecord) -> Relative:
    return _relative(child, changes(trial.architecture, child.architecture))


def _relative(other: TrialRecord, changed: Sequence[str]) -> Relative:
    return Relative(
        other.number,
        other.label,
        describe(other.architecture),
        tuple(changed[:MAX_CHANGES]),
        max(0, len(changed) - MAX_CHANGES),
    )
