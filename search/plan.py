"""A job resolved against its data, space and target: everything that must be right before anything is
spent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from evaluators.latency import Target, check_target, device_key
from evaluators.proxies import proxy_names
from evaluators.training import TaskData, TrainingPlan, prepare_task
from space.architecture import Architecture, parse_architecture
from space.constraints import STATIC_KEYS, smallest, static_costs
from space.errors import InvalidArchitectureError, InvalidInputError, nearest
from space.quantization import NumberFormat, number_format
from space.reference_family import Reference, reference_family
from space.search_space import SearchSpace, load_preset

from .job import JobSpec
from .objectives import OBJECTIVES, QUALITY

AUTO_PROXIES = ("w_pca", "zico", "synaptic_diversity")


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What the coordinator works from; a pure function of the spec, the data and this machine's runtimes."""

    spec: JobSpec
    data: TaskData
    space: SearchSpace
    target: Target
    objectives: tuple[str, ...]
    """Resolved keys; the quality objective first."""
    proxies: tuple[str, ...]
    references: tuple[Reference, ...]
    enqueued: tuple[Architecture, ...]
    training: TrainingPlan
    finalist_training: TrainingPlan
    warnings: tuple[str, ...]

    @property
    def quality(self) -> str:
        return self.objectives[0]

    @property
    def static_limits(self) -> dict[str, float]:
        return {key: limit for key, limit in self.spec.constraints.items() if key in STATIC_KEYS}

    @property
    def measured_limits(self) -> dict[str, float]:
        return {key: limit for key, limit in self.spec.constraints.items() if key not in STATIC_KEYS}


def plan_job(spec: JobSpec, *, enqueued: Sequence[Mapping[str, Any]] | None = None) -> JobPlan:
    """Resolves a job. `enqueued`: architectures already read (a stored job); else the files of the spec
    are read.

    Raises:
        InvalidInputError: unknown data set or preset, impossible constraint, objective the task does not
        have.
    """
    data = prepare_task(spec.task.kind, spec.task.dataset, spec.task.length)
    objectives = _objectives(spec, data)
    target = Target(
        device=spec.target.device,
        runtime=spec.target.runtime,
        threads=spec.target.threads,
        batch_size=spec.target.batch_size,
        length=spec.target.length or data.length,
        phase=spec.target.phase,
    )
    check_target(target)
    space, warnings = _space(spec, data)
    limits = {key: limit for key, limit in spec.constraints.items() if key in STATIC_KEYS}
    _check_limits(space, limits, target)
    batch_size = spec.training.batch_size or data.batch_size
    return JobPlan(
        spec=spec,
        data=data,
        space=space,
        target=target,
        objectives=objectives,
        proxies=_proxies(spec),
        references=tuple(reference_family(space, spec.references.sizes)),
        enqueued=_enqueued(spec)
        if enqueued is None
        else tuple(parse_architecture(item) for item in enqueued),
        training=TrainingPlan(steps=spec.training.steps, batch_size=batch_size),
        finalist_training=TrainingPlan(steps=spec.finalists.steps, batch_size=batch_size),
        warnings=tuple(warnings),
    )


def _objectives(spec: JobSpec, data: TaskData) -> tuple[str, ...]:
    keys = tuple(data.quality if key == QUALITY else key for key in spec.objectives)
    for key in keys:
        if OBJECTIVES[key].source == "quality" and key not in data.metrics:
            raise InvalidInputError(
                f"objectives: task '{data.name}' has no '{key}'; {nearest(key, [*data.metrics, QUALITY])}"
            )
    return keys


def _space(spec: JobSpec, data: TaskData) -> tuple[SearchSpace, list[str]]:
    name = spec.space.preset or data.default_preset
    space = load_preset(name)
    if space.model != data.model:
        raise InvalidInputError(
            f"space.preset '{name}' is for model '{space.model}', task '{data.name}' needs '{data.model}'; "
            f"leave the preset out or use '{data.default_preset}'"
        )
    space = space.with_domains(spec.space.set).for_interface(data.interface())
    runtime = spec.target.runtime
    unreal = [name for name in get_args(NumberFormat) if runtime not in number_format(name).real_on]
    space, warnings = space.without_formats(unreal, runtime)
    return space, list(warnings)


def _check_limits(space: SearchSpace, limits: Mapping[str, float], target: Target) -> None:
    for key, limit in limits.items():
        floor = smallest(space, key, target.batch_size, target.length)
        if floor > limit:
            raise InvalidInputError(
                f"constraints.{key}={limit:g} is below the smallest architecture of the space, {floor:,.0f}; "
                f"raise the limit or widen the space (space.set.d_model, space.set.num_layers)"
            )


def _proxies(spec: JobSpec) -> tuple[str, ...]:
    if spec.proxies == "auto":
        return AUTO_PROXIES
    for name in spec.proxies:
        if name not in proxy_names():
            raise InvalidInputError(f"proxies: unknown proxy '{name}'; {nearest(name, proxy_names())}")
    return tuple(spec.proxies)


def _enqueued(spec: JobSpec) -> tuple[Architecture, ...]:
    found = []
    for name in spec.enqueue:
        try:
            found.append(parse_architecture(Path(name).read_bytes()))
        except OSError as error:
            raise InvalidInputError(f"enqueue: '{name}' cannot be read: {error.strerror}") from error
        except InvalidArchitectureError as error:
            raise InvalidInputError(f"enqueue: '{name}': {error.message}") from error
    return tuple(found)


def static_values(architecture: Architecture, target: Target) -> dict[str, float]:
    """The closed-form objectives of an architecture on the target."""
    return static_costs(architecture, target.batch_size, target.tokens(architecture))


def job_context(plan: JobPlan) -> dict[str, Any]:
    """What is fixed at creation and stored with the job, as JSON."""
    return {
        "task": plan.data.describe(),
        "data_digest": plan.data.digest,
        "target": {name: getattr(plan.target, name) for name in plan.target.__dataclass_fields__},
        "device_key": device_key(plan.target),
        "space_size": str(plan.space.size()),
        "warnings": list(plan.warnings),
        "enqueued": [json.loads(architecture.canonical_json) for architecture in plan.enqueued],
        "rung_steps": list(plan.spec.training.rung_steps()),
        "finalist_steps": plan.spec.finalists.steps,
    }
