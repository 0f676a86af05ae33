"""A user's own teacher: the trained model of a folder that `paretoformer export` wrote.

It is read and tried once, when the job is planned, and kept as a checkpoint beside those of the job's own
trainings, `training/teachers/<digest>/1`, so that every worker finds it whatever becomes of the folder. The
digest is of its weights and its architecture: jobs with the same teacher share it, and their numbers.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.training import TaskData
from evaluators.training.checkpoints import Checkpoint, load_checkpoint, model_tensors, save_checkpoint
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidArchitectureError, InvalidInputError
from space.export import WEIGHTS, load_folder

from .given import ARCHITECTURE, check_question
from .job import TEACHERS, JobSpec
from .workers.store import Store

FOLDER = "teachers"
"""Below the training folder."""
_STEP = 1
"""What a checkpoint is named by; how long somebody else's model was trained is not known."""


@dataclass(frozen=True, slots=True)
class OwnTeacher:
    """A teacher as a job keeps it. `folder`: where it was read, None once it is kept."""

    name: str
    digest: str
    architecture: Architecture
    folder: Path | None = None

    @property
    def checkpoint(self) -> str:
        return f"{FOLDER}/{self.digest}/{_STEP}"

    def facts(self) -> dict[str, Any]:
        """As JSON, for the context of a job."""
        return {
            "name": self.name,
            "digest": self.digest,
            "checkpoint": self.checkpoint,
            "architecture": self.architecture.model_dump(mode="json"),
        }


def read_teacher(spec: JobSpec, data: TaskData) -> OwnTeacher | None:
    """The teacher that the job file names by its folder; None where it names none.

    Raises:
        InvalidInputError: the folder has no model that can be trusted to be whole, or one of another task.
    """
    named = spec.finalists.teacher
    if named in TEACHERS:
        return None
    which, folder = f"finalists.teacher: '{named}'", Path(named)
    if folder.suffix == ".pt2":
        raise InvalidInputError(
            f"{which}: reading a torch.export program runs the pickles in it; give the folder that "
            f"`paretoformer export --format torch` wrote, with {WEIGHTS}"
        )
    try:
        is_whole = (folder / ARCHITECTURE).is_file() and (folder / WEIGHTS).is_file()
    except OSError:  # a name that is too long, a folder that may not be looked into
        is_whole = False
    if not is_whole:
        raise InvalidInputError(
            f"{which} is no folder with {ARCHITECTURE} and {WEIGHTS}; give one that `paretoformer export "
            f"--format torch` wrote, or one of: {', '.join(TEACHERS)}"
        )
    try:
        _, architecture = load_folder(folder)
    except InvalidArchitectureError as error:
        raise InvalidInputError(f"{which}: {error.message}") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"finalists.teacher: {error.message}") from error
    check_question(which, architecture, data)
    plain = architecture.with_number_format("fp32")
    return OwnTeacher(folder.resolve().name, _digest(folder, plain), plain, folder)


def stored_teacher(facts: Mapping[str, Any]) -> OwnTeacher:
    """The reverse of `facts`."""
    return OwnTeacher(str(facts["name"]), str(facts["digest"]), parse_architecture(facts["architecture"]))


def keep_teacher(teacher: OwnTeacher, store: Store) -> None:
    """Copies the weights to where the workers look, unless they are there. Either way they count as new:
    retention leaves them to the job that is being created.

    Raises:
        InvalidInputError: the folder has gone, or changed, since the job was planned; or a stored job's
        teacher has been removed.
        OSError: the disk is full or not writable.
    """
    name = f"training/{teacher.checkpoint}"
    place = store.folder / "training" / FOLDER / teacher.digest
    if store.has(name) and load_checkpoint(store.fetch(name)) is not None:
        os.utime(place)
        store.publish(name)  # retention of another machine may have taken what was there
        return
    if teacher.folder is None:
        raise InvalidInputError(lost_teacher(teacher))
    model, architecture = load_folder(teacher.folder)
    if _digest(teacher.folder, architecture.with_number_format("fp32")) != teacher.digest:
        raise InvalidInputError(
            f"teacher '{teacher.folder}' has changed since it was read; submit the job again"
        )
    save_checkpoint(place, Checkpoint(_STEP, model_tensors(model), {}, {}), keep=True)
    store.publish(name)


def is_kept(teacher: OwnTeacher, store: Store) -> bool:
    """Whether the weights are where the workers look."""
    return store.has(f"training/{teacher.checkpoint}")


def lost_teacher(teacher: OwnTeacher) -> str:
    """What to say of one that is not kept."""
    return (
        f"the weights of teacher '{teacher.name}' are no longer kept; give its folder anew with "
        "`paretoformer search --continue JOB --set finalists.teacher=FOLDER`"
    )


def _digest(folder: Path, architecture: Architecture) -> str:
    with (folder / WEIGHTS).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(f"{architecture.id}/{weights}".encode()).hexdigest()
