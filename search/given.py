"""Architectures that a person gives to a job: tried first (`enqueue`), or references of one's own.

Each is a JSON file, a folder that `export` wrote, or the architecture itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.training import TaskData
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidArchitectureError, InvalidInputError
from space.norms import NORMS
from space.quantization import number_format
from space.reference_family import Reference

from .job import TEACHERS, JobSpec

ARCHITECTURE = "architecture.json"
"""In an exported folder."""
OWN = "own"
"""Family of a user's references."""

Given = str | Mapping[str, Any]


def enqueued(spec: JobSpec, data: TaskData) -> tuple[Architecture, ...]:
    """
    Raises:
        InvalidInputError: a file cannot be read, or its architecture does not fit the task or the target.
    """
    return tuple(_read("enqueue", one, spec, data) for one in spec.enqueue)


def own_references(spec: JobSpec, data: TaskData, family: Sequence[Reference]) -> tuple[Reference, ...]:
    """A user's own models as references, without those that the family has already.

    Raises:
        InvalidInputError: as `enqueued`.
    """
    known = {one.architecture.id for one in family}
    found = []
    for index, one in enumerate(spec.references.own, start=1):
        architecture = _read("references.own", one, spec, data)
        name = f"own {_stem(one) or index}"
        if architecture.id not in known:
            found.append(Reference(name, OWN, architecture.layers[0].number_format, architecture))
            known.add(architecture.id)
    return tuple(found)


def stored_references(rows: Sequence[Mapping[str, Any]]) -> tuple[Reference, ...]:
    """Own references as a job keeps them: `name` and `architecture` of each."""
    found = ((str(row["name"]), parse_architecture(row["architecture"])) for row in rows)
    return tuple(Reference(name, OWN, one.layers[0].number_format, one) for name, one in found)


def names_files(spec: JobSpec) -> list[str]:
    """Paths of this machine that a job file names."""
    named = [one for one in (*spec.enqueue, *spec.references.own) if isinstance(one, str)]
    return named if spec.finalists.teacher in TEACHERS else [*named, spec.finalists.teacher]


def too_short(kind: str, steps: int) -> str:
    """A norm that so short a training says nothing of, in words."""
    return f"norm '{kind}', which needs {NORMS[kind].least_steps} training steps and not {steps}"


def _stem(given: Given) -> str:
    if not isinstance(given, str):
        return ""
    path = Path(given)
    return (path.parent if path.name == ARCHITECTURE else path).stem[:60]


def _read(where: str, given: Given, spec: JobSpec, data: TaskData) -> Architecture:
    name = given if isinstance(given, str) else "the architecture in place"
    try:
        if isinstance(given, str):
            path = Path(given)
            raw = (path / ARCHITECTURE if path.is_dir() else path).read_bytes()
            architecture = parse_architecture(raw)
        else:
            architecture = parse_architecture(given)
    except OSError as error:
        raise InvalidInputError(f"{where}: '{name}' cannot be read: {error.strerror}") from error
    except InvalidArchitectureError as error:
        raise InvalidInputError(f"{where}: '{name}': {error.message}") from error
    _check(f"{where}: '{name}'", architecture, spec, data)
    return architecture


def check_question(which: str, architecture: Architecture, data: TaskData) -> None:
    """It takes the task's inputs (images in patches of its own) and answers in its classes."""
    wanted = data.interface(getattr(architecture.interface, "patch_size", None))
    if (architecture.model, architecture.interface) != (data.model, wanted):
        raise InvalidInputError(
            f"{which} is a {architecture.model} for {architecture.interface.model_dump_json()}; "
            f"task '{data.name}' needs a {data.model} for {wanted.model_dump_json()}"
        )


def _check(which: str, architecture: Architecture, spec: JobSpec, data: TaskData) -> None:
    """It is of the task, and runs on the target."""
    check_question(which, architecture, data)
    for kind in sorted({layer.norm.kind for layer in architecture.layers}):
        if NORMS[kind].least_steps > spec.training.steps:
            raise InvalidInputError(
                f"{which} has {too_short(kind, spec.training.steps)}; raise training.steps"
            )
    for form in {layer.number_format for layer in architecture.layers}:
        if spec.target.runtime not in number_format(form).real_on:
            raise InvalidInputError(
                f"{which} has number format {form}, which does not run on {spec.target.runtime}; "
                "choose another format or target.runtime"
            )
