"""A job resolved against its data, space and target: everything that must be right before anything is
spent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from evaluators.latency import Target, check_target, device_key
from evaluators.proxies import proxy_names
from evaluators.training import TaskData, TrainingPlan, prepare_task, steps_of_tokens
from space.architecture import Architecture, parse_architecture
from space.constraints import STATIC_KEYS, smallest, static_costs
from space.errors import InvalidArchitectureError, InvalidInputError, nearest
from space.mixers import MIXERS
from space.norms import NORMS
from space.quantization import NumberFormat, number_format
from space.reference_family import Reference, reference_family
from space.search_space import SearchSpace, load_preset

from .job import JobSpec
from .objectives import OBJECTIVES, QUALITY

LEAST_STEPS = 4
MOST_STEPS = {"training": 1_000_000, "finalists": 10_000_000}
"""What `steps` of the job file may be."""

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
    limits: Mapping[str, float]
    """The constraints by resolved key."""
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
        return {key: limit for key, limit in self.limits.items() if key in STATIC_KEYS}

    @property
    def measured_limits(self) -> dict[str, float]:
        return {key: limit for key, limit in self.limits.items() if key not in STATIC_KEYS}


def plan_job(spec: JobSpec, *, enqueued: Sequence[Mapping[str, Any]] | None = None) -> JobPlan:
    """Resolves a job. `enqueued`: architectures already read (a stored job); else the files of the spec
    are read.

    Raises:
        InvalidInputError: unknown data set or preset, impossible constraint, objective or length the task
        does not have.
    """
    data = prepare_task(spec.task.kind, spec.task.dataset, spec.task.length)
    spec = with_steps(spec, data)
    objectives = tuple(_task_key("objectives", key, data) for key in spec.objectives)
    limits = {_task_key("constraints", key, data): limit for key, limit in spec.constraints.items()}
    target = _target(spec, data)
    space, warnings = _space(spec, data)
    _check_limits(space, limits, target)
    batch_size = spec.training.batch_size or data.batch_size
    return JobPlan(
        spec=spec,
        data=data,
        space=space,
        target=target,
        objectives=objectives,
        limits=limits,
        proxies=_proxies(spec),
        references=tuple(reference_family(space, spec.references.sizes)),
        enqueued=_enqueued(spec, data)
        if enqueued is None
        else tuple(parse_architecture(item) for item in enqueued),
        training=TrainingPlan(steps=spec.training.steps, batch_size=batch_size),
        finalist_training=TrainingPlan(steps=spec.finalists.steps, batch_size=batch_size),
        warnings=tuple(warnings),
    )


def with_steps(spec: JobSpec, data: TaskData) -> JobSpec:
    """The job with its budgets of tokens turned into steps.

    Raises:
        InvalidInputError: so few tokens that the schedule has too few steps, or too many.
    """
    batch_size = spec.training.batch_size or data.batch_size
    changed: dict[str, Any] = {}
    for name in ("training", "finalists"):
        part = getattr(spec, name)
        if part.tokens is None:
            continue
        steps = steps_of_tokens(part.tokens, data, batch_size)
        if not LEAST_STEPS <= steps <= MOST_STEPS[name]:
            raise InvalidInputError(
                f"{name}.tokens={part.tokens} are {steps} steps of {batch_size} x {data.length} tokens; "
                f"from {LEAST_STEPS} to {MOST_STEPS[name]:,} are possible: change it or training.batch_size"
            )
        changed[name] = part.model_copy(update={"steps": steps})
    return spec.model_copy(update=changed) if changed else spec


def taught(training: TrainingPlan, context: Mapping[str, Any]) -> TrainingPlan:
    """The finalists' schedule with the teacher that the job has chosen, if it has."""
    teacher = context.get("teacher")
    return replace(training, teacher=str(teacher["checkpoint"])) if teacher else training


def _task_key(where: str, name: str, data: TaskData) -> str:
    """The objective key of the task that a name of the job file means."""
    key = data.quality if name == QUALITY else name
    if OBJECTIVES[key].source == "quality" and key not in data.metrics:
        raise InvalidInputError(
            f"{where}: task '{data.name}' has no '{key}'; {nearest(key, [*data.metrics, QUALITY])}"
        )
    return key


def _target(spec: JobSpec, data: TaskData) -> Target:
    """Images have no length of their own: how many patches they are cut into is the architecture's choice."""
    length = spec.target.length or data.length
    if data.input != "image" and length > data.length:
        raise InvalidInputError(
            f"target.length={length} is longer than the {data.length} tokens of task '{data.name}'; "
            f"choose at most {data.length}, or raise task.length"
        )
    target = Target(
        device=spec.target.device,
        runtime=spec.target.runtime,
        threads=spec.target.threads,
        batch_size=spec.target.batch_size,
        length=None if data.input == "image" else length,
        phase=spec.target.phase,
    )
    check_target(target)
    return target


def _space(spec: JobSpec, data: TaskData) -> tuple[SearchSpace, list[str]]:
    name = spec.space.preset or data.default_preset
    space = load_preset(name)
    if space.model != data.model:
        raise InvalidInputError(
            f"space.preset '{name}' is for model '{space.model}', task '{data.name}' needs '{data.model}'; "
            f"leave the preset out or use '{data.default_preset}'"
        )
    rules = {} if spec.space.rules is None else {"rules": spec.space.rules}
    space = space.with_domains({**spec.space.set, **rules}).for_interface(data.interface())
    runtime = spec.target.runtime
    unreal = [name for name in get_args(NumberFormat) if runtime not in number_format(name).real_on]
    space, warnings = space.without_formats(unreal, runtime)
    if spec.target.phase == "decode":
        space = _decodable(space)
    space, more = _without_short_norms(space, spec.training.steps)
    return space, [*warnings, *more]


def _decodable(space: SearchSpace) -> SearchSpace:
    """The space without the mixers that keep no state from token to token."""
    if space.model != "decoder":
        raise InvalidInputError(
            f"target.phase=decode needs a decoder, space '{space.name}' builds '{space.model}' models; "
            "choose target.phase=prefill"
        )
    kinds = [kind for kind in space.domains.mixer if MIXERS[kind].decodable]
    return space if len(kinds) == len(space.domains.mixer) else space.with_domains({"mixer": kinds})


def _without_short_norms(space: SearchSpace, steps: int) -> tuple[SearchSpace, list[str]]:
    """The space without the norms that so short a training says nothing of, and a warning for each."""
    gone = [kind for kind in space.domains.norm if NORMS[kind].least_steps > steps]
    left = [kind for kind in space.domains.norm if kind not in gone]
    short = [_too_short(kind, steps) for kind in gone]
    if gone and not left:
        raise InvalidInputError(
            f"gene 'norm' has {'; '.join(short)}; raise training.steps or add rmsnorm to space.set.norm"
        )
    warnings = [f"gene 'norm' has {text}: left out of the space" for text in short]
    return (space.with_domains({"norm": left}) if gone else space), warnings


def _too_short(kind: str, steps: int) -> str:
    return f"norm '{kind}', which needs {NORMS[kind].least_steps} training steps and not {steps}"


def _check_limits(space: SearchSpace, limits: Mapping[str, float], target: Target) -> None:
    for key, limit in ((key, limit) for key, limit in limits.items() if key in STATIC_KEYS):
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


def _enqueued(spec: JobSpec, data: TaskData) -> tuple[Architecture, ...]:
    found = []
    for name in spec.enqueue:
        try:
            architecture = parse_architecture(Path(name).read_bytes())
        except OSError as error:
            raise InvalidInputError(f"enqueue: '{name}' cannot be read: {error.strerror}") from error
        except InvalidArchitectureError as error:
            raise InvalidInputError(f"enqueue: '{name}': {error.message}") from error
        _check_enqueued(name, architecture, spec, data)
        found.append(architecture)
    return tuple(found)


def _check_enqueued(name: str, architecture: Architecture, spec: JobSpec, data: TaskData) -> None:
    """It takes the task's inputs (images in patches of its own) and runs on the target."""
    wanted = data.interface(getattr(architecture.interface, "patch_size", None))
    if (architecture.model, architecture.interface) != (data.model, wanted):
        raise InvalidInputError(
            f"enqueue: '{name}' is a {architecture.model} for {architecture.interface.model_dump_json()}; "
            f"task '{data.name}' needs a {data.model} for {wanted.model_dump_json()}"
        )
    for kind in sorted({layer.norm.kind for layer in architecture.layers}):
        if NORMS[kind].least_steps > spec.training.steps:
            raise InvalidInputError(
                f"enqueue: '{name}' has {_too_short(kind, spec.training.steps)}; raise training.steps"
            )
    for form in {layer.number_format for layer in architecture.layers}:
        if spec.target.runtime not in number_format(form).real_on:
            raise InvalidInputError(
                f"enqueue: '{name}' has number format {form}, which does not run on {spec.target.runtime}; "
                "choose another format or target.runtime"
            )


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
