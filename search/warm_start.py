"""What a job takes over from an earlier one (`warm_start` of the job file).

    same     the same data, training and target: results are history, the front is tried first from the cache
    device   another target: losses are kept, the front's latency is measured anew, and the other results are
             history once log t_new = a + b log t_old is known from three measured architectures
    task     other data or another training: the front, brought into the new space, is the first to be tried,
             and a model of the earlier results is what the new model begins with

Which results are taken over is fixed when the job is created, so that every coordinator sees the same.

Source: evaluators_and_search.md 14.2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from evaluators.latency import device_key
from evaluators.predictors import Transferred, transfer
from evaluators.training import TrainingPlan, training_fingerprint
from space.architecture import Architecture
from space.errors import InvalidInputError, NotFoundError

from .ledger import Ledger
from .objectives import OBJECTIVES, minimised
from .pareto import farthest_order, log_scaled
from .plan import JobPlan, static_values
from .records import EARLIER, JobRecord, TrialRecord
from .storage import jobs, trials
from .strategies import Told

Relation = Literal["same", "device", "task"]
WARM_START = "warm_start"
"""Key of a job's context: which job, how it is related, how much was taken over."""
MOST_ROWS = 400
"""Newest results besides the front."""
FRONT_SHARE = 0.5
"""Largest share of the budget that the earlier front takes."""
FIRST_NUMBER = -1_000_000
"""Earlier results are told under numbers from here on: before every trial and reference of the job."""
FEWEST_PAIRS = 3


@dataclass(frozen=True, slots=True)
class EarlierRow:
    """One result of the earlier job."""

    number: int
    """In that job."""
    architecture: Architecture
    values: Mapping[str, float]
    fidelity: float
    feasible: bool
    on_front: bool
    is_measured: bool
    """Its latency, which tells the way to another device; else it was predicted, or is not known here."""


def taken_over(session: Session, plan: JobPlan, tenant: str) -> dict[str, Any]:
    """What the context of a new job gets; nothing unless its file names an earlier job.

    Raises:
        InvalidInputError: there is no such job of the tenant, its models are of another kind, or nothing was
        trained in it.
    """
    name = plan.spec.warm_start
    if name is None:
        return {}
    try:
        job = jobs.resolve(session, name, tenant)
    except NotFoundError as error:
        raise InvalidInputError(f"warm_start: {error.message}") from None
    own = trials.all_trials(session, job.id)
    known = [row for row in own if row.number >= 0 and row.rung > 0 and row.state != "failed"]
    if not known:
        raise InvalidInputError(
            f"warm_start: job {job.id[:8]} has no result yet; wait for one, or leave warm_start out"
        )
    if known[0].architecture["model"] != plan.space.model:
        raise InvalidInputError(
            f"warm_start: job {job.id[:8]} searched {known[0].architecture['model']} models, this one "
            f"searches {plan.space.model} models; name a job of the same kind"
        )
    relation = relation_of(job, plan)
    kept = [row for row in known[:-MOST_ROWS] if row.on_front] + known[-MOST_ROWS:]
    summary = {
        "job": job.id,
        "relation": relation,
        "trials": len(kept),
        "front": sum(row.on_front for row in kept),
    }
    rows = [_packed(row, job, plan) for row in kept]
    return {WARM_START: summary, EARLIER: rows}


def relation_of(job: JobRecord, plan: JobPlan) -> Relation:
    """By what the earlier job's numbers depend on."""
    spec = job.spec
    training = TrainingPlan(
        steps=spec["training"]["steps"], batch_size=spec["training"]["batch_size"] or plan.data.batch_size
    )
    same_data = job.context.get("data_digest") == plan.data.digest
    if (
        not same_data
        or plan.quality not in job.objectives
        or spec["strategy"]["seed"] != plan.spec.strategy.seed
        or training_fingerprint(plan.data, training) != training_fingerprint(plan.data, plan.training)
    ):
        return "task"
    here = {name: getattr(plan.target, name) for name in plan.target.__dataclass_fields__}
    is_here = job.context.get("target") == here and job.context.get("device_key") == device_key(plan.target)
    return "same" if is_here else "device"


def _packed(row: TrialRecord, job: JobRecord, plan: JobPlan) -> list[Any]:
    """Without the architecture, which is stored by its id for good."""
    quality = row.values.get(job.objectives[0])
    values = {key: row.values[key] for key in plan.objectives if key in row.values}
    if quality is not None:
        values.setdefault(plan.quality, quality)
    steps = max(1, int(job.spec["training"]["steps"]))
    fidelity = min(1.0, row.steps / steps) if row.steps else 1.0
    is_feasible = "infeasible" not in row.flags
    is_measured = "latency_s" in values and row.kinds.get("latency_s") == "measured"
    packed = (row.number, row.architecture_id, values, round(fidelity, 6), is_feasible, row.on_front)
    return [*packed, is_measured]


class WarmStart:
    """What a job was given of an earlier one; empty for a job that began with nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._plan = ledger.plan
        summary: Mapping[str, Any] = ledger.job.context.get(WARM_START) or {}
        self.job_id = str(summary.get("job", ""))
        self.relation: Relation | None = summary.get("relation")
        self.rows = self._load(ledger.job.context.get(EARLIER) or [])
        self._told: tuple[int, list[Told]] = (-1, [])
        """Measured pairs, and what was told with them."""

    def _load(self, packed: Sequence[Sequence[Any]]) -> list[EarlierRow]:
        stored = self._ledger.stored_architectures(str(row[1]) for row in packed)
        return [
            EarlierRow(
                number,
                self._fitted(stored[id]),
                values,
                fidelity,
                feasible,
                on_front,
                measured[0] if measured else on_front,  # jobs that began before 2026-11-23 do not say
            )
            for number, id, values, fidelity, feasible, on_front, *measured in packed
            if id in stored
        ]

    def _fitted(self, architecture: Architecture) -> Architecture:
        """The nearest of the space: another task has other inputs, and a space may have been changed."""
        space = self._plan.space
        return architecture if space.contains(architecture) else space.decode(space.project(architecture))

    @property
    def front(self) -> tuple[Architecture, ...]:
        """Tried first: members of the earlier front, spread over it, its ends first."""
        members = [row for row in self.rows if row.on_front]
        keys = [key for key in self._plan.objectives if all(key in row.values for row in members)]
        points = [log_scaled(minimised(row.values, keys), keys) for row in members]
        order = farthest_order(points) if keys else list(range(len(members)))
        places = max(1, int(self._plan.spec.budget.trials * FRONT_SHARE))
        distinct = {members[index].architecture.id: members[index].architecture for index in order}
        return tuple(distinct.values())[:places]

    @property
    def seen(self) -> frozenset[str]:
        """Ids that need no second trial: results of the same job but for its front, which the new one
        measures its own front with."""
        if self.relation != "same":
            return frozenset()
        tried_first = {one.id for one in self.front}
        return frozenset(row.architecture.id for row in self.rows) - tried_first

    @property
    def prior(self) -> list[Told]:
        """Results on another task, for a model to begin with: their quality alone."""
        if self.relation != "task":
            return []
        return self._as_told(lambda row: row.values, (self._plan.quality,))

    def told(self, known: Mapping[str, TrialRecord]) -> list[Told]:
        """Earlier results as history; `known`: the job's own trials with a result, by architecture id."""
        if self.relation in (None, "task"):
            return []
        if self.relation == "device":
            self._transfer(known)
        elif self._told[0] < 0:
            self._told = (0, self._as_told(lambda row: row.values, self._plan.objectives))
        found = self._told[1]
        return [one for one in found if one.architecture.id not in known]

    def _transfer(self, known: Mapping[str, TrialRecord]) -> None:
        """Results with the latencies of this target, as far as measured architectures tell them."""
        pairs = [
            (row.values["latency_s"], known[row.architecture.id].values["latency_s"])
            for row in self.rows
            if row.is_measured
            and "latency_s" in row.values  # jobs that began before 2026-11-23 have more rows that say so
            and row.architecture.id in known
            and known[row.architecture.id].kinds.get("latency_s") == "measured"
        ]
        if len(pairs) == self._told[0]:
            return
        by = None
        if len(pairs) >= FEWEST_PAIRS:
            by = transfer([new for _, new in pairs], {"earlier": [old for old, _ in pairs]})
        told = self._as_told(lambda row: _carried_over(row.values, by), self._plan.objectives)
        self._told = (len(pairs), told)

    def _as_told(
        self, values_of: Callable[[EarlierRow], Mapping[str, float]], keys: Sequence[str]
    ) -> list[Told]:
        """Those of which every one of these objectives is known."""
        found = []
        for index, row in enumerate(self.rows):
            values = {**static_values(row.architecture, self._plan.target), **values_of(row)}
            if all(key in values for key in keys):
                vector = minimised(values, keys)
                found.append(
                    Told(
                        FIRST_NUMBER + index, row.architecture, vector, feasible=row.feasible,
                        violation=0.0 if row.feasible else 1.0, complete=row.fidelity >= 1.0,
                        fidelity=row.fidelity,
                    )
                )  # fmt: skip
        return found


def _carried_over(values: Mapping[str, float], by: Transferred | None) -> Mapping[str, float]:
    """Values with the latencies that the new target is expected to have; without them while nothing says."""
    timed = [key for key in values if OBJECTIVES[key].source == "latency"]
    kept = {key: value for key, value in values.items() if key not in timed}
    if by is None:
        return kept
    return kept | {key: float(by.predict([values[key]])[0]) for key in timed}


def own_parents(parents: Sequence[int]) -> tuple[int, ...]:
    """Without those that are results of an earlier job."""
    return tuple(number for number in parents if number >= 0)
