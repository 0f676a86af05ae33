"""Tasks by name: the built-in ones and those of installed packages.

A package adds a task by one class and one line of its metadata; its name is then `<package>:<entry point>`:

    [project.entry-points."paretoformer.tasks"]
    parity = "my_package.parity:Parity"
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from space.errors import InvalidInputError

from ..data import TaskData, TaskKind
from ..task import Recipe, Task, owned
from .digits import Digits
from .listops import ListOps, ListOpsMini
from .mnist1d import Mnist1d
from .mnist5k import Mnist5k
from .mqar import Mqar
from .python_packages import PythonPackages
from .python_stdlib import PythonStdlib

GROUP = "paretoformer.tasks"

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "python-stdlib": PythonStdlib(),
        "digits": Digits(),
        "mnist5k": Mnist5k(),
        "mnist1d": Mnist1d(),
        "mqar": Mqar(),
        "listops-mini": ListOpsMini(),
        "listops": ListOps(),
        "python-packages": PythonPackages(),
    }
)
"""The built-in ones; none reads a file of the user's or the network."""

BUILT_IN: Mapping[str, TaskKind] = MappingProxyType({name: task.kind for name, task in TASKS.items()})


def tasks() -> Mapping[str, Task]:
    """Every task by name.

    Raises:
        InvalidInputError: an installed package names something that is no task.
    """
    return {**TASKS, **own_tasks()}


@cache
def own_tasks() -> Mapping[str, Task]:
    """Those of installed packages, `<package>:<entry point>` -> task.

    Raises:
        InvalidInputError: an entry point does not load, is no task, or lacks one of its facts.
    """
    found = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.module.partition(".")[0] if point.dist is None else point.dist.name
        found[f"{package}:{point.name}"] = _task(point, package)
    return MappingProxyType(found)


def _task(point: EntryPoint, package: str) -> Task:
    where = f"entry point '{point.name}' of {GROUP}, {point.value} of package {package},"
    try:
        task = point.load()
    except Exception as error:  # whatever a foreign module does wrong at import is one clear error
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InvalidInputError(
            f"{where} cannot be loaded: {told}; repair or uninstall that package"
        ) from error
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise InvalidInputError(f"{where} is {task!r}; it must be a subclass of evaluators.training.Task")
    missing = sorted(
        {name for name in ("kind", "summary", "source") if not hasattr(task, name)} | task.__abstractmethods__
    )
    if missing:
        raise InvalidInputError(
            f"{where} does not say {', '.join(missing)}; write each in the class, as examples/own_task does"
        )
    return task()


def prepared_task(name: str, task: Task, length: int | None) -> TaskData:
    """A task's data; those of a package remember whose they are."""
    data = task.prepared(length)
    if name in TASKS:
        return data
    if data.kind != task.kind:
        raise InvalidInputError(
            f"task '{name}' prepared data of kind '{data.kind}', its class says '{task.kind}'; "
            "make them equal"
        )
    return owned(data, name, task)


def recipe_of(data: TaskData) -> Recipe:
    """How models learn from these data.

    Raises:
        InvalidInputError: the package that brought them is not installed here, or in another version.
    """
    if not data.recipe:
        return Recipe()
    task = own_tasks().get(data.recipe)
    if task is None or task.version != data.recipe_version:
        there = "not installed here" if task is None else f"here in version {task.version}"
        raise InvalidInputError(
            f"task '{data.recipe}' version {data.recipe_version} is {there}; install the package it was "
            "prepared with on every machine that trains"
        )
    return task
