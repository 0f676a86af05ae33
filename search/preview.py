"""What a job would do, before anything is stored: size of the space, examples, and what the trainings
would cost."""

import json
import statistics
import time
from random import Random
from typing import Any

from evaluators.training import train
from space.architecture import Architecture
from space.costs import costs
from space.sampling import sample

from .job import JobSpec
from .plan import JobPlan, plan_job, static_values

EXAMPLES = 3
_TIMED_STEPS = 3


def preview(spec: JobSpec) -> dict[str, Any]:
    """Size of the space, three example architectures and an estimate of the time, as JSON.

    Raises:
        InvalidInputError: the job cannot work.
    """
    return preview_of(plan_job(spec))


def preview_of(plan: JobPlan) -> dict[str, Any]:
    """See `preview`."""
    rng = Random(plan.spec.strategy.seed)
    examples = [sample(plan.space, rng) for _ in range(EXAMPLES)]
    return {
        "space_size": str(plan.space.size()),
        "objectives": list(plan.objectives),
        "references": [reference.name for reference in plan.references],
        "warnings": list(plan.warnings),
        "data": plan.data.describe(),
        "estimate": _estimate(plan, examples),
        "examples": [
            {
                "architecture_id": architecture.id,
                "architecture": json.loads(architecture.canonical_json),
                "costs": static_values(architecture, plan.target),
            }
            for architecture in examples
        ],
    }


def _estimate(plan: JobPlan, examples: list[Architecture]) -> dict[str, Any]:
    """Training seconds on one core, from a few timed steps of one example scaled by multiply-accumulates.

    Left out: evaluations, proxies, latency measurements, exports. Successive halving is counted as if every
    promotion happened.
    """
    timed = examples[0]
    per_step = _timed_step_s(timed, plan)
    mean = sum(costs(example).macs for example in examples) / len(examples)
    step_s = per_step * mean / max(1, costs(timed).macs)
    spec = plan.spec
    rungs = spec.training.rung_steps()
    search = sum(
        spec.budget.trials / spec.training.reduction**rung * (steps - previous)
        for rung, (steps, previous) in enumerate(zip(rungs, (0, *rungs), strict=False))
    )
    trainings = {reference.architecture.training_id for reference in plan.references}
    references = len(trainings) * spec.training.steps
    finalists = 2 * spec.finalists.count * spec.finalists.seeds * spec.finalists.steps
    return {
        "step_s": step_s,
        "search_s": search * step_s,
        "references_s": references * step_s,
        "finalists_s": finalists * step_s,
        "kind": "predicted",
        "basis": f"{_TIMED_STEPS} timed steps of one example on one core, scaled by multiply-accumulates",
    }


class _Clock:
    """Times every step; as a context it is entered around each."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begin = 0.0

    def __enter__(self) -> None:
        self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self._begin)


def _timed_step_s(architecture: Architecture, plan: JobPlan) -> float:
    """Median of some steps after the first, which also warms up.

    The training is stopped before it would evaluate: the whole validation part takes longer than the steps.
    """
    clock, steps = _Clock(), min(_TIMED_STEPS + 1, max(1, plan.training.steps - 1))
    train(
        architecture,
        plan.data,
        plan.training,
        seed=0,
        until=min(steps + 1, plan.training.steps),
        folder=None,
        step_guard=lambda: clock,
        should_stop=lambda: len(clock.seconds) >= steps,
    )
    return statistics.median(clock.seconds[1:steps] or clock.seconds)
