"""What a published model says of itself: where it comes from, and its numbers with their conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evaluators.latency import Target

from .objectives import OBJECTIVES
from .plan import JobPlan
from .records import FINAL_JOB_STATES, JobRecord, MeasurementRecord, TrialRecord

TRAINED = ("bits_per_byte", "loss", "error")
COUNTED = ("params", "macs", "weights_bytes", "memory_bytes")


def origin(job: JobRecord, trial: TrialRecord, source: MeasurementRecord) -> dict[str, Any]:
    """The part of `export_report.json` that says what was exported, as JSON."""
    return {
        "schema_version": 2,
        "job": job.id,
        "job_name": job.name,
        "partial": job.state not in FINAL_JOB_STATES or trial.state != "completed",
        "trial": trial.number,
        "origin": trial.origin,
        "parents": list(trial.parents),
        "architecture_id": trial.architecture_id,
        "task": job.context["task"],
        "data_digest": job.context["data_digest"],
        "training": {
            "steps": source.fidelity,
            "seed": source.seed,
            "stage": "final" if trial.final else "search",
        },
        "search_numbers": {
            "values": dict(trial.effective),
            "kinds": dict(trial.kinds),
            "spread": {key: asdict(spread) for key, spread in trial.effective_spread.items()},
            "seeds": trial.seeds,
            "test": dict(trial.final.test) if trial.final else {},
        },
    }


def card(
    job: JobRecord,
    trial: TrialRecord,
    references: Sequence[TrialRecord],
    plan: JobPlan,
    source: MeasurementRecord,
    licence: str | None = None,
) -> dict[str, Any]:
    """Facts for the model card, see `space.export.write_folder`."""
    parents = ", ".join(f"trial {number}" for number in trial.parents)
    facts = {
        "task": f"{plan.data.kind}, data set {plan.data.name}",
        "data_digest": str(job.context["data_digest"]),
        "numbers": _numbers(trial, plan),
        "seeds": _seeds(trial, source),
        "training": _training(trial, plan, source, job.context.get("teacher")),
        "lineage": {
            "job": f"{job.name} ({job.id})",
            "trial": trial.label,
            "origin": trial.origin + (f" ({trial.note})" if trial.note else ""),
            **({"parents": parents} if parents else {}),
        },
        "found": (
            f"strategy {plan.spec.strategy.kind}, seed {plan.spec.strategy.seed}, "
            f"{plan.spec.budget.trials} trials in space {plan.space.name}"
        ),
        "beats": beaten(trial, references, job.objectives),
    }
    return {**facts, "license": licence} if licence else facts


def beaten(trial: TrialRecord, references: Sequence[TrialRecord], objectives: Sequence[str]) -> list[str]:
    """One line per reference that is worse on quality and the second objective, in numbers of one stage."""
    quality, cost = OBJECTIVES[objectives[0]], OBJECTIVES[objectives[1]]
    lines = []
    for other in references:
        mine, theirs = (trial.values, other.values)
        if trial.final and other.final:
            mine, theirs = trial.effective, other.effective
        if other.number == trial.number or not {quality.key, cost.key} <= mine.keys() & theirs.keys():
            continue
        better = theirs[quality.key] - mine[quality.key]
        if better <= 0 or theirs[cost.key] <= mine[cost.key]:
            continue
        lines.append(
            f"{other.label} ({other.note}): {cost.label} {theirs[cost.key] / mine[cost.key]:.2f} times as "
            f"large, {quality.label} {quality.display_scale * better:.3g} {quality.display_unit} higher"
        )
    return lines


def measured_part(files: Mapping[str, Mapping[str, Any]], quality: str, target: Target) -> str:
    """The model card's table of what `measured_files` found; empty where it found nothing."""
    if not files:
        return ""
    objective = OBJECTIVES[quality]
    unit = "" if objective.unit == "1" else objective.unit
    lines = [
        "## Measured as published",
        "",
        "Every file of this folder as it stands, in its own number formats: quality on the validation part, "
        f"latency on this machine ({target.threads} thread{'s' if target.threads > 1 else ''}, batch "
        f"{target.batch_size}; of a step file one token). `export_report.json` has conditions and spreads.",
        "",
        f"| file | {objective.label} | latency | size | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, figures in files.items():
        values = figures.get("quality", {}).get("values", {})
        shown = f"{values[quality]:.4g} {unit}".strip() if quality in values else ""
        cells = (f"`{name}`", shown, _latency(figures), f"{figures['size_bytes']:,} B", _peak(figures))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _latency(figures: Mapping[str, Any]) -> str:
    latency = figures.get("latency", {})
    if latency.get("value") is None:
        return ""
    flags = f" ({', '.join(latency['flags'])})" if latency["flags"] else ""
    return f"{latency['value']:.4g} s{flags}"


def _peak(figures: Mapping[str, Any]) -> str:
    peak = figures.get("memory", {}).get("peak_bytes")
    return "" if peak is None else f"{peak:,} B"


def _numbers(trial: TrialRecord, plan: JobPlan) -> list[dict[str, Any]]:
    shown = (*TRAINED, "latency_s", "latency_p95_s", *COUNTED)
    known = trial.effective
    rows = [_number(key, known, trial, plan, "validation") for key in shown if key in known]
    if trial.final:
        tested = trial.final.test
        rows += [_number(key, tested, trial, plan, "test") for key in TRAINED if key in tested]
    return rows


def _number(
    key: str, values: Mapping[str, float], trial: TrialRecord, plan: JobPlan, part: str
) -> dict[str, Any]:
    """Numbers of trainings name their part and seeds, a latency its conditions."""
    objective = OBJECTIVES[key]
    unit = "" if objective.unit == "1" else objective.unit
    value = int(values[key]) if key in COUNTED else values[key]
    row: dict[str, Any] = {"name": objective.label, "value": value, "unit": unit}
    row["kind"] = trial.kinds.get(key, "measured" if key in TRAINED else "computed")
    spreads = trial.final.test_spread if trial.final and part == "test" else trial.effective_spread
    if key in spreads:
        row |= {"low": spreads[key].low, "high": spreads[key].high}
    if key in TRAINED:
        return {**row, "part": part, "seeds": trial.seeds}
    target = plan.target
    length = f", length {target.length}" if target.length else ""
    shape = f"batch {target.batch_size}{length}"
    if objective.source == "latency":
        threads = f"{target.threads} thread{'s' if target.threads > 1 else ''}"
        return {**row, "conditions": f"{target.runtime}, {target.device}, {threads}, {shape}, {target.phase}"}
    return {**row, "conditions": shape} if key in ("macs", "memory_bytes") else row


def _seeds(trial: TrialRecord, source: MeasurementRecord) -> str:
    if trial.seeds > 1:
        return f"numbers are means of {trial.seeds} trainings; these weights are of seed {source.seed}"
    return f"one training, seed {source.seed}"


def _training(
    trial: TrialRecord, plan: JobPlan, source: MeasurementRecord, teacher: Mapping[str, Any] | None
) -> str:
    stage = "retrained as a finalist" if trial.final else "trained in the search"
    taught = f", taught by {teacher_name(teacher)}" if teacher and trial.final else ""
    return f"{source.fidelity:,} steps of batch {plan.training.batch_size}, {stage}{taught}"


def teacher_name(teacher: Mapping[str, Any]) -> str:
    return f"trial {teacher['trial']}" if "trial" in teacher else f"the user's model '{teacher['name']}'"
