"""A finished job of any size, made by formula and inserted row by row: for tests and pictures of pages.

Architectures, costs, fronts and indicators are real; quality and latency are formulas of the costs with noise
(quality falls with the logarithm of the parameters, mixers differ by a constant, latency follows the
multiply-accumulates). Nothing here was trained or measured, and the job's name says so.
"""

import datetime as dt
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert

from search.indicators import Scale, indicators
from search.job import parse_job
from search.records import JobRecord, Spread, TrialRecord
from search.storage import jobs, overviews
from search.storage.database import Database
from search.storage.front import front_numbers
from search.storage.models import Architecture as ArchitectureRow
from search.storage.models import Job, Measurement, Trial
from search.storage.upsert import insert_new
from space.architecture import Architecture, BytesInterface
from space.batch_costs import CostTable
from space.reference_family import reference_family
from space.sampling import sample
from space.search_space import load_preset

OBJECTIVE_KEYS = ("bits_per_byte", "latency_s")
RUNGS = (75, 150, 300)
BEGAN = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
CHUNK = 2000
STATIC = ("params", "macs", "memory_bytes", "weights_bytes")
DEVICE = "made up"
BONUS = {"softmax": -0.06, "sliding_window": -0.04, "linear_elu": 0.05, "gated_conv": -0.02, "pool": 0.12}
"""Bits per byte by main mixer."""
SLOWNESS = {"softmax": 1.25, "sliding_window": 1.15, "linear_elu": 1.0, "gated_conv": 0.85, "pool": 0.7}
FORMAT_SPEED = {"fp32": 1.0, "bf16": 1.6, "int8_dynamic": 0.55}


def insert_made_up_job(
    database: Database, count: int, *, seed: int = 0, name: str = "", variety: int | None = None
) -> JobRecord:
    """Stores the job. `variety`: how many architectures its `count` trials share; by default all differ."""
    rng = random.Random(seed)
    space = load_preset("decoder-small").for_interface(BytesInterface(context_length=128, outputs=256))
    drawn = [sample(space, rng) for _ in range(variety or count)]
    family = [(one.architecture, one.name) for one in reference_family(space, 3)]
    made = _rows(rng, [one for one, _ in family], [note for _, note in family], is_reference=True)
    made += _rows(rng, [drawn[i % len(drawn)] for i in range(count)], [""] * count, is_reference=False)
    spec = parse_job(
        {
            "name": name or f"made up, {count:,} trials",
            "objectives": list(OBJECTIVE_KEYS),
            "budget": {"trials": max(1, count)},
        }
    )
    with database.write() as session:
        job = jobs.create(
            session,
            name=spec.name,
            spec=spec.model_dump(mode="json"),
            objectives=OBJECTIVE_KEYS,
            lease=("made up", database.now() + 3600),
            context={"warnings": [], "enqueued": [], "rung_steps": list(RUNGS), "device_key": DEVICE},
        )
        for start in range(0, len(made), CHUNK):
            part = made[start : start + CHUNK]
            known = {one["architecture"].id: one["architecture"] for one in part}
            stored = [
                {"id": one.id, "training_id": one.training_id, "canonical_json": one.canonical_json}
                for one in known.values()
            ]
            session.execute(insert(ArchitectureRow).prefix_with("OR IGNORE", dialect="sqlite"), stored)
            rows = [
                {key: value for key, value in one.items() if key != "architecture"} | {"job_id": job.id}
                for one in part
            ]
            session.execute(insert(Trial), rows)
        notable = overviews.numbered(session, job.id, overviews.notable(session, job.id))
        for values in _measurements(rng, notable):
            insert_new(session, Measurement, **values)
        best = [one for one in notable if one.number >= 0]
        references = [one for one in notable if one.number < 0]
        found = indicators(best, references, OBJECTIVE_KEYS)
        found["hypervolume_history"] = _history(made, references)
        jobs.set_indicators(session, job.id, job.fence, found)
        row = session.query(Job).filter(Job.id == job.id).one()
        row.counters = {"proposed": 3 * count, "duplicates": count // 9, "screened_out": count}
        ended = jobs.set_state(session, job.id, "completed", fence=job.fence, reason="budget_reached")
        row.started_at, row.ended_at = BEGAN, max((one["ended_at"] for one in made), default=BEGAN)
        session.flush()
        return ended


def _rows(
    rng: random.Random, architectures: Sequence[Architecture], notes: Sequence[str], *, is_reference: bool
) -> list[dict[str, Any]]:
    costs = CostTable().costs(architectures) if architectures else {}
    rows = []
    for place, one in enumerate(architectures):
        number = -1 - place if is_reference else place
        static = {key: float(costs[key][place]) for key in STATIC}
        rows.append(_row(rng, number, one, static, notes[place]))
    counted = {row["number"]: (row["objective_0"], row["objective_1"]) for row in rows if row["counted"]}
    members = front_numbers(counted)
    for row in rows:
        row["on_front"] = row["number"] in members
    return rows


def _row(
    rng: random.Random, number: int, architecture: Architecture, static: dict[str, float], note: str
) -> dict[str, Any]:
    kind = str(architecture.layers[len(architecture.layers) // 2].mixer.kind)
    quality = 4.6 - 0.42 * math.log10(static["params"]) + BONUS.get(kind, 0.03) + rng.gauss(0, 0.05)
    quality += 0.09 if number < 0 else 0.0
    speed = FORMAT_SPEED.get(str(architecture.layers[0].number_format), 1.0)
    latency = (4e-5 + static["macs"] / 2.2e10) * SLOWNESS.get(kind, 1.1) * speed * rng.uniform(0.9, 1.25)
    steps = RUNGS[-1] if number < 0 or rng.random() < 0.62 else rng.choice(RUNGS[:-1])
    state, reason, message = ("completed" if steps == RUNGS[-1] else "pruned"), None, None
    if number >= 0 and rng.random() < 0.012:
        state, reason = "failed", "diverged"
        message = f"loss is not finite at step {rng.choice((17, 23, 61))}"
    if state == "pruned":
        quality += 0.25 if steps == RUNGS[0] else 0.1
    values = {} if state == "failed" else {**static, "bits_per_byte": quality, "latency_s": latency}
    is_measured = state == "completed" and (number < 0 or rng.random() < 0.9)
    kinds = dict.fromkeys(static, "computed") | {
        "bits_per_byte": "measured",
        "latency_s": "measured" if is_measured else "predicted",
    }
    spread = {
        "latency_s": Spread(latency * 0.985, latency * 1.02, 40),
        "bits_per_byte": Spread(quality - 0.02, quality + 0.02, 1),
    }
    began = BEGAN + dt.timedelta(seconds=11 * max(0, number))
    return {
        "number": number,
        "origin": "reference" if number < 0 else "random" if number < 20 else "mutation",
        "parents": [rng.randrange(number)] if number >= 20 else [],
        "note": note,
        "asked_after": 1,
        "architecture": architecture,
        "architecture_id": architecture.id,
        "state": state,
        "reason": reason,
        "message": message,
        "attempt": 1,
        "rung": RUNGS.index(steps) + 1,
        "steps": steps,
        "values": values,
        "spread": {key: asdict(one) for key, one in spread.items()} if values else {},
        "kinds": kinds if values else {},
        "flags": ["noisy"] if rng.random() < 0.02 else [],
        "final": None,
        "objective_0": values.get("bits_per_byte"),
        "objective_1": values.get("latency_s"),
        "objective_2": None,
        "objective_3": None,
        "counted": is_measured and state == "completed",
        "on_front": False,
        "created_at": began,
        "ended_at": began + dt.timedelta(seconds=45),
    }


def _measurements(rng: random.Random, rows: Sequence[TrialRecord]) -> Iterator[dict[str, Any]]:
    """Of the notable trials: a value at the end of every rung, the latency predicted and measured."""
    for row in rows:
        last = row.values["bits_per_byte"]
        for steps in RUNGS:
            value = last + 0.9 * ((RUNGS[-1] / steps) ** 0.35 - 1)
            yield _measurement(row.training_id, "bits_per_byte", value, "bits", fidelity=steps)
        latency = row.values["latency_s"]
        predicted = latency * rng.uniform(0.86, 1.12)
        yield _measurement(row.architecture_id, "latency_s", predicted, "s", kind="predicted")
        yield _measurement(row.architecture_id, "latency_s", latency, "s", spread=0.02 * latency)


def _measurement(
    subject: str,
    quantity: str,
    value: float,
    unit: str,
    *,
    fidelity: int = 0,
    kind: str = "measured",
    spread: float | None = None,
) -> dict[str, Any]:
    curve = [[step, value * math.log(2) + 2.2 / step**0.6] for step in range(5, fidelity + 1, 5)]
    return {
        "subject": subject,
        "quantity": quantity,
        "fingerprint": f"made up {kind}",
        "fidelity": fidelity,
        "seed": 0,
        "value": value,
        "unit": unit,
        "kind": kind,
        "status": "ok",
        "spread": spread,
        "repeats": 40 if quantity == "latency_s" else 1,
        "execution": "real",
        "flags": [],
        "wall_s": 1.0,
        "detail": {"curve": curve} if curve else {},
        "device_key": DEVICE,
        "created_at": BEGAN,
    }


def _history(rows: Sequence[dict[str, Any]], references: Sequence[TrialRecord]) -> list[list[float]]:
    """[counted trials, hypervolume] where it grew, and the last."""
    scale = Scale.of(references, OBJECTIVE_KEYS)
    counted = [row["values"] for row in rows if row["counted"] and row["number"] >= 0]
    if scale is None or not counted:
        return []
    history: list[list[float]] = []
    best: list[dict[str, float]] = []
    for count, values in enumerate(counted, start=1):
        if any(all(one[key] <= values[key] for key in OBJECTIVE_KEYS) for one in best):
            continue
        best = [one for one in best if any(one[key] < values[key] for key in OBJECTIVE_KEYS)] + [values]
        volume = scale.hypervolume(best)
        if not history or volume > history[-1][1]:
            history.append([count, volume])
    return [*history, [len(counted), history[-1][1]]] if history[-1][0] != len(counted) else history
