"""Fronts and jobs as text for a terminal."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dashboards.points import Cell, columns, rows
from dashboards.ranks import rank_words
from dashboards.summary import demonstration, gain_words, speedup_lines, status
from dashboards.wording import ACTION_MEANING, duration, elapsed_s, label
from search.records import JobRecord, TrialRecord
from search.running import Result
from search.tally import Tally

from .output import pairs, table

__all__ = ["ACTION_MEANING", "front_table", "gain_text", "job_text", "result_text"]


def front_table(job: JobRecord, trials: Sequence[TrialRecord]) -> Table:
    """One line per trial, fastest first: what it is, its numbers with intervals, how they were obtained."""
    keys = [key for key in columns(job) if key in job.objectives or key == "params"]
    kept = [columns(job).index(key) for key in keys]
    finalists = {trial.number for trial in trials if trial.final}
    lines = []
    for row in rows(job, trials):
        cells = [row.cells[index] for index in kept]
        lines.append(
            [
                row.label + ("*" if row.number in finalists else ""),
                row.what,
                *(_number(cell) for cell in cells),
                _kinds(cells[: len(job.objectives)]),
                ", ".join(filter(None, (row.suggestion.replace("_", " "), *row.flags))),
            ]
        )
    names = ["trial", "architecture", *(label(key) for key in keys), "obtained", "remark"]
    return table(names, lines, right=range(2, 2 + len(keys)))


def _number(cell: Cell) -> str:
    return f"{cell.text} {cell.spread}".strip()


def _kinds(cells: Sequence[Cell]) -> str:
    return ", ".join(dict.fromkeys(cell.kind for cell in cells if cell.kind))


def gain_text(job: JobRecord) -> list[tuple[str, str]]:
    """Hypervolume and speed-up against the references, in words."""
    volume, reference = job.indicators.get("hypervolume"), job.indicators.get("reference_hypervolume")
    gain = job.indicators.get("hypervolume_gain")
    if volume is None or reference is None:
        return [("hypervolume", "not known: the references are not measured yet")]
    words = f"{volume:.3f}, references {reference:.3f}"
    found = [("hypervolume", words + (f", {gain_words(gain)}" if gain is not None else ""))]
    for index, (against, factor, remark) in enumerate(speedup_lines(job)):
        name = "speed-up at equal quality" if index == 0 else ""
        found.append((name, f"{factor} against {against} ({remark})"))
    lines = rank_words(job)
    return [*found, *(("" if index else "order of finalists", line) for index, line in enumerate(lines))]


def result_text(found: Result, reports: Sequence[Path], options: str) -> RenderableType:
    """The end of a search: the front, what it gains, what can be done with it."""
    job = found.job
    parts: list[RenderableType] = [Text(""), job_line(job)]
    if found.front:
        parts += [Text(""), front_table(job, found.front)]
        if any(trial.final for trial in found.front):
            parts.append(Text("* finalist: mean over several seeds at the full budget", style="dim"))
    else:
        parts.append(Text("no trial was trained to the last rung and measured; the front is empty"))
    parts += [Text(""), pairs(gain_text(job))]
    if why := demonstration(job, [*found.front, *found.references]):
        parts += [Text(""), Text(f"demonstration, not a claim: {why}")]
    short = job.id[:8]
    commands = [("report", str(path)) for path in reports] or [
        ("report", f"paretoformer report {short} --out report.html{options}")
    ]
    if found.front:
        commands.append(
            ("export", f"paretoformer export {short} --pick knee --format torch,onnx --out model{options}")
        )
    commands.append(("look", f"paretoformer serve{options}, then http://127.0.0.1:8765/jobs/{job.id}"))
    return Group(*parts, Text(""), pairs(commands))


def job_line(job: JobRecord) -> Text:
    """Name, id, state and how long it took."""
    seconds = elapsed_s(job, dt.datetime.now(dt.UTC))
    words = f"{job.name}  {job.id[:8]}  {job.state}"
    words += f" ({job.reason.replace('_', ' ')})" if job.reason else ""
    words += f" after {duration(seconds)}" if seconds is not None else ""
    return Text(words + (f": {job.message}" if job.message else ""), style="bold")


def job_text(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    tally: Tally | None = None,
) -> RenderableType:
    """A job as it stands: progress, gain, front. `tally`: where `trials` are only some of all."""
    state = status(job, trials, references, dt.datetime.now(dt.UTC), tally)
    lines = [
        ("id", job.id),
        ("state", f"{state.state}: {state.meaning}"),
        ("trials", f"{state.done} of {state.budget}"),
        ("references", f"{state.references_done} of {state.references_total}"),
    ]
    if state.finalists:
        lines.append(("finalists", state.finalists))
    lines += [(name.replace("_", " "), str(count)) for name, count in sorted(job.counters.items())]
    front = [trial for trial in trials if trial.on_front]
    parts: list[RenderableType] = [job_line(job), pairs([*lines, *gain_text(job)])]
    if front:
        parts += [Text(""), front_table(job, front)]
    return Group(*parts)
