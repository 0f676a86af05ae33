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
from space.constraints import LIMIT_KEYS, PLANNED_KEYS, smallest, static_costs
from space.errors import InvalidInputError, nearest
from space.mixers import MIXERS
from space.norms import NORMS
from space.quantization import NumberFormat, number_format
from space.reference_family import Reference, reference_family
from space.search_space import SearchSpace, load_preset

from . import given
from .given import OWN, own_references, stored_references, too_short
from .job import TRAINING_FREE, JobMode, JobSpec
from .objectives import OBJECTIVES, PROXY_SCORE, QUALITY
from .own_teacher import OwnTeacher, read_teacher, stored_teacher
from .records import OWN_TEACHER

LEAST_STEPS = 4
MOST_STEPS = {"training": 1_000_000, "finalists": 10_000_000}
"""What `steps` of the job file may be."""

AUTO_PROXIES = ("w_pca", "zico", "synaptic_diversity")
CLOSED_FORM_PROXIES = ("params_decoder", "depth")
"""Of a job without training: on public tables nothing that costs more ranks architectures better."""


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
    teacher: OwnTeacher | None = None
    dataset_path: str | None = None
    """Where the file of an uploaded or offered data set is, as the job keeps it: below the data folder, so
    that every machine finds it, or absolute."""

    @property
    def quality(self) -> str:
        return self.objectives[0]

    @property
    def static_limits(self) -> dict[str, float]:
        return {key: limit for key, limit in self.limits.items() if key in LIMIT_KEYS}

    @property
    def measured_limits(self) -> dict[str, float]:
        return {key: limit for key, limit in self.limits.items() if key not in LIMIT_KEYS}


def plan_job(
    spec: JobSpec,
    *,
    enqueued: Sequence[Mapping[str, Any]] | None = None,
    own: Sequence[Mapping[str, Any]] | None = None,
    teacher: Mapping[str, Any] | None = None,
    dataset: Path | None = None,
    data: TaskData | None = None,
    cache: Path | None = None,
) -> JobPlan:
    """Resolves a job. `enqueued`, `own`, `teacher`: architectures, references and the teacher already read (a
    stored job); else the files of the spec are read. `dataset`: the file behind the data set's name, where
    that is neither a path nor built in; `data`: the task's data, if they are prepared already; `cache`: a
    folder that keeps those that take long to prepare.

    Raises:
        InvalidInputError: unknown data set or preset, impossible constraint, objective or length the task
        does not have.
    """
    if data is None:
        name = str(dataset or spec.task.dataset)
        data = prepare_task(spec.task.kind, name, spec.task.length, cache=cache)
    spec = with_steps(spec, data)
    objectives = tuple(_task_key("objectives", key, data, spec.mode) for key in spec.objectives)
    limits = {
        _task_key("constraints", key, data, spec.mode): limit for key, limit in spec.constraints.items()
    }
    target = _target(spec, data)
    space, warnings = _space(spec, data)
    _check_limits(space, limits, target)
    batch_size = spec.training.batch_size or data.batch_size
    family = tuple(reference_family(space, spec.references.sizes))
    return JobPlan(
        spec=spec,
        data=data,
        space=space,
        target=target,
        objectives=objectives,
        limits=limits,
        proxies=_proxies(spec),
        references=(
            *family,
            *(own_references(spec, data, family) if own is None else stored_references(own)),
        ),
        enqueued=given.enqueued(spec, data)
        if enqueued is None
        else tuple(parse_architecture(item) for item in enqueued),
        training=TrainingPlan(steps=spec.training.steps, batch_size=batch_size),
        finalist_training=TrainingPlan(steps=spec.finalists.steps, batch_size=batch_size),
        warnings=tuple(warnings),
        teacher=stored_teacher(teacher) if teacher else read_teacher(spec, data),
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


def _task_key(where: str, name: str, data: TaskData, mode: JobMode) -> str:
    """The objective key of the task that a name of the job file means."""
    if name in PLANNED_KEYS:
        return name
    is_quality = name == QUALITY or OBJECTIVES[name].source == "quality"
    if mode == TRAINING_FREE and is_quality:
        if name not in (QUALITY, PROXY_SCORE):
            raise InvalidInputError(
                f"{where}: '{name}' is trained and evaluated, and mode training_free trains nothing; "
                f"write '{QUALITY}', or leave mode out"
            )
        return PROXY_SCORE
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
    short = [too_short(kind, steps) for kind in gone]
    if gone and not left:
        raise InvalidInputError(
            f"gene 'norm' has {'; '.join(short)}; raise training.steps or add rmsnorm to space.set.norm"
        )
    warnings = [f"gene 'norm' has {text}: left out of the space" for text in short]
    return (space.with_domains({"norm": left}) if gone else space), warnings


def _check_limits(space: SearchSpace, limits: Mapping[str, float], target: Target) -> None:
    for key, limit in ((key, limit) for key, limit in limits.items() if key in LIMIT_KEYS):
        floor = smallest(space, key, target.batch_size, target.length)
        if floor > limit:
            raise InvalidInputError(
                f"constraints.{key}={limit:g} is below the smallest architecture of the space, {floor:,.0f}; "
                f"raise the limit or widen the space (space.set.d_model, space.set.num_layers)"
            )


def _proxies(spec: JobSpec) -> tuple[str, ...]:
    if spec.proxies == "auto":
        return CLOSED_FORM_PROXIES if spec.mode == TRAINING_FREE else AUTO_PROXIES
    for name in spec.proxies:
        if name not in proxy_names():
            raise InvalidInputError(f"proxies: unknown proxy '{name}'; {nearest(name, proxy_names())}")
    return tuple(spec.proxies)


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
        "own_references": [
            {"name": one.name, "architecture": json.loads(one.architecture.canonical_json)}
            for one in plan.references
            if one.family == OWN
        ],
        OWN_TEACHER: plan.teacher.facts() if plan.teacher else None,
        "rung_steps": list(plan.spec.training.rung_steps()),
        "finalist_steps": plan.spec.finalists.steps,
    }
